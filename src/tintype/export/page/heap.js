// The memory of the network: one array of float32 numbers, and the arithmetic on it, by WebAssembly or plain JavaScript.
// Addresses are indices of that array. Buffers have room for what the kernel stores beyond their end (kernel.wat).

const PAGE = 16384; // numbers in a page of WebAssembly memory
const SLACK_ROWS = 3;
const SLACK = 8;
const MAX_ZEROS = 2 ** 16; // the widest layer without a bias, and the most keys of an attention

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
    } else this.numbers.fill(0, address, this.used);
    return address;
  }

  // Forget what was allocated since `used` was `mark`.
  release(mark) {
    this.used = mark;
  }

  put(values) {
    const address = this.alloc(1, values.length);
    this.numbers.set(values, address);
    return address;
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

  scaledSilu(x, out, pixels, channels, scale, shift) {
    if (this.isFast && channels % 4 === 0) this.kernel.scaled_silu(4 * x, 4 * out, pixels, 4 * channels, 4 * scale, 4 * shift);
    else plainScaledSilu(this.numbers, x, out, pixels, channels, scale, shift);
  }

  moments(x, pixels, channels, mean, sums, squares) {
    if (this.isFast && channels % 4 === 0) this.kernel.moments(4 * x, pixels, 4 * channels, 4 * mean, 4 * sums, 4 * squares);
    else plainMoments(this.numbers, x, pixels, channels, mean, sums, squares);
  }

  swiglu(x, out, rows, columns) {
    if (this.isFast) this.kernel.swiglu(4 * x, 4 * out, rows, 4 * columns); // columns: a multiple of 32 in every network
    else plainSwiglu(this.numbers, x, out, rows, columns);
  }

  softmax(x, rows, columns) {
    if (this.isFast) this.kernel.softmax(4 * x, rows, 4 * columns); // columns: a multiple of 8
    else plainSoftmax(this.numbers, x, rows, columns);
  }

  // Weights [columns][depth] as a layer: in panels of eight columns, with a bias [columns] or none.
  layer(weights, columns, bias = null) {
    const depth = weights.length / columns;
    const panels = Math.ceil(columns / 8);
    const layer = { columns, depth, weights: this.alloc(8 * panels, depth), bias: this.bias(bias, 8 * panels) };
    const { numbers } = this;
    for (let column = 0; column < columns; column++) {
      let to = layer.weights + (column >> 3) * 8 * depth + (column & 7);
      for (let k = column * depth, end = k + depth; k < end; k++, to += 8) numbers[to] = weights[k];
    }
    return layer;
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
}
