// Chapter 3: from static to a picture, one layer of noise after the other, to scrub through.
import { $, element, short } from "./api.js";
import { attempt } from "./attempt.js";
import { develop, levels } from "./network.js";
import { LEVELS, draw, drawChange, drawNoisy, mix, normal, randomSeed, shareChanged } from "./pixels.js";
import { currentModel, examples } from "./subject.js";

const PLAY_MS = 220;
// steps: the records of `develop`; with every start another number, so that an older one stops.
export const run = { number: 0, steps: [], model: "", shape: null, seed: 11, times: 12 };
let shown = null; // the step on display; null: the newest
let playing = null;

export function start() {
  $("layers-ask").addEventListener("submit", (event) => { event.preventDefault(); attempt(begin); });
  $("layers-times").addEventListener("change", () => attempt(begin));
  $("layers-start").addEventListener("change", () => attempt(begin));
  $("layers-dice").addEventListener("click", () => { run.seed = randomSeed(); attempt(begin); });
  $("layers-play").addEventListener("click", play);
  $("layers-scrub").addEventListener("input", () => { stop(); shown = Number($("layers-scrub").value); show(); });
}

export async function enter() {
  await ensureRun();
  show();
}

// A run of the present model, for this chapter and the next.
export async function ensureRun() {
  if (run.model !== currentModel().name) {
    $("layers-caption").value = examples()[0];
    await begin();
  }
}

async function begin() {
  stop();
  const number = ++run.number;
  const model = currentModel();
  const shape = { width: model.width, height: model.height };
  const times = Number($("layers-times").value);
  const empty = $("layers-start").value === "none";
  const length = 3 * shape.width * shape.height;
  const x = empty ? new Float32Array(length) : normal(run.seed, length).map((value) => value * model.sigma_max);
  Object.assign(run, { steps: [], model: model.name, shape, times });
  shown = null;
  for await (const step of develop({ model, shape, x, prompt: $("layers-caption").value, sigmas: levels(times, model), guidance: model.guidance })) {
    if (number !== run.number) return;
    run.steps.push(step);
    show();
  }
}

function show() {
  const index = Math.min(shown ?? Infinity, run.steps.length - 1);
  const step = run.steps[index];
  if (!step) return;
  const { shape, times } = run;
  const { sigma, next } = step;
  drawNoisy($("layers-noisy"), step.x, sigma, shape);
  drawNoisy($("layers-noise"), mix([sigma - next, step.noise]), sigma, shape); // as strong as it is in the noisy picture
  drawNoisy($("layers-next"), mix([1, step.x], [next - sigma, step.noise]), next, shape);
  draw($("layers-guess"), step.guess, shape);
  const change = index ? mix([1, step.guess], [-1, run.steps[index - 1].guess]) : null;
  drawChange($("layers-change"), change ?? new Float32Array(step.guess.length), shape);
  $("layers-level").textContent = `noise level ${short(sigma)}`;
  $("layers-layer").textContent = `${percent(1 - next / sigma)} of the noise it names`;
  $("layers-next-level").textContent = next ? `noise level ${short(next)}` : "no noise: done";
  $("layers-where").textContent = `step ${index + 1} of ${times}`;
  $("layers-changed").textContent = change ? `since step ${index}; bright is much` : "nothing came before";
  $("layers-seen").textContent = whatIsSeen(step, index, change);
  film(index);
}

const percent = (share) => `${Math.round(100 * share)} %`;

function whatIsSeen({ sigma, next }, index, change) {
  const removed = next === 0 ? "all the noise that is left is removed: the guess is the picture" : `the noise level falls from ${short(sigma)} to ${short(next)}`;
  const first = index === 0 && next > 0 ? " From static alone the guess is vague: it has what the caption says, and little else." : "";
  if (!change) return `Step ${index + 1} of ${run.times}: ${removed}.${first}`;
  const mean = LEVELS * change.reduce((sum, value) => sum + Math.abs(value), 0) / change.length;
  return `Step ${index + 1} of ${run.times}: ${removed}. The guess changed in ${percent(shareChanged(change))} of its dots, by ${short(mean)} of 255 levels on average.`;
}

function film(index) {
  const strip = $("layers-strip");
  while (strip.children.length > run.steps.length) strip.lastChild.remove();
  run.steps.forEach((step, i) => {
    if (!strip.children[i]) {
      const small = element("canvas");
      small.addEventListener("click", () => { stop(); shown = i; show(); });
      strip.append(small);
    }
    if (strip.children[i].dataset.key !== `${run.number}/${i}`) {
      draw(strip.children[i], step.guess, run.shape);
      strip.children[i].dataset.key = `${run.number}/${i}`;
    }
    strip.children[i].classList.toggle("now", i === index);
  });
  Object.assign($("layers-scrub"), { max: Math.max(0, run.steps.length - 1), value: index });
  $("layers-scrub").setAttribute("aria-valuetext", `step ${index + 1} of ${run.times}`);
}

function play() {
  if (playing) return stop();
  let i = 0;
  $("layers-play").textContent = "❚❚";
  $("layers-play").setAttribute("aria-label", "Stop");
  playing = setInterval(() => {
    shown = i++;
    show();
    if (i >= run.times) stop();
  }, PLAY_MS);
}

function stop() {
  clearInterval(playing);
  playing = null;
  $("layers-play").textContent = "▶";
  $("layers-play").setAttribute("aria-label", "Play");
}
