// The text of a network: captions -> text embeddings -> text tokens, as in model/nets/text.py.

const halves = new Float32Array(1);
const bits = new Uint32Array(halves.buffer);

// The nearest float16 number: text embeddings have this precision wherever they are made.
function toHalf(value) {
  halves[0] = Math.abs(value);
  if (halves[0] >= 65520) return Math.sign(value) * Infinity;
  const exponent = Math.max((bits[0] >>> 23) - 127, -14);
  const unit = 2 ** (exponent - 10);
  const steps = halves[0] / unit;
  const floor = Math.floor(steps);
  const up = steps - floor > 0.5 || (steps - floor === 0.5 && floor % 2 === 1);
  return Math.sign(value) * (floor + (up ? 1 : 0)) * unit;
}

// The trained text layers: embeddings -> tokens, the null token first.
class TextRefiner {
  constructor(heap, weights, net, text) {
    Object.assign(this, { heap, width: net.width, start: weights.tensor("text.start") });
    this.isLearned = text.encoder === "learned";
    if (this.isLearned) this.table = weights.tensor("text.embed.weight");
    else this.embed = heap.layer(weights.tensor("text.embed.weight"), net.width, weights.tensor("text.embed.bias"));
    this.head = net.width / net.heads;
    this.blocks = Array.from({ length: net.text_depth }, (_, number) => ({
      attention: new Attention(heap, weights, `text.blocks.${number}.attention`, net.width, net.heads),
      feed: new SwiGLU(heap, weights, `text.blocks.${number}.feed`, net.width),
    }));
  }

  // Token ids, or embeddings as a Float32Array [rows][dim] -> the address of tokens [1 + rows][width], and their number.
  run(embeddings) {
    const { heap, width } = this;
    const num = this.isLearned ? embeddings.length : embeddings.length / this.embed.depth;
    const rows = 1 + num;
    const tokens = heap.alloc(rows, width);
    const normed = heap.alloc(rows, width);
    const change = heap.alloc(rows, width);
    if (num > 0 && this.isLearned) {
      embeddings.forEach((id, i) => heap.numbers.set(this.table.subarray(id * width, (id + 1) * width), change + i * width));
    } else if (num > 0) heap.linear(heap.put(embeddings), this.embed, change, num);
    if (num > 0) heap.rmsNorm(change, tokens + width, num, width);
    heap.numbers.set(this.start, tokens);
    const places = rotaryEmbedding(Float32Array.from({ length: rows }, (_, i) => i), 1, this.head);
    const rope = { cosines: heap.put(places.cosines), sines: heap.put(places.sines) };
    const ones = heap.put(new Float32Array(width).fill(1));
    for (const { attention, feed } of this.blocks) {
      heap.rmsNorm(tokens, normed, rows, width);
      attention.run(normed, change, rows, rope);
      heap.addGated(tokens, change, rows, width, ones);
      heap.rmsNorm(tokens, normed, rows, width);
      feed.run(normed, change, rows);
      heap.addGated(tokens, change, rows, width, ones);
    }
    heap.rmsNorm(tokens, tokens, rows, width);
    return { tokens, rows };
  }
}

// The error function to 1.2e-7 (Numerical Recipes, erfcc).
function erf(x) {
  const z = Math.abs(x);
  const t = 1 / (1 + 0.5 * z);
  const series = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  const rest = t * Math.exp(-z * z + series);
  return x >= 0 ? 1 - rest : rest - 1;
}

