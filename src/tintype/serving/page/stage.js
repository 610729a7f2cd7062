// Showing: the plates, the strip of steps, the pictures of a request side by side, and how it is going.
import { $, drawStatic, duration, element } from "./api.js";
import * as gallery from "./gallery.js";
import { current, frame, goesBack, isOpen, row, state, step, steps } from "./state.js";

const PLAY_MS = 90;
const STATIC_MS = 110;
const SHOWN = 24; // steps in the strip
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const plates = { noisy: ".noisy canvas", noise: ".noise canvas", guess: "#guess" };
const plate = (kind) => document.querySelector(plates[kind]);
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
    for (const kind of Object.keys(plates)) shown.draw(plate(kind), kind, row());
    plate("guess").setAttribute("aria-label", `What the model believes the picture is, at step ${index + 1}: ${current().ask.prompt}`);
    const way = goesBack(current(), index) ? "back to noise, " : "";
    $("where").textContent = `${way}step ${index + 1} of ${current().total} · noise level ${shown.sigma.toPrecision(3)}`;
  } else $("where").textContent = "\u00a0";
  film(index);
  others();
}

export function goTo(index) {
  stopPlaying();
  state.at.step = index;
  show();
}

function film(index) {
  const all = steps();
  $("time").hidden = all.length < 2;
  const place = all.indexOf(index);
  Object.assign($("scrub"), { max: Math.max(0, all.length - 1), value: Math.max(0, place) });
  $("scrub").setAttribute("aria-valuetext", index === undefined ? "" : `step ${index + 1} of ${current().total}`);
  const shown = all.length > SHOWN ? all.filter((_, i) => i % Math.ceil(all.length / SHOWN) === 0) : all;
  const strip = $("strip");
  $("time").style.setProperty("--steps", Math.max(shown.length, Math.min(SHOWN, current()?.total ?? 0)));
  while (strip.children.length > shown.length) strip.lastChild.remove();
  while (strip.children.length < shown.length) {
    const small = element("canvas");
    small.addEventListener("click", () => goTo(Number(small.dataset.step)));
    strip.append(small);
  }
  const nearest = shown.filter((one) => one <= index).at(-1);
  shown.forEach((one, i) => {
    const small = strip.children[i];
    const key = `${state.at.job}/${state.at.row}/${current().id}/${one}`;
    if (small.dataset.key !== key) {
      current().frames.get(one).draw(small, "guess", row());
      Object.assign(small.dataset, { key, step: one });
    }
    small.classList.toggle("now", one === nearest);
  });
}

// All pictures of the request, small, to choose from; they develop together.
export function others() {
  const { jobs, at } = state;
  const cells = jobs.flatMap((job, j) => Array.from({ length: job.rows }, (_, place) => ({ job, j, place })));
  $("others").hidden = cells.length < 2;
  if (cells.length < 2) return $("others").replaceChildren();
  while ($("others").children.length > cells.length) $("others").lastChild.remove();
  while ($("others").children.length < cells.length) $("others").append(element("button", { type: "button" }, element("canvas"), element("span")));
  cells.forEach(({ job, j, place }, i) => {
    const button = $("others").children[i];
    button.onclick = () => { state.at = { ...state.at, job: j, row: place }; show(); describe(); };
    button.setAttribute("aria-pressed", String(j === at.job && place === at.row));
    button.lastChild.textContent = job.label || `${place + 1}`;
    const newest = at.step !== null && job.frames.has(at.step) ? at.step : steps(job).at(-1);
    if (newest === undefined) drawStatic(button.firstChild, 16);
    else job.frames.get(newest).draw(button.firstChild, "guess", place);
  });
}

export function describe() {
  const { jobs } = state;
  const open = jobs.filter(isOpen);
  const bad = jobs.find((job) => job.status === "failed");
  document.body.classList.toggle("busy", open.length > 0);
  $("cancel").hidden = !open.length;
  $("status").classList.toggle("bad", Boolean(bad));
  const warning = jobs.find((job) => job.warning)?.warning;
  const text = [progress(jobs, open, bad), warning].filter(Boolean).join(" · ");
  if ($("status").textContent !== text) $("status").textContent = text;
  $("actions").hidden = !steps().length || !$("painting").hidden;
  offer();
}

function progress(jobs, open, bad) {
  const first = open.find((job) => job.status === "running") ?? open[0];
  if (first?.status === "running") return `developing${first.left > 1.5 ? `, about ${duration(first.left)} left` : ""}`;
  if (first?.status === "waiting") return first.position > 0 ? `waiting, number ${first.position} in line` : "waiting";
  if (first) return "on its way";
  if (bad) return bad.message ?? "it failed";
  if (!jobs.length) return "";
  if (!jobs.every((job) => job.status === "done")) return "cancelled";
  return `done in ${duration(Math.max(...jobs.map((job) => job.seconds ?? 0)))}`;
}

// The finished picture, to be saved.
function offer() {
  const pictures = current()?.status === "done" && current().pictures;
  $("download").hidden = $("film").hidden = $("recaption").hidden = !pictures;
  if (!pictures) return;
  const of = `${current().id}/${row()}`;
  if ($("download").dataset.of === of) return;
  const { blob, receipt } = pictures[row()];
  URL.revokeObjectURL($("download").href);
  Object.assign($("download"), { href: URL.createObjectURL(blob), download: gallery.fileName(receipt) });
  Object.assign($("film"), { href: `/api/jobs/${current().id}/film.gif`, download: gallery.fileName(receipt).replace(/png$/, "gif") });
  $("download").dataset.of = of;
}

// While the part to be made again is painted, the rest of the tools are put away.
export function painting(on) {
  $("painting").hidden = $("paint").hidden = !on;
  $("actions").hidden = on || !steps().length;
}

// While nothing is there yet, static is.
function shimmer() {
  const draw = () => {
    if ($("bench").dataset.idle !== "true" || $("develop").hidden) return;
    for (const kind of Object.keys(plates)) drawStatic(plate(kind));
  };
  draw();
  setInterval(() => { if (!calm.matches && !document.hidden) draw(); }, STATIC_MS);
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
  $("play").setAttribute("aria-label", "Watch it again");
}
