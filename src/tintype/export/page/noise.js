// Random draws as functions of (seed, purpose, index), as in diffusion/noise.py: Philox4x32-10, and exact arithmetic.

const START = 7; // purpose of a draw: the starting noise of a picture

// The product of two 32-bit numbers: its higher 32 bits; Math.imul has the lower ones.
function highProduct(a, b) {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  return (a1 * b1 + Math.floor((a0 * b1 + (middle & 0xffff)) / 65536) + Math.floor(middle / 65536)) >>> 0;
}

function philox(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    if (round) [k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0];
    const [high0, low0] = [highProduct(0xd2511f53, c0), Math.imul(0xd2511f53, c0) >>> 0];
    const [high1, low1] = [highProduct(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2) >>> 0];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
  }
  return [c0, c1, c2, c3];
}

// The low and the high 32 bits of a whole number in decimal digits.
function halvesOf(digits) {
  let [low, high] = [0, 0];
  for (const digit of digits) {
    const next = low * 10 + Number(digit);
    low = next % 2 ** 32;
    high = (high * 10 + Math.floor(next / 2 ** 32)) % 2 ** 32;
  }
  return [low, high];
}

// Standard normal numbers, Float32Array [num]; seed: decimal digits.
function normal(seed, purpose, index, num) {
  const key = halvesOf(seed);
  const out = new Float32Array(num);
  for (let block = 0; 4 * block < num; block++) {
    const [a, b, c, d] = philox([block, index, 0, purpose], key);
    [...boxMuller(a, b), ...boxMuller(c, d)].forEach((value, k) => { if (4 * block + k < num) out[4 * block + k] = value; });
  }
  return out;
}

const { fround } = Math;
const horner = (x, coefficients) => coefficients.reduce((total, c) => fround(fround(total * x) + fround(c)), 0);

function boxMuller(a, b) {
  const radius = fround(Math.sqrt(minusTwoLog(a)));
  const [cosine, sine] = cosineAndSine(b);
  return [fround(radius * cosine), fround(radius * sine)];
}

const asFloat = new Float32Array(1);
const asInteger = new Int32Array(asFloat.buffer);

function minusTwoLog(word) {
  asFloat[0] = fround(fround(word) + 0.5);
  const pattern = asInteger[0];
  const exponent = (pattern - 0x3f3504f3) >> 23;
  asInteger[0] = pattern - (exponent << 23);
  const mantissa = asFloat[0];
  const s = fround(fround(mantissa - 1) / fround(mantissa + 1));
  const series = fround(horner(fround(s * s), [2 / 9, 2 / 7, 2 / 5, 2 / 3, 2]) * s);
  return Math.max(0, fround(fround((32 - exponent) * fround(2 * Math.LN2)) - fround(2 * series)));
}

function cosineAndSine(word) {
  const quarter = word >>> 30;
  const angle = fround(fround(fround((word & 0x3fffffff) - 0x20000000) + 0.5) * fround((2 * Math.PI) / 2 ** 32));
  const square = fround(angle * angle);
  const cosine = horner(square, [1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1]);
  const sine = fround(horner(square, [1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1]) * angle);
  const sign = 1 - (quarter & 2);
  return quarter & 1 ? [-sine * sign, cosine * sign] : [cosine * sign, sine * sign];
}
