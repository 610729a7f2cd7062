// How it works: one picture at many noise levels, and the model's prediction at each.
import { $, api, blit, loadImage, readPicture } from "./api.js";
import { newest } from "./gallery.js";
import { plot } from "./plot.js";
import { model } from "./state.js";

const LEVELS = 20;
const CHANGE_MS = 500;
let picture = null; // data: URL
let levels = [];
let heldOut = [];
let visible = false;
let numRequests = 0;

export function start() {
  const example = document.createElement("canvas");
  Object.assign(example, { width: 96, height: 96 });
  const context = example.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, 96, 96);
  context.fillStyle = "#d62222";
  context.beginPath();
  context.arc(28, 48, 17, 0, 7);
  context.fill();
  context.fillStyle = "#2346d6";
  context.fillRect(54, 33, 30, 30);
  picture = example.toDataURL("image/png");
  $("how-caption").value = "a red circle left of a blue square";

  let typing;
  $("how-slider").addEventListener("input", show);
  $("how-go").addEventListener("click", sweep);
  $("how-caption").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(sweep, CHANGE_MS); });
  $("how-open").addEventListener("change", (event) => { openFile(event.target.files[0]); event.target.value = ""; });
  $("how-last").addEventListener("click", useLatest);
  $("model").addEventListener("change", () => { levels = []; if (visible) sweep(); });
}

export function setVisible(on) {
  visible = on;
  if (on && !levels.length) sweep();
}

export async function openFile(file) {
  if (!file) return;
  try {
    picture = (await readPicture(file)).toDataURL("image/png");
    sweep();
  } catch (error) {
    say(error.message);
  }
}

async function useLatest() {
  const entry = await newest();
  if (!entry) return say("this browser has no pictures yet");
  $("how-caption").value = entry.receipt.caption;
  openFile(entry.blob);
}

function say(text) {
  $("how-status").textContent = text;
}

async function sweep() {
  const request = ++numRequests;
  say("running");
  try {
    const name = $("model").value;
    const response = await api("api/look", { image: picture, prompt: $("how-caption").value, model: name, levels: LEVELS });
    const images = await Promise.all(response.levels.map(async (level) => ({ ...level, image: await loadImage(level.strip) })));
    const isRun = [...$("run").options].some((option) => option.value === name);
    const run = isRun ? await api(`api/runs/${encodeURIComponent(name)}`).catch(() => null) : null;
    if (request !== numRequests) return;
    levels = images;
    heldOut = Object.entries(run?.noise_error.at(-1)?.levels ?? model()?.noise_error ?? {}).map(([sigma, error]) => [Number(sigma), error]).sort((a, b) => a[0] - b[0]);
    const before = Number($("how-slider").max) ? Number($("how-slider").value) : Math.round(LEVELS * 0.55);
    Object.assign($("how-slider"), { max: levels.length - 1, value: before });
    say("");
    show();
  } catch (error) {
    if (request === numRequests) say(error.message);
  }
}

function show() {
  const level = levels[Number($("how-slider").value)];
  if (!level) return;
  const width = level.image.naturalWidth / 4;
  document.querySelectorAll("#how-bench canvas").forEach((canvas, column) => {
    blit(canvas, level.image, column * width, 0, width, level.image.naturalHeight);
  });
  $("how-bench").style.setProperty("--aspect", width / level.image.naturalHeight);
  const noiseShare = level.sigma ** 2 / (1 + level.sigma ** 2);
  $("how-level").textContent = `noise level ${level.sigma.toPrecision(2)}: ${(100 * noiseShare).toFixed(noiseShare > 0.99 ? 1 : 0)} % of it is noise`;
  $("how-slider").setAttribute("aria-valuetext", $("how-level").textContent);
  const predicted = 100 * Math.max(0, 1 - level.noise_error);
  $("how-error").textContent = `${predicted.toFixed(predicted > 99 ? 2 : 0)} % of it was identified`;
  const off = 127.5 * level.sigma * Math.sqrt(level.noise_error); // root mean square; the guess is x - sigma * noise
  $("how-off").textContent = `off by ${off.toFixed(off < 10 ? 1 : 0)} of 255 levels`;
  const curves = [{ name: "this picture", points: levels.map((point) => [point.sigma, point.noise_error]) }];
  if (heldOut.length > 1) curves.push({ name: "held-out pictures", points: heldOut });
  plot($("how-plot"), { title: "Error of the predicted noise", xName: "noise level", yName: "mean square; 1 is no prediction", curves, logX: true, logY: true, here: level.sigma });
}
