// The diffusion transformer of model/nets/dit.py for one picture: pictures as [height][width][channels].

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
  constructor(heap, height, width, channels) {
    Object.assign(this, { heap, height, width, channels, groups: Math.max(1, Math.floor(channels / 16)) });
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

class Block {
  constructor(heap, weights, prefix, width, heads) {
    Object.assign(this, { heap, width, heads });
    this.attention = new Attention(heap, weights, `${prefix}.attention`, width, heads);
    this.feed = new SwiGLU(heap, weights, `${prefix}.feed`, width);
    this.text = heap.layer(weights.tensor(`${prefix}.text.weight`), 2 * width);
    this.own = weights.tensor(`${prefix}.modulation`);
  }

  // Text tokens, an address [rows][width] -> keys and values, Float32Array [rows][width] each.
  captionKeys(tokens, rows) {
    const { heap, width, heads } = this;
    const mark = heap.used;
    const both = heap.alloc(rows, 2 * width);
    const keys = heap.alloc(rows, width);
    heap.linear(tokens, this.text, both, rows);
    const n = heap.numbers;
    const values = new Float32Array(rows * width);
    for (let i = 0; i < rows; i++) {
      n.copyWithin(keys + i * width, both + 2 * i * width, both + (2 * i + 1) * width);
      values.set(n.subarray(both + (2 * i + 1) * width, both + 2 * (i + 1) * width), i * width);
    }
    rmsNorm(heap, keys, keys, rows * heads, width / heads);
    const found = { keys: n.slice(keys, keys + rows * width), values };
    heap.release(mark);
    return found;
  }

  // x [rows][width] in place; shared: the modulation of all blocks, Float32Array [6 * width].
  run(x, rows, shared, text, rope) {
    const { heap, width } = this;
    const parts = [0, 1, 2, 3, 4, 5].map((part) => shared.slice(part * width, (part + 1) * width));
    parts.forEach((part, number) => part.forEach((_, k) => { part[k] += this.own[number * width + k]; }));
    const mark = heap.used;
    const normed = heap.alloc(rows, width);
    const change = heap.alloc(rows, width);
    rmsNorm(heap, x, normed, rows, width, parts[0], parts[1]);
    this.attention.run(normed, change, rows, rope, text);
    addGated(heap, x, change, rows, width, parts[2]);
    rmsNorm(heap, x, normed, rows, width, parts[3], parts[4]);
    this.feed.run(normed, change, rows);
    addGated(heap, x, change, rows, width, parts[5]);
    heap.release(mark);
  }
}

class Network {
  // config: the section `net` of config.json.
  constructor(heap, weights, config, height, width) {
    Object.assign(this, { heap, config, height, width });
    const { stem_width: stem, stem_depth: depth, stem_levels: levels, patch, heads, width: dim } = config;
    const channels = Array.from({ length: levels }, (_, level) => stem * 2 ** level);
    const numbered = (num, make) => Array.from({ length: num }, (_, number) => make(number));
    const linear = (name) => {
      const bias = weights.has(`${name}.bias`) ? weights.tensor(`${name}.bias`) : null;
      const matrix = weights.tensor(`${name}.weight`);
      return heap.layer(matrix, weights.header(`${name}.weight`).shape[0], bias);
    };
    this.stride = patch / 2 ** (levels - 1);
    this.level = [linear("net.level.0"), linear("net.level.2")];
    this.summary = linear("net.summary");
    this.modulation = linear("net.modulation");
    const blocks = (name) => channels.map((_, level) => numbered(depth, (number) => new ConvBlock(heap, weights, `net.${name}.${level}.${number}`)));
    const between = (name, order) => numbered(levels - 1, (level) => new Convolution(heap, weights, `net.${name}.${level}`, order(level)));
    this.read = new Convolution(heap, weights, "net.read");
    this.down = blocks("down");
    this.shrink = between("shrink", () => null);
    this.tokens = new Convolution(heap, weights, "net.tokens");
    this.blocks = numbered(config.depth, (number) => new Block(heap, weights, `net.blocks.${number}`, dim, heads));
    this.patches = this.patchLayer(weights, channels.at(-1));
    this.up = blocks("up");
    this.grow = between("grow", (level) => spread(2, channels[level]));
    this.write = new Convolution(heap, weights, "net.write");
    this.rows = height / patch;
    this.columns = width / patch;
    this.positions = this.grid(linear("net.position"));
    const places = Float32Array.from({ length: 2 * this.rows * this.columns }, (_, i) => (i % 2 ? (i >> 1) % this.columns : Math.floor((i >> 1) / this.columns)));
    this.rope = rotaryEmbedding(places, 2, dim / heads);
    this.levels = channels.map((size, level) => new Level(heap, height >> level, width >> level, size));
    this.input = heap.alloc((height + 2) * (width + 2), config.channels);
    this.buffers = this.levels.map((level) => ({ down: [level.buffer(), level.buffer()], up: [level.buffer(), level.buffer()] }));
    this.sequence = heap.alloc(this.rows * this.columns, dim);
    this.squares = heap.alloc(this.rows * this.columns, this.stride ** 2 * channels.at(-1));
    this.condition = heap.alloc(1, dim);
    this.output = heap.alloc(height * width, config.channels);
  }

  patchLayer(weights, channels) {
    const width = this.config.width;
    const from = weights.tensor("net.patches.weight");
    const biases = weights.tensor("net.patches.bias");
    const order = spread(this.stride, channels);
    const to = new Float32Array(from.length);
    for (let out = 0; out < biases.length; out++) to.set(from.subarray(order(out) * width, (order(out) + 1) * width), out * width);
    return this.heap.layer(to, biases.length, biases.map((_, out) => biases[order(out)]));
  }

  // Positions of the tokens, [rows * columns][width].
  grid(layer) {
    const { heap, rows, columns } = this;
    const all = new Float32Array(rows * columns * 64);
    for (let i = 0; i < rows * columns; i++) {
      all.set(sinusoids(Math.fround((Math.floor(i / columns) + 0.5) / rows), 32, 1, 50), 64 * i);
      all.set(sinusoids(Math.fround(((i % columns) + 0.5) / columns), 32, 1, 50), 64 * i + 32);
    }
    const out = heap.alloc(rows * columns, this.config.width);
    const from = heap.alloc(rows * columns, 64);
    heap.numbers.set(all, from);
    heap.linear(from, layer, out, rows * columns);
    return out;
  }

  // Text tokens, an address [rows][width] -> what `run` reads of a caption.
  caption(tokens, rows) {
    const { width } = this.config;
    const pooled = new Float32Array(width);
    for (let k = 0; k < width; k++) {
      let sum = 0;
      for (let i = 0; i < rows; i++) sum += this.heap.numbers[tokens + i * width + k];
      pooled[k] = sum / rows;
    }
    return { pooled, blocks: this.blocks.map((block) => block.captionKeys(tokens, rows)) };
  }

  // x, Float32Array [channels][height][width] already scaled, at a noise level -> the output, likewise.
  run(x, noise, caption) {
    const { heap, config, height, width, levels, buffers } = this;
    this.setCondition(noise, caption);
    for (let c = 0, i = 0; c < config.channels; c++) {
      for (let y = 0; y < height; y++) {
        const row = this.input + ((y + 1) * (width + 2) + 1) * config.channels + c;
        for (let k = 0; k < width; k++, i++) heap.numbers[row + k * config.channels] = x[i];
      }
    }
    const skips = [];
    levels.forEach((level, index) => {
      const [first] = buffers[index].down;
      if (index === 0) this.read.run(this.input, width + 2, 1, first, height, width);
      else this.shrink[index - 1].run(skips[index - 1], levels[index - 1].width, 2, first, level.height, level.width);
      skips.push(this.convolutions(this.down[index], buffers[index].down, level));
    });
    let at = this.transform(skips.at(-1), caption);
    for (let index = levels.length - 1; index >= 0; index--) {
      const level = levels[index];
      const [first] = buffers[index].up;
      const side = index === levels.length - 1 ? this.stride : 2;
      const mark = heap.used;
      let squares = at;
      if (index < levels.length - 1) {
        squares = heap.alloc(level.pixels / 4, 4 * level.channels);
        this.grow[index].run(at, level.width / 2, 1, squares, level.height / 2, level.width / 2);
      }
      shuffled(heap, squares, first, level.height / side, level.width / side, side, level.channels, skips[index]);
      heap.release(mark);
      at = this.convolutions(this.up[index], buffers[index].up, level);
    }
    levels[0].norm(at);
    levels[0].activate(at);
    levels[0].convolve(this.write, this.output);
    return this.picture();
  }

  setCondition(noise, caption) {
    const { heap, config } = this;
    const mark = heap.used;
    const [a, b] = [heap.alloc(1, config.width), heap.alloc(1, config.width)];
    const from = heap.put(sinusoids(noise, 64, 0.5, 30));
    heap.linear(from, this.level[0], a, 1);
    const activate = (to) => { for (let k = to; k < to + config.width; k++) heap.numbers[k] = silu(heap.numbers[k]); };
    activate(a);
    heap.linear(heap.put(caption.pooled), this.summary, b, 1);
    heap.linear(a, this.level[1], this.condition, 1, b);
    activate(this.condition);
    heap.release(mark);
  }

  convolutions(blocks, [from, to], level) {
    for (const block of blocks) {
      block.run(from, to, level, this.condition);
      [from, to] = [to, from];
    }
    return from;
  }

  // The last level of the stem through the blocks -> squares of it, an address [rows][columns][stride][stride][channels].
  transform(x, caption) {
    const { heap, config, rows, columns, sequence } = this;
    const num = rows * columns;
    const last = this.levels.at(-1);
    this.tokens.run(x, last.width, this.stride, sequence, rows, columns, this.positions);
    const mark = heap.used;
    const modulation = heap.alloc(1, 6 * config.width);
    heap.linear(this.condition, this.modulation, modulation, 1);
    const shared = heap.numbers.slice(modulation, modulation + 6 * config.width);
    this.blocks.forEach((block, number) => block.run(sequence, num, shared, caption.blocks[number], this.rope));
    const normed = heap.alloc(num, config.width);
    rmsNorm(heap, sequence, normed, num, config.width);
    heap.linear(normed, this.patches, this.squares, num);
    heap.release(mark);
    return this.squares;
  }

  picture() {
    const { channels } = this.config;
    const pixels = this.height * this.width;
    const out = new Float32Array(channels * pixels);
    for (let c = 0; c < channels; c++) for (let i = 0; i < pixels; i++) out[c * pixels + i] = this.heap.numbers[this.output + i * channels + c];
    return out;
  }
}
