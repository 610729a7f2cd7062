// The display: plates, strip of steps, pictures of a request side by side, and status.
import { $, drawNoise, duration, element, short } from "./api.js";
import * as gallery from "./gallery.js";
import { aspect, enlargedSize } from "./size.js";
import { current, frame, isInverting, isOpen, row, state, step, steps } from "./state.js";

const PLAY_MS = 90;
const NOISE_MS = 110;
const MAX_STRIP = 24; // steps in the strip
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const plates = { noisy: ".noisy canvas", noise: ".noise canvas", guess: "#guess" };
const plate = (name) => document.querySelector(plates[name]);
let playing = null;

export function start() {
  $("play").addEventListener("click", play);
  $("scrub").addEventListener("input", () => goTo(steps()[Number($("scrub").value)] ?? null));
  shimmer();
}

export function show() {
  const index = step();
  const shown = frame();
  $("bench").dataset.idle = String(!shown);
  $("examples").hidden = Boolean(state.jobs.length) || !$("examples").children.length;
  if (shown) {
    for (const name of Object.keys(plates)) shown.draw(plate(name), name, row());
    plate("guess").setAttribute("aria-label", `The model's guess at step ${index + 1}: ${current().body.prompt}`);
    const direction = isInverting(current(), index) ? "inversion, " : "";
    $("where").textContent = `${direction}step ${index + 1} of ${current().total} · noise level ${shown.sigma.toPrecision(3)}`;
    $("noise-scale").textContent = scaleOfNoise(shown.sigma);
  } else {
    noise(); // not the picture before, as motion may be reduced
    $("where").textContent = "every picture begins as this";
  }
  $("what").textContent = shown ? "The model's guess" : "Static";
  $("intro").hidden = Boolean(state.jobs.length);
  shape();
  film(index);
  others();
}

// The noise is drawn at half its strength, the noisy picture at 1 / sqrt(1 + sigma^2) of its own.
function scaleOfNoise(sigma) {
  const times = (0.5 * Math.hypot(1, sigma)) / sigma;
  return times < 1.5 ? "what it takes away" : `shown ${short(times)} times as strong as it is`;
}

function noise() {
  for (const name of Object.keys(plates)) drawNoise(plate(name), aspect());
}

// The shape of the plates, for style.css.
function shape() {
  const { width, height } = plate("guess");
  for (const id of ["bench", "time"]) $(id).style.setProperty("--aspect", width / height);
}

export function goTo(index) {
  stopPlaying();
  state.at.step = index;
  show();
}

function film(index) {
  const all = steps();
  $("time").hidden = all.length < 2;
  const position = all.indexOf(index);
  Object.assign($("scrub"), { max: Math.max(0, all.length - 1), value: Math.max(0, position) });
  $("scrub").setAttribute("aria-valuetext", index === undefined ? "" : `step ${index + 1} of ${current().total}`);
  const shown = all.length > MAX_STRIP ? all.filter((_, i) => i % Math.ceil(all.length / MAX_STRIP) === 0) : all;
  const strip = $("strip");
  $("time").style.setProperty("--steps", Math.max(shown.length, Math.min(MAX_STRIP, current()?.total ?? 0)));
  while (strip.children.length > shown.length) strip.lastChild.remove();
  while (strip.children.length < shown.length) {
    const small = element("canvas");
    small.addEventListener("click", () => goTo(Number(small.dataset.step)));
    strip.append(small);
  }
  const nearest = shown.filter((i) => i <= index).at(-1);
  shown.forEach((stepIndex, i) => {
    const small = strip.children[i];
    const key = `${state.at.job}/${state.at.row}/${current().id}/${stepIndex}`;
    if (small.dataset.key !== key) {
      current().frames.get(stepIndex).draw(small, "guess", row());
      Object.assign(small.dataset, { key, step: stepIndex });
    }
    small.classList.toggle("now", stepIndex === nearest);
  });
}

