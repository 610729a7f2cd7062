// The subject of the chapters: a picture, its caption and the noise that is added to it.
import { $, loadImage, readPicture } from "./api.js";
import { newest } from "./gallery.js";
import { develop, levels } from "./network.js";
import { normal, pixelsOf, randomSeed, shapeFor } from "./pixels.js";
import { model } from "./state.js";

const FIRST_SEED = 7; // of the picture and the noise with which the chapters begin
const FALLBACK = { name: "", resolution: 32, width: 32, height: 32, patch: 8, examples: [] }; // before there is a model

// version changes with every change; source: what the page says of the picture.
export const subject = { version: 0, shape: null, x0: null, noise: null, seed: FIRST_SEED, caption: "", source: "", own: null, model: "" };

export const currentModel = () => model() ?? FALLBACK;
export const hasModel = () => model()?.codec === "pixels";

// The captions that fit the model: its examples, or the words of the drawn picture.
export function examples() {
  const known = currentModel().examples;
  return known.length ? known : ["a red circle left of a blue square", "a green star", "a yellow triangle above a purple circle"];
}

function set(changes) {
  Object.assign(subject, changes);
  const length = 3 * subject.shape.width * subject.shape.height;
  if (subject.noise?.length !== length || changes.seed !== undefined) subject.noise = normal(subject.seed, length);
  subject.version++;
}

// The picture as the model of the page sees it: a picture of one's own stays, another model draws one of its own.
export async function* useModel() {
  if (subject.model === currentModel().name && subject.x0) return;
  subject.model = currentModel().name;
  if (subject.own) yield useOwn(subject.own);
  else yield* drawOne();
}

let drawings = 0;

// A picture that the model draws: yields whenever there is more of it to see.
export async function* drawOne() {
  const mine = ++drawings;
  const drawing = currentModel();
  const shape = { width: drawing.width, height: drawing.height };
  const caption = examples()[(mine - 1) % examples().length];
  set({ shape, x0: drawnScene(shape), caption, source: "drawn by this page", own: null });
  yield;
  if (!hasModel()) return;
  const start = normal(FIRST_SEED + mine, subject.noise.length).map((value) => value * drawing.sigma_max);
  const steps = develop({ model: drawing, shape, x: start, prompt: caption, sigmas: levels(12, drawing), guidance: drawing.guidance });
  for await (const step of steps) {
    if (mine !== drawings || drawing.name !== subject.model) return;
    set({ x0: step.guess.slice(), source: `drawn by ${drawing.name} just now` });
    yield;
  }
}

// Shapes for as long as no model has drawn anything: a circle and a square.
function drawnScene(shape) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 96, height: 96 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#888";
  context.fillRect(0, 0, 96, 96);
  context.fillStyle = "#d62222";
  context.beginPath();
  context.arc(28, 48, 17, 0, 7);
  context.fill();
  context.fillStyle = "#2346d6";
  context.fillRect(54, 33, 30, 30);
  return pixelsOf(canvas, shape);
}

function useOwn(own) {
  drawings++;
  const shape = shapeFor(currentModel(), own.canvas.width / own.canvas.height);
  set({ shape, x0: pixelsOf(own.canvas, shape), source: own.source, own });
}

export async function useFile(file) {
  useOwn({ canvas: await readPicture(file), source: "yours" });
  set({ caption: "" });
}

// The newest picture of the gallery. Returns whether there is one.
export async function useLatest() {
  const entry = await newest();
  if (!entry) return false;
  const url = URL.createObjectURL(entry.blob);
  try {
    const image = await loadImage(url);
    useOwn({ canvas: Object.assign(image, { width: image.naturalWidth, height: image.naturalHeight }), source: "your latest" });
  } finally {
    URL.revokeObjectURL(url);
  }
  set({ caption: entry.receipt.caption });
  return true;
}

export function otherNoise() {
  set({ seed: randomSeed() });
}

export function setCaption(caption) {
  set({ caption });
  $("how-caption").value = caption;
}
