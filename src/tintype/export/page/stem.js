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
    this.heap.convolve(x, width, this.inputs, this.size, step, this.layer, add, out, rows, columns);
  }
}

// The pixels of a square that `shuffled` spreads: outputs (channel, y, x) come in the order (y, x, channel).
const spread = (side, channels) => (out) => (out % channels) * side * side + Math.floor(out / channels);

// A picture [channels][height][width] as [height / factor][width / factor][squares of it], with a border of zeros.
function bordered(x, channels, height, width, factor) {
  const line = width / factor + 2;
  const depth = channels * factor ** 2;
  const out = new Float32Array((height / factor + 2) * line * depth);
  for (let c = 0, i = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const row = (Math.floor(y / factor) + 1) * line + 1;
      const channel = (c * factor + (y % factor)) * factor;
      for (let k = 0; k < width; k++, i++) out[(row + Math.floor(k / factor)) * depth + channel + (k % factor)] = x[i];
    }
  }
  return out;
}

// One size of the stem: pictures [height][width][channels], and a padded one that convolutions read.
class Level {
  constructor(heap, height, width, channels, groups = Math.max(1, Math.floor(channels / 16))) {
    Object.assign(this, { heap, height, width, channels, groups });
    this.pixels = height * width;
    this.padded = heap.alloc((height + 2) * (width + 2), channels);
    this.hidden = heap.alloc(this.pixels, channels);
    [this.scale, this.shift] = [heap.alloc(1, channels), heap.alloc(1, channels)];
  }

  buffer() {
    return this.heap.alloc(this.pixels, this.channels);
  }

  // Scale and shift that norm x; signal: those to apply after it, or none.
  norm(x, signal = this.heap.zeros) {
    this.heap.groupNorm(x, this.pixels, this.channels, this.groups, signal, this.scale, this.shift);
  }

  // silu of x, scaled and shifted, into the padded picture, whose border stays zero.
  activate(x) {
    this.heap.activate(x, this.padded, this.height, this.width, this.channels, this.scale, this.shift);
  }

  // A convolution of size 1 reads the padded picture inside its border.
  convolve(convolution, out, add = 0) {
    const border = convolution.size === 1 ? (this.width + 3) * this.channels : 0;
    convolution.run(this.padded + border, this.width + 2, 1, out, this.height, this.width, add);
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