// All pictures of the request as thumbnails to choose from.
export function others() {
  const { jobs, at } = state;
  const cells = jobs.flatMap((job, j) => Array.from({ length: job.rows }, (_, picture) => ({ job, j, picture })));
  $("others").hidden = cells.length < 2;
  $("others").classList.toggle("nine", cells.length === 9);
  if (cells.length < 2) return $("others").replaceChildren();
  while ($("others").children.length > cells.length) $("others").lastChild.remove();
  while ($("others").children.length < cells.length) $("others").append(element("button", { type: "button" }, element("canvas"), element("span")));
  cells.forEach(({ job, j, picture }, i) => {
    const button = $("others").children[i];
    button.onclick = () => { state.at = { ...state.at, job: j, row: picture }; show(); describe(); };
    button.setAttribute("aria-pressed", String(j === at.job && picture === at.row));
    button.lastChild.textContent = job.label || `${picture + 1}`;
    const newest = at.step !== null && job.frames.has(at.step) ? at.step : steps(job).at(-1);
    if (newest === undefined) drawNoise(button.firstChild, aspect(), 16);
    else job.frames.get(newest).draw(button.firstChild, "guess", picture);
  });
}

export function describe() {
  const { jobs } = state;
  const open = jobs.filter(isOpen);
  const bad = state.refusal ? { message: state.refusal } : jobs.find((job) => job.status === "failed");
  document.body.classList.toggle("busy", open.length > 0 || state.sending);
  $("cancel").hidden = !open.length && !state.sending;
  $("status").classList.toggle("bad", Boolean(bad) && bad.message !== "cancelled");
  const warning = jobs.find((job) => job.warning)?.warning;
  const text = [progress(jobs, open, bad), warning].filter(Boolean).join(" · ");
  if ($("status").textContent !== text) $("status").textContent = text;
  $("actions").hidden = !steps().length || !$("painting").hidden;
  updateDownloads();
}

function progress(jobs, open, bad) {
  if (state.sending) return "sending";
  if (state.refusal) return state.refusal;
  const first = open.find((job) => job.status === "running") ?? open[0];
  if (first?.status === "running") return `developing${first.left > 1.5 ? `, about ${duration(first.left)} left` : ""}`;
  if (first?.status === "waiting") return first.position > 0 ? `waiting, number ${first.position} in the queue` : "waiting";
  if (first) return "sending";
  if (bad) return bad.message ?? "failed";
  if (!jobs.length) return "";
  if (!jobs.every((job) => job.status === "done")) return "cancelled";
  const enlarged = enlargedSize(jobs[0].pictures?.[0].receipt.enlarge);
  const seconds = duration(Math.max(...jobs.map((job) => job.seconds ?? 0)));
  return `done in ${seconds}${enlarged ? `, enlarged to ${enlarged.width} × ${enlarged.height}` : ""}`;
}

// The links that save the finished picture and its film.
function updateDownloads() {
  const pictures = current()?.status === "done" && current().pictures;
  $("download").hidden = $("film").hidden = $("recaption").hidden = !pictures;
  if (!pictures) return;
  const key = `${current().id}/${row()}`;
  if ($("download").dataset.key === key) return;
  const { blob, receipt } = pictures[row()];
  URL.revokeObjectURL($("download").href);
  Object.assign($("download"), { href: URL.createObjectURL(blob), download: gallery.fileName(receipt) });
  Object.assign($("film"), { href: `api/jobs/${current().id}/film.gif`, download: gallery.fileName(receipt).replace(/png$/, "gif") });
  $("download").dataset.key = key;
}

// Painting hides the other tools.
export function painting(on) {
  $("painting").hidden = $("paint").hidden = !on;
  $("actions").hidden = on || !steps().length;
}

// Noise on the plates until the first step arrives.
function shimmer() {
  const draw = () => {
    if ($("bench").dataset.idle !== "true" || $("develop").hidden) return;
    noise();
    shape();
  };
  draw();
  setInterval(() => { if (!calm.matches && !document.hidden) draw(); }, NOISE_MS);
}

function play() {
  if (playing) return stopPlaying();
  const all = steps();
  let i = 0;
  $("play").textContent = "❚❚";
  $("play").setAttribute("aria-label", "Stop");
  playing = setInterval(() => {
    state.at.step = all[i++];
    show();
    if (i >= all.length) stopPlaying();
  }, Math.max(30, Math.min(PLAY_MS, 3000 / all.length)));
}

export function stopPlaying() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "▶";
  $("play").setAttribute("aria-label", "Play");
}
