// Building blocks of the network, as in model/nets/layers.py; x is an address in a heap, [rows][columns] there.

// Root-mean-square norm of each row, times 1 + scale and plus shift where these are given: out = x / rms(x) ...
function rmsNorm(heap, x, out, rows, columns, shift = null, scale = null) {
  const n = heap.numbers;
  for (let i = 0; i < rows; i++) {
    let sum = 0;
    for (let k = i * columns, end = k + columns; k < end; k++) sum += n[x + k] * n[x + k];
    const inverse = 1 / Math.sqrt(sum / columns + 1e-6);
    if (scale === null) for (let k = i * columns, end = k + columns; k < end; k++) n[out + k] = n[x + k] * inverse;
    else for (let k = i * columns, j = 0; j < columns; j++, k++) n[out + k] = n[x + k] * inverse * (1 + scale[j]) + shift[j];
  }
}

// x += gate * y, row by row.
function addGated(heap, x, y, rows, columns, gate) {
  const n = heap.numbers;
  for (let i = 0; i < rows; i++) {
    for (let k = i * columns, j = 0; j < columns; j++, k++) n[x + k] += gate[j] * n[y + k];
  }
}

// Rotary embedding of positions [rows][axes]: cosines and sines [rows][width / 2].
function rotaryEmbedding(positions, axes, width) {
  const num = width / 2 / axes;
  const rows = positions.length / axes;
  const cosines = new Float32Array(rows * axes * num);
  const sines = new Float32Array(rows * axes * num);
  for (let i = 0; i < rows * axes; i++) {
    for (let k = 0; k < num; k++) {
      const angle = Math.fround(positions[i] * Math.fround(100 ** -Math.fround(k / num)));
      cosines[i * num + k] = Math.cos(angle);
      sines[i * num + k] = Math.sin(angle);
    }
  }
  return { cosines, sines };
}

// Sines and cosines [num] of a value at num / 2 geometrically spaced frequencies.
function sinusoids(value, num, lowest, highest) {
  const out = new Float32Array(num);
  const half = num / 2;
  for (let k = 0; k < half; k++) {
    const place = half > 1 ? k / (half - 1) : 0;
    const angle = Math.fround(value * Math.fround(lowest * (highest / lowest) ** place));
    out[k] = Math.sin(angle);
    out[half + k] = Math.cos(angle);
  }
  return out;
}

// Attention with normalized queries and keys; text keys and values, if any, stand before those of x.
class Attention {
  constructor(heap, weights, prefix, width, heads) {
    Object.assign(this, { heap, width, heads, head: width / heads, scale: weights.tensor(`${prefix}.scale`) });
    this.qkv = heap.layer(weights.tensor(`${prefix}.qkv.weight`), 3 * width);
    this.out = heap.layer(weights.tensor(`${prefix}.out.weight`), width);
  }

  // x [rows][width] -> out [rows][width]; text: { keys, values } Float32Array [num][width], or null.
  run(x, out, rows, rope, text = null) {
    const { heap, width, heads, head } = this;
    const mark = heap.used;
    const num = rows + (text === null ? 0 : text.keys.length / width);
    const padded = 8 * Math.ceil(num / 8);
    const qkv = heap.alloc(rows, 3 * width);
    const scores = heap.alloc(rows, padded);
    const mixed = heap.alloc(rows, width);
    const part = heap.alloc(rows, 8 * Math.ceil(head / 8));
    const keys = { columns: num, depth: head, weights: heap.alloc(padded, head), bias: heap.bias(null, padded) };
    const values = { columns: head, depth: num, weights: heap.alloc(8 * Math.ceil(head / 8), num), bias: keys.bias };
    heap.linear(x, this.qkv, qkv, rows);
    this.normalize(qkv, rows, rope);
    for (let h = 0; h < heads; h++) {
      this.pack(qkv, h, rows, text, keys.weights, values.weights);
      heap.product(qkv + h * head, 3 * width, 1, 0, head, keys, 0, scores, padded, rows);
      for (let i = 0; i < rows; i++) heap.numbers.fill(-1e30, scores + i * padded + num, scores + (i + 1) * padded);
      heap.softmax(scores, rows, padded);
      const stride = 8 * Math.ceil(head / 8);
      heap.product(scores, padded, 1, 0, num, values, 0, part, stride, rows);
      for (let i = 0; i < rows; i++) heap.numbers.copyWithin(mixed + i * width + h * head, part + i * stride, part + i * stride + head);
    }
    heap.linear(mixed, this.out, out, rows);
    heap.release(mark);
  }

  // Norm and rotate each head of queries and keys, in place; queries take the learned scale and that of attention.
  normalize(qkv, rows, rope) {
    const { width, heads, head } = this;
    const n = this.heap.numbers;
    const half = head / 2;
    for (let i = 0; i < rows; i++) {
      for (let h = 0; h < 2 * heads; h++) {
        const at = qkv + i * 3 * width + h * head;
        let sum = 0;
        for (let k = at; k < at + head; k++) sum += n[k] * n[k];
        const factor = (h < heads ? this.scale[h] / Math.sqrt(head) : 1) / Math.sqrt(sum / head + 1e-6);
        for (let k = 0; k < half; k++) {
          const [cosine, sine] = [rope.cosines[i * half + k], rope.sines[i * half + k]];
          const [a, b] = [n[at + 2 * k] * factor, n[at + 2 * k + 1] * factor];
          n[at + 2 * k] = a * cosine - b * sine;
          n[at + 2 * k + 1] = a * sine + b * cosine;
        }
      }
    }
  }

  // Keys and values of one head as layers: keys in panels of eight keys, values in panels of eight numbers.
  pack(qkv, h, rows, text, keys, values) {
    const { width, heads, head } = this;
    const n = this.heap.numbers;
    const numText = text === null ? 0 : text.keys.length / width;
    const num = numText + rows;
    const put = (j, fromKeys, key, fromValues, value) => {
      const to = keys + (j >> 3) * 8 * head + (j & 7);
      for (let k = 0; k < head; k++) {
        n[to + 8 * k] = fromKeys[key + k];
        n[values + ((k >> 3) * num + j) * 8 + (k & 7)] = fromValues[value + k];
      }
    };
    for (let j = 0; j < numText; j++) put(j, text.keys, j * width + h * head, text.values, j * width + h * head);
    for (let i = 0; i < rows; i++) {
      const row = qkv + i * 3 * width + h * head;
      put(numText + i, n, row + heads * head, n, row + 2 * heads * head);
    }
  }
}

// Gated feed-forward layer, x [rows][width] -> out [rows][width].
class SwiGLU {
  constructor(heap, weights, prefix, width) {
    this.heap = heap;
    const gate = weights.tensor(`${prefix}.gate.weight`);
    const both = new Float32Array(2 * gate.length);
    both.set(gate);
    both.set(weights.tensor(`${prefix}.value.weight`), gate.length);
    this.hidden = gate.length / width;
    this.in = heap.layer(both, 2 * this.hidden);
    this.out = heap.layer(weights.tensor(`${prefix}.out.weight`), width);
  }

  run(x, out, rows) {
    const mark = this.heap.used;
    const both = this.heap.alloc(rows, 2 * this.hidden);
    const hidden = this.heap.alloc(rows, this.hidden);
    this.heap.linear(x, this.in, both, rows);
    this.heap.swiglu(both, hidden, rows, this.hidden);
    this.heap.linear(hidden, this.out, out, rows);
    this.heap.release(mark);
  }
}
