// The worker of the page: it unpacks the model, draws, and hands out each step. The page stays free meanwhile.

let drawing = null; // the number of the picture that is being drawn
let drawer = null;

// After a moment in which messages come in. A timer would wait four milliseconds.
const channel = new MessageChannel();
const breath = () => new Promise((resolve) => { channel.port1.onmessage = resolve; channel.port2.postMessage(null); });

const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

async function unpack({ parts, page }) {
  const { size, packed, part, kernels } = page;
  const bytesOfPart = (content, number) => (typeof content === "string" ? bytesOf(content, Math.min(part, packed - number * part)) : content);
  const bytes = await unzipped(parts.map((content, number) => () => bytesOfPart(content, number)), size, (share) => postMessage({ kind: "progress", share }));
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const model = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const weights = new Weights(model.payload, bytes.subarray(4 + length));
  drawer = new Model(model, weights, kernels.map(fromBase64));
  postMessage({ kind: "ready", isFast: drawer.heap.isFast, licenses: model.licenses });
}

async function draw({ id, ...request }) {
  drawing = id;
  const started = performance.now();
  const { width, height } = drawer;
  const notes = drawer.notes(cleanText(request.caption));
  let pixels = null;
  let index = 0;
  for await (const { x, denoised, sigma } of drawer.draw(request)) {
    const noise = x.map((value, i) => (value - denoised[i]) / sigma);
    pixels = pixelsOf(denoised);
    const frame = { noisy: pixelsOf(x, 1 / Math.sqrt(1 + sigma * sigma)), guess: pixels, noise: pixelsOf(noise, 0.5), sigma };
    postMessage({ kind: "step", id, index: index++, frame });
    await breath();
    if (drawing !== id) return postMessage({ kind: "cancelled", id });
  }
  const png = await pngOf(pixels, width, height, receiptTexts(drawer.model, request));
  return postMessage({ kind: "done", id, png, notes, seconds: (performance.now() - started) / 1000 });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "cancel") drawing = null;
    else if (data.kind === "draw") await draw(data);
    else await unpack(data);
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, message: error.message });
  }
};
