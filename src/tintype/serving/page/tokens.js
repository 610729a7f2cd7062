// The token model over HTTP: it writes a picture piece by piece, and never changes what it has written.
import { api, loadImage } from "./api.js";

// The token model of this server with its sheet of pieces.
export async function loadTokenModel() {
  const model = (await api("api/tokens")).models[0];
  if (!model) throw new Error("this server has no token model");
  return { ...model, sheet: await loadImage(`api/tokens/${encodeURIComponent(model.name)}/codebook.png`) };
}

// The events of a picture as it is written: { type: "token", place, token, ... } and at the end "done".
export async function* write(body) {
  const response = await fetch("api/tokens/stream", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error?.message ?? `the server responded with status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split(/\r?\n\r?\n/);
    text = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (!data) continue;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

export function drawToken({ sheet, patch }, context, token, left, top) {
  context.imageSmoothingEnabled = false;
  context.drawImage(sheet, patch * (token % 64), patch * Math.floor(token / 64), patch, patch, left, top, patch, patch);
}

// The brightness of every piece of the sheet, from -1 to 1.
export function brightness({ sheet, patch, codes }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: sheet.naturalWidth, height: sheet.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(sheet, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const means = new Float64Array(codes).fill(-1);
  for (let i = 0; i < data.length; i += 4) {
    const [x, y] = [(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)];
    const code = Math.floor(y / patch) * 64 + Math.floor(x / patch);
    if (code < codes) means[code] += (data[i] + data[i + 1] + data[i + 2]) / (3 * 127.5 * patch * patch);
  }
  return means;
}
