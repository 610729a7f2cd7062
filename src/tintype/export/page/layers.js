// Building blocks of the network, as in model/nets/layers.py; x is an address in a heap, [rows][columns] there.

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

// Attention with normalized queries and keys.
class Attention {
  constructor(heap, weights, prefix, width, heads) {
    Object.assign(this, { heap, width, heads, head: width / heads });
    // Queries take the learned scale and that of attention.
    this.factors = heap.store(Float32Array.from({ length: 2 * heads }, (_, h) => (h < heads ? weights.tensor(`${prefix}.scale`)[h] / Math.sqrt(this.head) : 1)));
    this.qkv = heap.layer(weights.tensor(`${prefix}.qkv.weight`), 3 * width);
    this.out = heap.layer(weights.tensor(`${prefix}.out.weight`), width);
  }

  // x [rows][width] -> out [rows][width]; rope: addresses of cosines and sines; text: { keys, values } or null.
  run(x, out, rows, rope, text = null) {
    const { heap, width, heads, head } = this;
    const mark = heap.used;
    const qkv = heap.scratch(rows, 3 * width);
    const mixed = heap.scratch(rows, width);
    heap.linear(x, this.qkv, qkv, rows);
    heap.normalize(qkv, rows, heads, head, this.factors, rope);
    heap.attend(qkv, mixed, rows, heads, head, text);
    heap.linear(mixed, this.out, out, rows);
    heap.release(mark);
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
    const both = this.heap.scratch(rows, 2 * this.hidden);
    const hidden = this.heap.scratch(rows, this.hidden);
    this.heap.linear(x, this.in, both, rows);
    this.heap.swiglu(both, hidden, rows, this.hidden);
    this.heap.linear(hidden, this.out, out, rows);
    this.heap.release(mark);
  }
}
