// Unpacking: the text in the page -> bytes -> the weights of the model (export/payload.py).

const LOST = [0, 13, 60];
const FIRST_PAIR = 0x100;

// The `num` bytes that a part of the text stands for: 7 bits a character, or two times 7 in those from U+0100 on.
function bytesOf(text, num) {
  const out = new Uint8Array(num + 2);
  let [size, bits, pending] = [0, 0, 0];
  const add = (value) => {
    pending = ((pending << 7) | value) & 0x3fff;
    bits += 7;
    if (bits >= 8) {
      bits -= 8;
      out[size++] = pending >> bits;
    }
  };
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= FIRST_PAIR) add(LOST[(code - FIRST_PAIR) >> 7]);
    add(code & 127);
  }
  return out.subarray(0, num);
}

// The content of gzip files that follow each other in parts; progress(share) is called as they are read.
async function unzipped(parts, size, progress) {
  const out = new Uint8Array(size);
  const stream = new ReadableStream({
    pull(controller) {
      const part = parts.shift();
      if (part) controller.enqueue(part());
      else controller.close();
    },
  }).pipeThrough(new DecompressionStream("gzip"));
  let filled = 0;
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    out.set(value, filled);
    filled += value.length;
    progress(filled / size);
  }
  if (filled !== size) throw new Error("this page is damaged: it does not hold all of the model; copy it again");
  return out;
}

let halfTable;

// Numbers from the lower and the higher bytes of float16 numbers.
function floatsOfHalves(lower, higher) {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, pattern) => {
    const sign = pattern & 0x8000 ? -1 : 1;
    const exponent = (pattern >> 10) & 31;
    const fraction = pattern & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
  });
  const out = new Float32Array(lower.length);
  for (let i = 0; i < out.length; i++) out[i] = halfTable[lower[i] | (higher[i] << 8)];
  return out;
}

// Weights by name. header: name -> { kind, shape, at }; bytes: Uint8Array with all of them.
class Weights {
  constructor(header, bytes) {
    Object.assign(this, { entries: header, bytes });
  }

  has(name) {
    return Object.hasOwn(this.entries, name);
  }

  header(name) {
    if (!this.has(name)) throw new Error(`this page does not know the model: it has no ${name}`);
    return this.entries[name];
  }

  numbers(name, ArrayType, half = 0) {
    const { shape, at } = this.header(name);
    const num = shape.reduce((a, b) => a * b, 1);
    return new ArrayType(this.bytes.buffer, this.bytes.byteOffset + at + half * num, num);
  }

  // All numbers of a tensor, Float32Array.
  tensor(name) {
    return this.rows(name)(0, this.header(name).shape[0]);
  }

  // A function from a number of a row, and how many, to the numbers of these rows, without reading the others.
  rows(name) {
    const { kind, shape } = this.header(name);
    const size = shape.slice(1).reduce((a, b) => a * b, 1);
    const part = (all, i, num) => all.subarray(i * size, (i + num) * size);
    if (kind === "f32") return (i, num = 1) => part(this.numbers(name, Float32Array), i, num);
    if (kind === "f16") return (i, num = 1) => floatsOfHalves(part(this.numbers(name, Uint8Array), i, num), part(this.numbers(name, Uint8Array, 1), i, num));
    const scales = this.numbers(`${name}.scales`, Float32Array);
    const all = this.numbers(name, Int8Array);
    return (first, num = 1) => {
      const out = new Float32Array(num * size);
      for (let i = first, k = 0, from = first * size; i < first + num; i++) {
        for (const end = k + size; k < end; k++) out[k] = all[from + k] * scales[i];
      }
      return out;
    };
  }

  words(name) {
    return new TextDecoder().decode(this.numbers(name, Uint8Array)).split("\n");
  }
}
