// The diffusion transformer of model/nets/dit.py for one picture: pictures as [height][width][channels].

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

// The layers at full size above a stem that starts smaller.
class Head {
  constructor(heap, weights, config, height, width) {
    Object.assign(this, { heap, channels: config.channels });
    this.detail = new Convolution(heap, weights, "net.detail");
    this.last = new Convolution(heap, weights, "net.last");
    this.level = new Level(heap, height, width, config.head_width, 1);
    this.input = heap.alloc((height + 2) * (width + 2), config.channels);
    this.detailed = this.level.buffer();
  }

  // What the head reads of the input itself, x as Float32Array [channels][height][width]: an address.
  details(x) {
    const { heap, channels, level: { height, width } } = this;
    for (let c = 0, i = 0; c < channels; c++) {
      for (let y = 0; y < height; y++) {
        const row = this.input + ((y + 1) * (width + 2) + 1) * channels + c;
        for (let k = 0; k < width; k++, i++) heap.numbers[row + k * channels] = x[i];
      }
    }
    this.detail.run(this.input, width + 2, 1, this.detailed, height, width);
    return this.detailed;
  }

  run(x, out) {
    this.level.norm(x);
    this.level.activate(x);
    this.level.convolve(this.last, out);
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
    const factor = config.stem_factor; // pixels, along a side, that a position of the first level stands for
    this.stride = patch / (factor * 2 ** (levels - 1));
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
    const written = config.head_width || config.channels;
    this.write = new Convolution(heap, weights, "net.write", spread(factor, written));
    this.rows = height / patch;
    this.columns = width / patch;
    this.positions = this.grid(linear("net.position"));
    const places = Float32Array.from({ length: 2 * this.rows * this.columns }, (_, i) => (i % 2 ? (i >> 1) % this.columns : Math.floor((i >> 1) / this.columns)));
    this.rope = rotaryEmbedding(places, 2, dim / heads);
    this.levels = channels.map((size, level) => new Level(heap, height / factor >> level, width / factor >> level, size));
    this.input = heap.alloc((height / factor + 2) * (width / factor + 2), config.channels * factor ** 2);
    this.buffers = this.levels.map((level) => ({ down: [level.buffer(), level.buffer()], up: [level.buffer(), level.buffer()] }));
    this.sequence = heap.alloc(this.rows * this.columns, dim);
    this.squares = heap.alloc(this.rows * this.columns, this.stride ** 2 * channels.at(-1));
    this.condition = heap.alloc(1, dim);
    this.output = heap.alloc(height * width, config.channels);
    this.written = heap.alloc(height * width, written);
    this.head = config.head_width ? new Head(heap, weights, config, height, width) : null;
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
    const { heap, levels, buffers } = this;
    this.setCondition(noise, caption);
    this.setInput(x);
    const skips = [];
    levels.forEach((level, index) => {
      const [first] = buffers[index].down;
      if (index === 0) this.read.run(this.input, level.width + 2, 1, first, level.height, level.width);
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
    this.finish(x);
    return this.picture();
  }

  // x, with squares of pixels as channels, into the padded picture that the stem reads.
  setInput(x) {
    const { heap, config, height, width } = this;
    const factor = config.stem_factor;
    const line = width / factor + 2;
    const channels = config.channels * factor ** 2;
    for (let c = 0, i = 0; c < config.channels; c++) {
      for (let y = 0; y < height; y++) {
        const row = (Math.floor(y / factor) + 1) * line + 1;
        const channel = (c * factor + (y % factor)) * factor;
        for (let k = 0; k < width; k++, i++) {
          heap.numbers[this.input + (row + Math.floor(k / factor)) * channels + channel + (k % factor)] = x[i];
        }
      }
    }
  }

  // From the activated first level to the output.
  finish(x) {
    const { heap, config, height, width, levels, head } = this;
    const factor = config.stem_factor;
    if (factor === 1 && head === null) {
      levels[0].convolve(this.write, this.output);
      return;
    }
    const channels = config.head_width || config.channels;
    const mark = heap.used;
    const squares = heap.alloc(levels[0].pixels, channels * factor ** 2);
    levels[0].convolve(this.write, squares);
    const to = head === null ? this.output : this.written;
    const add = head === null ? heap.alloc(height * width, channels) : head.details(x);
    shuffled(heap, squares, to, height / factor, width / factor, factor, channels, add);
    heap.release(mark);
    if (head !== null) head.run(this.written, this.output);
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
