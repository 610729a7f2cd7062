// PNG files with the receipt of a picture inside, as in pipeline/image_file.py. No canvas: browsers may change what is
// read from one.

const CRCS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let k = 0; k < 8; k++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function chunk(kind, content) {
  const out = new Uint8Array(content.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, content.length);
  out.set(new TextEncoder().encode(kind), 4);
  out.set(content, 8);
  let crc = 0xffffffff;
  for (const byte of out.subarray(4, -4)) crc = CRCS[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(out.length - 4, ~crc >>> 0);
  return out;
}

// No Blob and no Response in between: WebKit cannot read these in the worker of a page from a disk.
async function deflated(bytes) {
  const { writable, readable } = new CompressionStream("deflate");
  const writer = writable.getWriter();
  writer.write(bytes).then(() => writer.close());
  const reader = readable.getReader();
  const parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
  }
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

// pixels [height][width][4]; texts: name -> text. Returns a Blob.
async function pngOf(pixels, width, height, texts) {
  const size = new DataView(new ArrayBuffer(13));
  size.setUint32(0, width);
  size.setUint32(4, height);
  size.setUint32(8, 0x08020000); // 8 bits a channel, three channels
  const rows = new Uint8Array(height * (1 + 3 * width)); // each begins with its filter: none
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows.set(pixels.subarray(4 * (y * width + x), 4 * (y * width + x) + 3), y * (1 + 3 * width) + 1 + 3 * x);
  }
  const encoder = new TextEncoder();
  const notes = Object.entries(texts).map(([name, text]) => chunk("iTXt", encoder.encode(`${name}\0\0\0\0\0${text}`)));
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([signature, chunk("IHDR", new Uint8Array(size.buffer)), ...notes, chunk("IDAT", await deflated(rows)), chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

// The texts of a picture's receipt; seed: decimal digits, as long as 63 bits allow; engine: what drew it.
function receiptTexts(model, { caption, seed, numSteps, guidance, engine }) {
  const sampler = guidance > model.sampler.above ? model.sampler.strong : model.sampler.usual;
  const text = cleanText(caption);
  const values = { ...model.receipt, caption: text, steps: numSteps, guidance, sampler, engine, seed: 0 };
  const json = JSON.stringify(values).replace('"seed":0,', () => `"seed":${seed},`);
  const filledIn = { caption: text, steps: numSteps, sampler, guidance: Number(guidance.toPrecision(6)), seed };
  const parameters = model.parameters.replace(/\{(caption|steps|sampler|guidance|seed)\}/g, (_, name) => filledIn[name]);
  return { parameters, tintype: json.replace(/[^\x20-\x7e]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`) };
}
