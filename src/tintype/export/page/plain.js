// kernel.wat in JavaScript, for browsers without SIMD in WebAssembly: slower by far, and the same.

function plainProduct(n, a, row, segments, segment, depth, weights, bias, add, out, stride, rows, columns) {
  const sums = new Float64Array(8);
  for (let panel = Math.ceil(columns / 8) - 1; panel >= 0; panel--) {
    const width = Math.min(8, columns - 8 * panel);
    const from = weights + panel * segments * depth * 8;
    for (let i = 0; i < rows; i++) {
      let c0 = 0, c1 = 0, c2 = 0, c3 = 0, c4 = 0, c5 = 0, c6 = 0, c7 = 0;
      let w = from;
      for (let s = 0; s < segments; s++) {
        const start = a + i * row + s * segment;
        for (let k = start; k < start + depth; k++, w += 8) {
          const x = n[k];
          c0 += x * n[w]; c1 += x * n[w + 1]; c2 += x * n[w + 2]; c3 += x * n[w + 3];
          c4 += x * n[w + 4]; c5 += x * n[w + 5]; c6 += x * n[w + 6]; c7 += x * n[w + 7];
        }
      }
      sums[0] = c0; sums[1] = c1; sums[2] = c2; sums[3] = c3; sums[4] = c4; sums[5] = c5; sums[6] = c6; sums[7] = c7;
      const to = i * stride + 8 * panel;
      for (let j = 0; j < width; j++) n[out + to + j] = sums[j] + n[bias + 8 * panel + j] + (add ? n[add + to + j] : 0);
    }
  }
}

const silu = (x) => x / (1 + Math.exp(-x));

function plainScaledSilu(n, x, out, pixels, channels, scale, shift) {
  for (let i = 0; i < pixels * channels; i += channels) {
    for (let c = 0; c < channels; c++) n[out + i + c] = silu(n[x + i + c] * n[scale + c] + n[shift + c]);
  }
}

function plainMoments(n, x, pixels, channels, mean, sums, squares) {
  for (let c = 0; c < channels; c++) {
    let sum = 0;
    let square = 0;
    for (let i = x + c; i < x + pixels * channels; i += channels) {
      const d = n[i] - n[mean + c];
      sum += d;
      square += d * d;
    }
    n[sums + c] = sum;
    n[squares + c] = square;
  }
}

function plainSwiglu(n, x, out, rows, columns) {
  for (let i = 0; i < rows; i++) {
    for (let c = 0; c < columns; c++) {
      n[out + i * columns + c] = silu(n[x + 2 * i * columns + c]) * n[x + (2 * i + 1) * columns + c];
    }
  }
}

function plainSoftmax(n, x, rows, columns) {
  for (let start = x; start < x + rows * columns; start += columns) {
    let highest = n[start];
    for (let i = start; i < start + columns; i++) highest = Math.max(highest, n[i]);
    let sum = 0;
    for (let i = start; i < start + columns; i++) sum += n[i] = Math.exp(n[i] - highest);
    for (let i = start; i < start + columns; i++) n[i] /= sum;
  }
}

function plainRmsNorm(n, x, out, rows, columns, shift, scale) {
  for (let i = 0; i < rows; i++) {
    let sum = 0;
    for (let k = i * columns, end = k + columns; k < end; k++) sum += n[x + k] * n[x + k];
    const inverse = 1 / Math.sqrt(sum / columns + 1e-6);
    for (let k = i * columns, j = 0; j < columns; j++, k++) n[out + k] = n[x + k] * inverse * (1 + n[scale + j]) + n[shift + j];
  }
}

function plainAddGated(n, x, y, rows, columns, gate) {
  for (let i = 0; i < rows; i++) {
    for (let k = i * columns, j = 0; j < columns; j++, k++) n[x + k] += n[gate + j] * n[y + k];
  }
}
