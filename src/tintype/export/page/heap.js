// The memory of a network: one array of float32 numbers, and the arithmetic on it, by WebAssembly or plain JavaScript.
// Addresses are indices of that array. Buffers have room for what the kernel stores beyond their end (kernel.wat).
// A network asks a heap for whole operations only: webgpu.js has another heap with the same methods.

const PAGE = 16384; // numbers in a page of WebAssembly memory
const SLACK_ROWS = 3;
const SLACK = 8;
const MAX_ZEROS = 2 ** 16; // the widest layer without a bias, and the most keys of an attention

// Weights [columns][depth] in panels of eight columns, [columns / 8][depth][8].
function panelsOf(weights, columns) {
  const depth = weights.length / columns;
  const panels = new Float32Array(8 * Math.ceil(columns / 8) * depth);
  for (let column = 0; column < columns; column++) {
    let to = (column >> 3) * 8 * depth + (column & 7);
    for (let k = column * depth, end = k + depth; k < end; k++, to += 8) panels[to] = weights[k];
  }
  return panels;
}

class Heap {
  // modules: bytes of the kernel, best first; the first that this browser accepts is used. None: plain JavaScript.
  constructor(modules) {
    const bytes = modules.find((module) => WebAssembly.validate(module));
    this.isFast = bytes !== undefined;
    this.used = SLACK; // address 0 means "nothing" to the kernel
    this.numbers = new Float32Array(PAGE);
    if (this.isFast) {
      this.memory = new WebAssembly.Memory({ initial: 1 });
      this.numbers = new Float32Array(this.memory.buffer);
      this.kernel = new WebAssembly.Instance(new WebAssembly.Module(bytes), { page: { memory: this.memory } }).exports;
    }
    this.zeros = this.alloc(1, MAX_ZEROS);
  }

  // Room for rows of numbers, all zero. Views of `numbers` taken before are no longer valid.
  alloc(rows, columns = 1) {
    const address = this.scratch(rows, columns);
    this.numbers.fill(0, address, this.used);
    return address;
  }

  // Room for rows of numbers that will all be written.
  scratch(rows, columns = 1) {
    const address = this.used;
    const size = (rows + SLACK_ROWS) * columns + SLACK;
    this.used += 4 * Math.ceil(size / 4);
    const missing = this.used - this.numbers.length;
    if (missing > 0 && this.isFast) {
      this.memory.grow(Math.ceil(missing / PAGE));
      this.numbers = new Float32Array(this.memory.buffer);
    } else if (missing > 0) {
      const larger = new Float32Array(Math.max(this.used, 2 * this.numbers.length));
      larger.set(this.numbers);
      this.numbers = larger;
    }
    return address;
  }

  // Forget what was allocated since `used` was `mark`.
  release(mark) {
    this.used = mark;
  }

  // The address of numbers that stay (store), or that serve one evaluation (put).
  store(values) {
    const address = this.alloc(1, values.length);
    this.numbers.set(values, address);
    return address;
  }

  put(values) {
    return this.store(values);
  }

  read(address, num) {
    return this.numbers.slice(address, address + num);
  }

  // Weights [columns][depth] as a layer: in panels of eight columns, with a bias [columns] or none.
  layer(weights, columns, bias = null) {
    return { columns, depth: weights.length / columns, weights: this.store(panelsOf(weights, columns)), bias: this.bias(bias, 8 * Math.ceil(columns / 8)) };
  }

  bias(values, size) {
    if (values !== null) {
      const address = this.alloc(1, size);
      this.numbers.set(values, address);
      return address;
    }
    if (size > MAX_ZEROS) throw new Error("this picture is too large for a page");
    return this.zeros;
  }

  // The same as `product` of kernel.wat, with indices for addresses.
  product(a, row, segments, segment, depth, layer, add, out, stride, rows) {
    if (this.isFast) {
      this.kernel.product(4 * a, 4 * row, segments, 4 * segment, depth, 4 * layer.weights, 4 * layer.bias, 4 * add, 4 * out, 4 * stride, rows, layer.columns);
    } else plainProduct(this.numbers, a, row, segments, segment, depth, layer.weights, layer.bias, add, out, stride, rows, layer.columns);
  }

  // out [rows][columns] = x [rows][depth] times the layer, plus `add` if that is not 0.
  linear(x, layer, out, rows, add = 0) {
    this.product(x, layer.depth, 1, 0, layer.depth, layer, add, out, layer.columns, rows);
  }

  // A convolution of `size`: x with lines of `width` pixels -> out [rows][columns][outputs], plus `add` if that is not 0.
  convolve(x, width, inputs, size, step, layer, add, out, rows, columns) {
    for (let y = 0; y < rows; y++) {
      const to = y * columns * layer.columns;
      this.product(x + y * step * width * inputs, step * inputs, size, width * inputs, size * inputs, layer, add && add + to, out + to, layer.columns, columns);
    }
  }