// all-MiniLM-L6-v2: token ids -> embeddings. A BERT: post-norm blocks, learned positions, GELU.
class MiniLM {
  constructor(heap, weights, config) {
    Object.assign(this, { heap, weights, width: config.hidden_size, heads: config.num_attention_heads });
    const linear = (name) => heap.layer(weights.tensor(`encoder.${name}.weight`), weights.header(`encoder.${name}.weight`).shape[0], weights.tensor(`encoder.${name}.bias`));
    const norm = (name) => ({ weight: weights.tensor(`encoder.${name}.weight`), bias: weights.tensor(`encoder.${name}.bias`) });
    this.words = weights.rows("encoder.embeddings.word_embeddings.weight");
    this.places = weights.tensor("encoder.embeddings.position_embeddings.weight");
    this.norm = norm("embeddings.LayerNorm");
    this.blocks = Array.from({ length: config.num_hidden_layers }, (_, number) => {
      const layer = `encoder.layer.${number}`;
      const parts = { query: `${layer}.attention.self.query`, key: `${layer}.attention.self.key`, value: `${layer}.attention.self.value`, mix: `${layer}.attention.output.dense`, widen: `${layer}.intermediate.dense`, narrow: `${layer}.output.dense` };
      const layers = Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, linear(part)]));
      return { ...layers, after: norm(`${layer}.attention.output.LayerNorm`), last: norm(`${layer}.output.LayerNorm`) };
    });
  }

  // Token ids -> embeddings, Float32Array [ids][width], of float16 precision.
  run(ids) {
    const { heap, width } = this;
    const mark = heap.used;
    const rows = ids.length;
    const x = heap.alloc(rows, width);
    const change = heap.alloc(rows, width);
    ids.forEach((id, i) => this.words(id).forEach((word, k) => { heap.numbers[x + i * width + k] = word + this.places[i * width + k]; }));
    this.layerNorm(x, rows, this.norm);
    for (const block of this.blocks) {
      this.attend(block, x, change, rows);
      this.addAndNorm(x, change, rows, block.after);
      const inside = heap.used;
      const wide = heap.alloc(rows, block.widen.columns);
      heap.linear(x, block.widen, wide, rows);
      for (let k = wide, end = wide + rows * block.widen.columns; k < end; k++) {
        heap.numbers[k] *= 0.5 * (1 + erf(heap.numbers[k] * Math.SQRT1_2));
      }
      heap.linear(wide, block.narrow, change, rows);
      heap.release(inside);
      this.addAndNorm(x, change, rows, block.last);
    }
    const out = Float32Array.from(heap.numbers.subarray(x, x + rows * width), toHalf);
    heap.release(mark);
    return out;
  }

  addAndNorm(x, change, rows, norm) {
    for (let k = 0; k < rows * this.width; k++) this.heap.numbers[x + k] += this.heap.numbers[change + k];
    this.layerNorm(x, rows, norm);
  }

  layerNorm(x, rows, { weight, bias }) {
    const n = this.heap.numbers;
    for (let start = x; start < x + rows * this.width; start += this.width) {
      const row = n.subarray(start, start + this.width);
      const mean = row.reduce((sum, value) => sum + value, 0) / this.width;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / this.width;
      row.forEach((value, k) => { row[k] = ((value - mean) / Math.sqrt(variance + 1e-12)) * weight[k] + bias[k]; });
    }
  }

  // Captions have a few tokens: attention itself is a small part, and written out.
  attend(block, x, out, rows) {
    const { heap, width, heads } = this;
    const mark = heap.used;
    const [query, key, value, mixed] = Array.from({ length: 4 }, () => heap.alloc(rows, width));
    heap.linear(x, block.query, query, rows);
    heap.linear(x, block.key, key, rows);
    heap.linear(x, block.value, value, rows);
    const n = heap.numbers;
    const head = width / heads;
    const scores = new Float64Array(rows);
    for (let h = 0; h < width; h += head) {
      for (let i = 0; i < rows; i++) {
        const q = query + i * width + h;
        for (let j = 0; j < rows; j++) {
          let sum = 0;
          for (let k = 0, other = key + j * width + h; k < head; k++) sum += n[q + k] * n[other + k];
          scores[j] = sum / Math.sqrt(head);
        }
        const highest = Math.max(...scores);
        let total = 0;
        for (let j = 0; j < rows; j++) total += scores[j] = Math.exp(scores[j] - highest);
        for (let k = 0; k < head; k++) {
          let sum = 0;
          for (let j = 0; j < rows; j++) sum += scores[j] * n[value + j * width + h + k];
          n[mixed + i * width + h + k] = sum / total;
        }
      }
    }
    heap.linear(mixed, block.mix, out, rows);
    heap.release(mark);
  }
}
