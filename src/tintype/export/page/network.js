// The diffusion transformer of model/nets/dit.py for one picture: pictures as [height][width][channels].

class Block {
  constructor(heap, weights, prefix, width, heads) {
    Object.assign(this, { heap, width, heads });
    this.attention = new Attention(heap, weights, `${prefix}.attention`, width, heads);
    this.feed = new SwiGLU(heap, weights, `${prefix}.feed`, width);
    this.text = heap.layer(weights.tensor(`${prefix}.text.weight`), 2 * width);
    this.own = heap.store(weights.tensor(`${prefix}.modulation`));
  }

  // Text tokens, an address [rows][width] -> keys and values, Float32Array [rows][width] each.
  captionKeys(tokens, rows) {
    const { heap, width, heads } = this;
    const mark = heap.used;
    const both = heap.scratch(rows, 2 * width);
    const keys = heap.scratch(rows, width);
    heap.linear(tokens, this.text, both, rows);
    const n = heap.numbers;
    const values = new Float32Array(rows * width);
    for (let i = 0; i < rows; i++) {
      n.copyWithin(keys + i * width, both + 2 * i * width, both + (2 * i + 1) * width);
      values.set(n.subarray(both + (2 * i + 1) * width, both + 2 * (i + 1) * width), i * width);
    }
    heap.rmsNorm(keys, keys, rows * heads, width / heads);
    const found = { keys: n.slice(keys, keys + rows * width), values };
    heap.release(mark);
    return found;
  }

  // x [rows][width] in place; shared: the modulation of all blocks, [6 * width].
  run(x, rows, shared, text, rope) {
    const { heap, width } = this;
    const mark = heap.used;
    const own = heap.scratch(1, 6 * width);
    const normed = heap.scratch(rows, width);
    const change = heap.scratch(rows, width);
    const part = (number) => own + number * width;
    heap.add(shared, this.own, own, 6 * width);
    heap.rmsNorm(x, normed, rows, width, part(0), part(1));
    this.attention.run(normed, change, rows, rope, text);
    heap.addGated(x, change, rows, width, part(2));
    heap.rmsNorm(x, normed, rows, width, part(3), part(4));
    this.feed.run(normed, change, rows);
    heap.addGated(x, change, rows, width, part(5));
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
    this.detailed = this.level.buffer();
  }

  // What the head reads of the input itself, x as Float32Array [channels][height][width]: an address.
  details(x) {
    const { height, width } = this.level;
    this.detail.run(this.heap.put(bordered(x, this.channels, height, width, 1)), width + 2, 1, this.detailed, height, width);
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
    const rope = rotaryEmbedding(places, 2, dim / heads);
    this.rope = { cosines: heap.store(rope.cosines), sines: heap.store(rope.sines) };
    this.levels = channels.map((size, level) => new Level(heap, height / factor >> level, width / factor >> level, size));
    this.buffers = this.levels.map((level) => ({ down: [level.buffer(), level.buffer()], up: [level.buffer(), level.buffer()] }));
    this.sequence = heap.alloc(this.rows * this.columns, dim);
    this.squares = heap.alloc(this.rows * this.columns, this.stride ** 2 * channels.at(-1));
    this.condition = heap.alloc(1, dim);
    this.output = heap.alloc(height * width, config.channels);
    this.written = heap.alloc(height * width, written);
    this.nothing = heap.alloc(height * width, written); // what is added where there is no head
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
    const from = heap.store(all);
    const out = heap.alloc(rows * columns, this.config.width);
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
  async run(x, noise, caption) {
    const { channels } = this.config;
    this.compute(x, noise, caption);
    const output = await this.heap.read(this.output, channels * this.height * this.width);
    const picture = new Float32Array(output.length);
    const pixels = output.length / channels;
    for (let c = 0; c < channels; c++) for (let i = 0; i < pixels; i++) picture[c * pixels + i] = output[i * channels + c];
    return picture;
  }

  compute(x, noise, caption) {
    const { heap, levels, buffers, config } = this;
    const start = heap.used;
    this.setCondition(noise, caption);
    const input = heap.put(bordered(x, config.channels, this.height, this.width, config.stem_factor));
    const skips = [];
    levels.forEach((level, index) => {
      const [first] = buffers[index].down;
      if (index === 0) this.read.run(input, level.width + 2, 1, first, level.height, level.width);
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
        squares = heap.scratch(level.pixels / 4, 4 * level.channels);
        this.grow[index].run(at, level.width / 2, 1, squares, level.height / 2, level.width / 2);
      }
      heap.shuffle(squares, first, level.height / side, level.width / side, side, level.channels, skips[index]);
      heap.release(mark);
      at = this.convolutions(this.up[index], buffers[index].up, level);
    }
    levels[0].norm(at);
    levels[0].activate(at);
    this.finish(x);
    heap.release(start);
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
    const squares = heap.scratch(levels[0].pixels, channels * factor ** 2);
    levels[0].convolve(this.write, squares);
    const to = head === null ? this.output : this.written;
    const add = head === null ? this.nothing : head.details(x);
    heap.shuffle(squares, to, height / factor, width / factor, factor, channels, add);
    heap.release(mark);
    if (head !== null) head.run(this.written, this.output);
  }

  setCondition(noise, caption) {
    const { heap, config } = this;
    const mark = heap.used;
    const [a, b] = [heap.scratch(1, config.width), heap.scratch(1, config.width)];
    heap.linear(heap.put(sinusoids(noise, 64, 0.5, 30)), this.level[0], a, 1);
    heap.silu(a, config.width);
    heap.linear(heap.put(caption.pooled), this.summary, b, 1);
    heap.linear(a, this.level[1], this.condition, 1, b);
    heap.silu(this.condition, config.width);
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
    const shared = heap.scratch(1, 6 * config.width);
    heap.linear(this.condition, this.modulation, shared, 1);
    this.blocks.forEach((block, number) => block.run(sequence, num, shared, caption.blocks[number], this.rope));
    const normed = heap.scratch(num, config.width);
    heap.rmsNorm(sequence, normed, num, config.width);
    heap.linear(normed, this.patches, this.squares, num);
    heap.release(mark);
    return this.squares;
  }
}