  // silu of x [height][width][channels], scaled and shifted, into the middle of out, which is a pixel wider all around.
  activate(x, out, height, width, channels, scale, shift) {
    for (let y = 0; y < height; y++) {
      const [from, to] = [x + y * width * channels, out + ((y + 1) * (width + 2) + 1) * channels];
      if (this.isFast && channels % 4 === 0) this.kernel.scaled_silu(4 * from, 4 * to, width, 4 * channels, 4 * scale, 4 * shift);
      else plainScaledSilu(this.numbers, from, to, width, channels, scale, shift);
    }
  }

  // Scale and shift per channel that norm the groups of x [pixels][channels]; signal: scales and shifts to apply after it.
  groupNorm(x, pixels, channels, groups, signal, scale, shift) {
    const mark = this.used;
    const [mean, sums, squares] = [this.alloc(1, channels), this.alloc(1, channels), this.alloc(1, channels)];
    const n = this.numbers;
    const size = channels / groups;
    const total = (address, group) => {
      let sum = 0;
      for (let c = group * size; c < (group + 1) * size; c++) sum += n[address + c];
      return sum / (size * pixels);
    };
    this.moments(x, pixels, channels, mean, sums, squares);
    for (let group = 0; group < groups; group++) n.fill(total(sums, group), mean + group * size, mean + (group + 1) * size);
    this.moments(x, pixels, channels, mean, sums, squares);
    for (let c = 0; c < channels; c++) {
      const factor = (1 + n[signal + c]) / Math.sqrt(total(squares, Math.floor(c / size)) + 1e-5);
      n[scale + c] = factor;
      n[shift + c] = n[signal + channels + c] - n[mean + c] * factor;
    }
    this.release(mark);
  }

  moments(x, pixels, channels, mean, sums, squares) {
    if (this.isFast && channels % 4 === 0) this.kernel.moments(4 * x, pixels, 4 * channels, 4 * mean, 4 * sums, 4 * squares);
    else plainMoments(this.numbers, x, pixels, channels, mean, sums, squares);
  }

  // Root-mean-square norm of each row, times 1 + scale and plus shift.
  rmsNorm(x, out, rows, columns, shift = this.zeros, scale = this.zeros) {
    if (this.isFast && columns % 4 === 0) this.kernel.rms_norm(4 * x, 4 * out, rows, 4 * columns, 4 * shift, 4 * scale);
    else plainRmsNorm(this.numbers, x, out, rows, columns, shift, scale);
  }

  // x += gate * y, row by row.
  addGated(x, y, rows, columns, gate) {
    if (this.isFast && columns % 4 === 0) this.kernel.add_gated(4 * x, 4 * y, rows, 4 * columns, 4 * gate);
    else plainAddGated(this.numbers, x, y, rows, columns, gate);
  }

  add(a, b, out, num) {
    for (let k = 0; k < num; k++) this.numbers[out + k] = this.numbers[a + k] + this.numbers[b + k];
  }

  silu(x, num) {
    for (let k = x; k < x + num; k++) this.numbers[k] = silu(this.numbers[k]);
  }

  swiglu(x, out, rows, columns) {
    if (this.isFast) this.kernel.swiglu(4 * x, 4 * out, rows, 4 * columns); // columns: a multiple of 32 in every network
    else plainSwiglu(this.numbers, x, out, rows, columns);
  }

  softmax(x, rows, columns) {
    if (this.isFast) this.kernel.softmax(4 * x, rows, 4 * columns); // columns: a multiple of 8
    else plainSoftmax(this.numbers, x, rows, columns);
  }

  // Norm and rotate each head of queries and keys, in place; see attention.js, also for `attend`.
  normalize(qkv, rows, heads, head, factors, rope) {
    normalizeHeads(this.numbers, qkv, rows, heads, head, factors, rope);
  }

  attend(qkv, out, rows, heads, head, text) {
    attendHeads(this, qkv, out, rows, heads, head, text);
  }

  // out [rows * side][columns * side][channels] = squares [rows][columns][side][side][channels] + add, of the same shape.
  shuffle(squares, out, rows, columns, side, channels, add) {
    const n = this.numbers;
    const line = side * channels;
    for (let y = 0; y < rows * side; y++) {
      for (let x = 0; x < columns; x++) {
        const from = squares + ((Math.floor(y / side) * columns + x) * side + (y % side)) * line;
        const to = (y * columns + x) * line;
        for (let k = 0; k < line; k++) n[out + to + k] = n[from + k] + n[add + to + k];
      }
    }
  }
}
