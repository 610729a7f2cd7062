// How it works: noise on one picture, from clear to static, and what the model sees at each level.
import { $, api, blit, loaded, pictureOf } from "./api.js";
import { newest } from "./gallery.js";
import { plot } from "./plot.js";
import { model } from "./state.js";

const LEVELS = 20;
const CHANGE_MS = 500;
let picture = null; // data: URL
let levels = [];
let heldOut = [];
let visible = false;
let asked = 0;

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
  $("how-go").addEventListener("click", look);
  $("how-caption").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(look, CHANGE_MS); });
  $("how-open").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
  $("how-last").addEventListener("click", last);
  $("model").addEventListener("change", () => { levels = []; if (visible) look(); });
}

export function shown(on) {
  visible = on;
  if (on && !levels.length) look();
}

export async function take(file) {
  if (!file) return;
  try {
    picture = (await pictureOf(file)).toDataURL("image/png");
    look();
  } catch (error) {
    say(error.message);
  }
}

async function last() {
  const entry = await newest();
  if (!entry) return say("nothing has been made in this browser yet");
  $("how-caption").value = entry.receipt.caption;
  take(entry.blob);
}

function say(text) {
  $("how-status").textContent = text;
}

async function look() {
  const turn = ++asked;
  say("looking");
  try {
    const name = $("model").value;
    const found = await api("/api/look", { image: picture, prompt: $("how-caption").value, model: name, levels: LEVELS });
    const seen = await Promise.all(found.levels.map(async (level) => ({ ...level, image: await loaded(level.strip) })));
    const isRun = [...$("run").options].some((option) => option.value === name);
    const run = isRun ? await api(`/api/runs/${encodeURIComponent(name)}`).catch(() => null) : null;
    if (turn !== asked) return;
    levels = seen;
    heldOut = Object.entries(run?.noise_error.at(-1)?.levels ?? model()?.noise_error ?? {}).map(([sigma, error]) => [Number(sigma), error]).sort((a, b) => a[0] - b[0]);
    const before = Number($("how-slider").max) ? Number($("how-slider").value) : Math.round(LEVELS * 0.55);
    Object.assign($("how-slider"), { max: levels.length - 1, value: before });
    say("");
    show();
  } catch (error) {
    if (turn === asked) say(error.message);
  }
}

function show() {
  const level = levels[Number($("how-slider").value)];
  if (!level) return;
  const side = level.image.naturalWidth / 4;
  document.querySelectorAll("#how-bench canvas").forEach((canvas, column) => {
    blit(canvas, level.image, column * side, 0, side, level.image.naturalHeight);
  });
  const share = level.sigma ** 2 / (1 + level.sigma ** 2);
  $("how-level").textContent = `noise level ${level.sigma.toPrecision(2)}: ${(100 * share).toFixed(share > 0.99 ? 1 : 0)} % of it is static`;
  $("how-slider").setAttribute("aria-valuetext", $("how-level").textContent);
  const right = 100 * Math.max(0, 1 - level.noise_error);
  $("how-error").textContent = `${right.toFixed(right > 99 ? 2 : 0)} % of it was identified`;
  const curves = [{ name: "this picture", points: levels.map((one) => [one.sigma, one.noise_error]) }];
  if (heldOut.length > 1) curves.push({ name: "pictures held out", points: heldOut });
  plot($("how-plot"), { title: "Error of the predicted noise", xName: "noise level", yName: "mean square; 1 is knowing nothing", curves, logX: true, logY: true, here: level.sigma });
}
