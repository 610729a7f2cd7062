// Attention in the memory of a `Heap`: what lies between the products.

// Norm each head of queries and keys, times its factor [2 * heads], and rotate it, in place.
// rope: addresses of cosines and sines [rows][head / 2].
function normalizeHeads(n, qkv, rows, heads, head, factors, rope) {
  const half = head / 2;
  for (let i = 0; i < rows; i++) {
    const [cosines, sines] = [rope.cosines + i * half, rope.sines + i * half];
    for (let h = 0; h < 2 * heads; h++) {
      const at = qkv + (i * 3 * heads + h) * head;
      let sum = 0;
      for (let k = at; k < at + head; k++) sum += n[k] * n[k];
      const factor = n[factors + h] / Math.sqrt(sum / head + 1e-6);
      for (let k = 0; k < half; k++) {
        const cosine = n[cosines + k];
        const sine = n[sines + k];
        const a = n[at + 2 * k] * factor;
        const b = n[at + 2 * k + 1] * factor;
        n[at + 2 * k] = a * cosine - b * sine;
        n[at + 2 * k + 1] = a * sine + b * cosine;
      }
    }
  }
}

// qkv [rows][3 * width] -> out [rows][width]; text: { keys, values } Float32Array [num][width] that stand before those
// of x, or null.
function attendHeads(heap, qkv, out, rows, heads, head, text) {
  const width = heads * head;
  const mark = heap.used;
  const num = rows + (text === null ? 0 : text.keys.length / width);
  const padded = 8 * Math.ceil(num / 8);
  const stride = 8 * Math.ceil(head / 8);
  const scores = heap.scratch(rows, padded);
  const part = heap.scratch(rows, stride);
  const keys = { columns: num, depth: head, weights: heap.scratch(padded, head), bias: heap.bias(null, padded) };
  const values = { columns: head, depth: num, weights: heap.scratch(stride, num), bias: keys.bias };
  for (let h = 0; h < heads; h++) {
    packHead(heap.numbers, qkv, h, rows, heads, head, text, keys.weights, values.weights);
    heap.product(qkv + h * head, 3 * width, 1, 0, head, keys, 0, scores, padded, rows);
    if (padded > num) for (let i = 0; i < rows; i++) heap.numbers.fill(-1e30, scores + i * padded + num, scores + (i + 1) * padded);
    heap.softmax(scores, rows, padded);
    heap.product(scores, padded, 1, 0, num, values, 0, part, stride, rows);
    for (let i = 0; i < rows; i++) heap.numbers.copyWithin(out + i * width + h * head, part + i * stride, part + i * stride + head);
  }
  heap.release(mark);
}

// Keys and values of one head as layers: keys in panels of eight keys, values in panels of eight numbers.
function packHead(n, qkv, h, rows, heads, head, text, keys, values) {
  const width = heads * head;
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
    put(numText + i, n, row + width, n, row + 2 * width);
  }
}
