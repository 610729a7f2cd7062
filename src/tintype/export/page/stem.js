// The convolutions of the stem, as in model/nets/dit.py: pictures as [height][width][channels].

// A convolution with its stride as its size, or of size 3 with stride 1 over a padded picture.
class Convolution {
  // weights [out][in][size][size] -> panels [ky][kx][in]; order: of the outputs, if another one.
  constructor(heap, weights, prefix, order = null) {
    const { shape } = weights.header(`${prefix}.weight`);
    const [outputs, inputs, size] = shape;
    const from = weights.tensor(`${prefix}.weight`);
    const biases = weights.tensor(`${prefix}.bias`);
    const to = new Float32Array(from.length);
    const bias = new Float32Array(outputs);
    const area = size * size;
    for (let out = 0; out < outputs; out++) {
      const row = order === null ? out : order(out);
      bias[out] = biases[row];
      for (let k = 0; k < area; k++) {
        for (let i = 0; i < inputs; i++) to[(out * area + k) * inputs + i] = from[(row * inputs + i) * area + k];
      }
    }
    Object.assign(this, { heap, inputs, size, layer: heap.layer(to, outputs, bias) });
  }

  // x with rows of `width` pixels -> out [rows][columns][outputs]; pixels that neighbors share are read again.
  run(x, width, step, out, rows, columns, add = 0) {
    const { heap, inputs, size, layer } = this;
    for (let y = 0; y < rows; y++) {
      const to = y * columns * layer.columns;
      heap.product(x + y * step * width * inputs, step * inputs, size, width * inputs, size * inputs, layer, add && add + to, out + to, layer.columns, columns);
    }
  }
}

// The pixels of a square that `shuffled` spreads: outputs (channel, y, x) come in the order (y, x, channel).
const spread = (side, channels) => (out) => (out % channels) * side * side + Math.floor(out / channels);

// out [rows * side][columns * side][channels] = squares [rows][columns][side][side][channels] + add, of the same shape.
function shuffled(heap, squares, out, rows, columns, side, channels, add) {
  const n = heap.numbers;
  const line = side * channels;
  for (let y = 0; y < rows * side; y++) {
    for (let x = 0; x < columns; x++) {
      const from = squares + ((Math.floor(y / side) * columns + x) * side + (y % side)) * line;
      const to = (y * columns + x) * line;
      for (let k = 0; k < line; k++) n[out + to + k] = n[from + k] + n[add + to + k];
    }
  }
}

// One size of the stem: pictures [height][width][channels], and a padded one that convolutions read.
class Level {
  constructor(heap, height, width, channels, groups = Math.max(1, Math.floor(channels / 16))) {
    Object.assign(this, { heap, height, width, channels, groups });
    this.pixels = height * width;
    this.padded = heap.alloc((height + 2) * (width + 2), channels);
    this.hidden = heap.alloc(this.pixels, channels);
    [this.mean, this.sums, this.squares, this.scale, this.shift] = Array.from({ length: 5 }, () => heap.alloc(1, channels));
  }

  buffer() {
    return this.heap.alloc(this.pixels, this.channels);
  }

  // Scale and shift per channel that norm the groups of x; signal: scales and shifts to apply after it.
  norm(x, signal = null) {
    const { heap, pixels, channels, groups, mean, sums, squares, scale, shift } = this;
    const n = heap.numbers;
    const size = channels / groups;
    const total = (address, group) => {
      let sum = 0;
      for (let c = group * size; c < (group + 1) * size; c++) sum += n[address + c];
      return sum / (size * pixels);
    };
    n.fill(0, mean, mean + channels);
    heap.moments(x, pixels, channels, mean, sums, squares);
    for (let group = 0; group < groups; group++) n.fill(total(sums, group), mean + group * size, mean + (group + 1) * size);
    heap.moments(x, pixels, channels, mean, sums, squares);
    for (let c = 0; c < channels; c++) {
      const factor = 1 / Math.sqrt(total(squares, Math.floor(c / size)) + 1e-5);
      const gain = signal === null ? 1 : 1 + n[signal + c];
      n[scale + c] = factor * gain;
      n[shift + c] = -n[mean + c] * factor * gain + (signal === null ? 0 : n[signal + channels + c]);
    }
  }

  // silu of x, scaled and shifted, into the padded picture, whose border stays zero.
  activate(x) {
    const { heap, height, width, channels } = this;
    for (let y = 0; y < height; y++) {
      heap.scaledSilu(x + y * width * channels, this.padded + ((y + 1) * (width + 2) + 1) * channels, width, channels, this.scale, this.shift);
    }
  }

  convolve(convolution, out, add = 0) {
    convolution.run(this.padded, this.width + 2, 1, out, this.height, this.width, add);
  }
}

class ConvBlock {
  constructor(heap, weights, prefix) {
    this.heap = heap;
    this.first = new Convolution(heap, weights, `${prefix}.first`);
    this.second = new Convolution(heap, weights, `${prefix}.second`);
    const signal = weights.tensor(`${prefix}.signal.weight`);
    const bias = weights.tensor(`${prefix}.signal.bias`);
    this.signal = heap.layer(signal, bias.length, bias);
    this.signals = heap.alloc(1, bias.length);
  }

  run(x, out, level, condition) {
    this.heap.linear(condition, this.signal, this.signals, 1);
    level.norm(x);
    level.activate(x);
    level.convolve(this.first, level.hidden);
    level.norm(level.hidden, this.signals);
    level.activate(level.hidden);
    level.convolve(this.second, out, x);
  }
}
