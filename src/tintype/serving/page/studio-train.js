// Step 4 of the studio: runs and their queue, one of them in full, and pictures from its newest checkpoint.
import { $, Frame, api, element, file, follow, loadImage } from "./api.js";
import * as gallery from "./gallery.js";
import { RunView } from "./run-view.js";
import { remember, run, studio } from "./studio-state.js";

const SEED = 7; // of the pictures drawn here: the same static each time, so that what differs is the model
const WORDS = { running: "training", queued: "waits in the queue", preparing: "preparing: pictures are read and this machine is measured", pausing: "saving, then it pauses", stopping: "saving, then it stops", paused: "paused", stopped: "stopped", finished: "finished", failed: "failed", interrupted: "interrupted: what it had learned by its last checkpoint is kept" };
const ACTS = { pause: "Pause", resume: "Go on", stop: "Stop", extend: "Train as long again" };
let changed = () => {};
let useModel = async () => {};
let view;
let drawing = null; // stops the picture that is being drawn

export function start(onChange, onModel) {
  [changed, useModel] = [onChange, onModel];
  view = new RunView("train");
  $("train-acts").replaceChildren(...Object.entries(ACTS).map(([name, textContent]) => {
    const button = element("button", { type: "button", textContent, id: `train-${name}` });
    button.addEventListener("click", () => act(name));
    return button;
  }));
  $("train-draw").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  $("train-open").addEventListener("click", () => develop(studio.run));
}

// Show the developing page with a model, which may be younger than the page.
export async function develop(name, caption = $("train-caption").value) {
  await useModel(name);
  if (caption) $("caption").value = caption;
  location.hash = "#develop";
  $("caption").focus();
}

async function act(name) {
  try {
    await api(`api/studio/runs/${encodeURIComponent(studio.run)}/${name}`, name === "extend" ? { images: 2 * run().images } : {});
    $("train-error").textContent = "";
  } catch (error) {
    $("train-error").textContent = error.message;
  }
  await changed();
}

let caption = ""; // proposed for this run

export function update() {
  const { runs, progress } = studio.overview;
  const one = run();
  $("train-none").hidden = runs.length > 0;
  $("train-body").hidden = !one;
  $("train-queue").hidden = !runs.some(({ state }) => state === "queued");
  $("train-runs").replaceChildren(...runs.map(card));
  if (!one) return;
  $("train-name").textContent = one.name;
  for (const name of Object.keys(ACTS)) $(`train-${name}`).hidden = !one.can.includes(name);
  $("train-message").textContent = one.state === "failed" || one.state === "interrupted" ? one.message ?? "" : "";
  $("train-draw-box").hidden = !one.model;
  if (!one.images || ["queued", "preparing"].includes(one.state) || progress?.name !== one.name) return waiting(about(one), one);
  $("train-view").hidden = false;
  view.show(progress, one.state === "running" ? undefined : about(one));
  $("train-notes").replaceChildren(...progress.notes.map((note) => element("li", { textContent: note })));
  if (caption !== one.name && progress.captions.length) {
    caption = one.name;
    $("train-caption").value = progress.captions[0];
  }
}

function waiting(text, one) {
  $("train-view").hidden = true;
  $("train-status").textContent = text;
  $("train-progress").value = one.images ? (one.images_seen ?? 0) / one.images : 0;
}

function about(one) {
  if (one.state === "queued" && one.position) return `waits in the queue: ${one.position} before it`;
  return WORDS[one.state] ?? one.state;
}

function card(one) {
  const button = element("button", { type: "button", className: "name", textContent: one.name });
  button.setAttribute("aria-pressed", String(one.name === studio.run));
  button.addEventListener("click", () => { studio.run = one.name; remember(); update(); changed(); });
  const share = one.images ? `${Math.floor((100 * (one.images_seen ?? 0)) / one.images)} %` : "";
  return element("li", { className: one.name === studio.run ? "now" : "" }, button, element("small", { textContent: [about(one), share].filter(Boolean).join(" · ") }));
}

// A picture from the newest checkpoint, from the same static each time.
async function draw() {
  drawing?.();
  const name = studio.run;
  $("train-draw-says").textContent = "Drawing …";
  try {
    const body = { model: name, prompt: $("train-caption").value, seed: SEED, n: 1 };
    const { id } = await api("api/jobs", body);
    drawing = follow(id, (now) => drawn(id, now, name).catch((error) => { $("train-draw-says").textContent = error.message; }));
  } catch (error) {
    $("train-draw-says").textContent = error.message;
  }
}

async function drawn(id, now, name) {
  const canvas = $("train-picture");
  if (now.step?.strip) {
    const { strip, rows, sigma, index } = now.step;
    const frame = new Frame(await loadImage(strip), rows, sigma);
    if (name !== studio.run) return;
    canvas.hidden = false;
    frame.draw(canvas, "guess");
    $("train-draw-says").textContent = `step ${index + 1} of ${now.total}`;
  }
  if (now.status === "failed") throw new Error(now.error?.message ?? "the picture could not be drawn");
  if (now.status !== "done") return;
  const blob = await file(`api/jobs/${id}/pictures/0.png`);
  const url = URL.createObjectURL(blob);
  const image = await loadImage(url);
  Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight, hidden: false });
  canvas.getContext("2d").drawImage(image, 0, 0);
  URL.revokeObjectURL(url);
  $("train-draw-says").textContent = `${name} as of its newest checkpoint; the same static each time, so what changes is the model`;
  await gallery.keep([{ blob, receipt: now.pictures[0].receipt }]);
}

