// The worker of the page: it unpacks the model, draws, and hands out each step. The page stays free meanwhile.

let drawing = null; // the number of the picture that is being drawn
let numDrawn = 0;
let drawer = null;
let wantsGpu = false; // from the next picture on

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
  await tryGpu();
}

// While nothing is drawn: times that a picture disturbed are taken again.
async function tryGpu() {
  try {
    const network = await networkOnGpu(drawer);
    for (;;) {
      while (drawing !== null) await new Promise((resolve) => { setTimeout(resolve, 200); });
      const number = numDrawn;
      const milliseconds = await timesOf(drawer, network);
      if (number !== numDrawn) continue;
      drawer.gpu = network;
      wantsGpu = milliseconds[1] < GAIN * milliseconds[0];
      return postMessage({ kind: "engine", isGpu: wantsGpu, milliseconds });
    }
  } catch (error) {
    return postMessage({ kind: "noGpu", reason: error.message });
  }
}

async function draw({ id, ...request }) {
  drawing = id;
  numDrawn += 1;
  const started = performance.now();
  const notes = drawer.notes(cleanText(request.caption));
  const isGpuUsed = wantsGpu && drawer.gpu !== null;
  drawer.isGpuUsed = isGpuUsed;
  let pixels = null;
  let index = 0;
  try {
    for await (const { x, denoised, sigma } of drawer.draw(request)) {
      const noise = x.map((value, i) => (value - denoised[i]) / sigma);
      pixels = pixelsOf(denoised);
      const frame = { noisy: pixelsOf(x, 1 / Math.sqrt(1 + sigma * sigma)), guess: pixels, noise: pixelsOf(noise, 0.5), sigma };
      postMessage({ kind: "step", id, index: index++, frame });
      await breath();
      if (drawing !== id) return postMessage({ kind: "cancelled", id });
    }
  } finally {
    if (drawing === id) drawing = null;
  }
  const { engine, width, height } = drawer;
  if (isGpuUsed && engine !== "webgpu") notes.push("the graphics card failed, and the processor went on");
  const png = await pngOf(pixels, width, height, receiptTexts(drawer.model, { ...request, engine }));
  return postMessage({ kind: "done", id, png, notes, hasGpu: drawer.gpu !== null, seconds: (performance.now() - started) / 1000 });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "cancel") drawing = null;
    else if (data.kind === "draw") await draw(data);
    else if (data.kind === "use") wantsGpu = data.isGpu;
    else await unpack(data);
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, message: error.message });
  }
};
