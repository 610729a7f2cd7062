// Chapter 7: training in the small, on the data of chapter 4, and the commands that train on one's own pictures.
import { $, toast } from "./api.js";
import { attempt } from "./attempt.js";
import { plane } from "./how-gradient.js";
import { fresh, learn, learnedGuess, nameNoise } from "./learner.js";
import { normal, uniform } from "./pixels.js";
import { exactGuess } from "./plane.js";
import { arrows, clear, dots } from "./plane-view.js";
import { plot } from "./plot.js";

const [LOW, HIGH] = [0.06, 1.5]; // noise levels of training, as on the plane
const SHOWN = 0.3; // noise level of the arrows
const BATCH = 64;
const STEPS = 1500;
const REPORT = 25; // steps between two measurements
const MEASURED = 256; // noisy points of a measurement, the same each time
const state = { net: fresh(1), number: 0, version: -1, errors: [], best: 0, set: [] };

export function start() {
  $("yours-go").addEventListener("click", () => attempt(train));
  $("yours-reset").addEventListener("click", () => { forget(); show(); });
  for (const id of ["yours-folder", "yours-captions", "yours-minutes"]) $(id).addEventListener("input", commands);
  $("yours-copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("yours-commands").textContent).then(() => toast("Copied"), () => toast("Select the lines and copy them"));
  });
}

export async function enter() {
  if (state.version !== plane.version) forget();
  commands();
  show();
}

// An untrained network and a measurement of its own for the present data.
function forget() {
  const { points } = plane;
  const random = uniform(5);
  const noise = normal(6, 2 * MEASURED);
  const set = points.length ? Array.from({ length: MEASURED }, (_, i) => {
    const sigma = LOW * (HIGH / LOW) ** random();
    const drawn = [noise[2 * i], noise[2 * i + 1]];
    return { sigma, noise: drawn, place: points[Math.floor(random() * points.length)].map((value, axis) => value + sigma * drawn[axis]) };
  }) : [];
  Object.assign(state, { net: fresh(1), number: state.number + 1, version: plane.version, errors: [], set });
  const best = (place, sigma) => exactGuess(points, place, sigma).map((value, axis) => (place[axis] - value) / sigma);
  state.best = measured(best);
  if (set.length) state.errors.push([0, measured((place, sigma) => nameNoise(state.net, place, sigma))]);
}

// The mean squared error of the noise that a function names, over the measurement's noisy points.
function measured(named) {
  return state.set.reduce((sum, { place, sigma, noise }) => {
    const answer = named(place, sigma);
    return sum + ((answer[0] - noise[0]) ** 2 + (answer[1] - noise[1]) ** 2) / 2;
  }, 0) / state.set.length;
}

async function train() {
  if (!plane.points.length) throw new Error("there is no data yet: draw some in chapter 4");
  if (state.version !== plane.version || state.net.steps >= STEPS) forget();
  const number = ++state.number;
  while (state.net.steps < STEPS) {
    for (let i = 0; i < REPORT; i++) learn(state.net, plane.points, BATCH, LOW, HIGH);
    state.errors.push([state.net.steps, measured((place, sigma) => nameNoise(state.net, place, sigma))]);
    show();
    await new Promise((resolve) => { setTimeout(resolve, 0); });
    if (number !== state.number || $("how-yours").hidden) return;
  }
}

function show() {
  const canvas = $("yours-plane");
  clear(canvas);
  dots(canvas, plane.points, "accent", 4);
  if (state.net.steps) arrows(canvas, (place) => learnedGuess(state.net, place, SHOWN), "ink");
  const { steps } = state.net;
  if (!state.errors.length) return void ($("yours-seen").textContent = "There is no data yet: draw some in chapter 4.");
  const now = state.errors.at(-1)[1];
  plot($("yours-plot"), { title: "Error of the noise it names", xName: "steps", yName: "1 is knowing nothing", curves: [
    { name: "this network", points: state.errors }, { name: "the best there can be", points: [[0, state.best], [Math.max(steps, 1), state.best]] }] });
  $("yours-seen").textContent = `Step ${steps} of ${STEPS}: the error is ${now.toFixed(2)}. The best there can be is ${state.best.toFixed(2)}, as chapter 4 knows it exactly. `
    + (steps ? "The arrows are the network's own: nobody told it where the data is, only how wrong it was." : "The network knows nothing yet, so it has no arrows.");
}

// A word for the shell: as it is where that is safe, else in quotes.
const word = (text) => (/^[\w./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function commands() {
  const folder = $("yours-folder").value.trim() || "my-pictures";
  const model = word(`${folder.replace(/\/+$/, "")}-model`);
  const names = $("yours-captions").value === "name" ? " --no-caption name" : "";
  const minutes = Math.max(1, Math.round(Number($("yours-minutes").value)) || 30);
  $("yours-commands").textContent = [
    `tintype check ${word(folder)}${names}`, `tintype train ${word(folder)}${names} --out ${model} --time ${minutes}m`,
    `tintype generate "a caption like yours" --model ${model}`, `tintype serve ${model}`,
  ].join("\n");
  const served = !$("training-tab").hidden;
  $("yours-run").textContent = served ? "A run is served here: the tab Training shows how its error falls, and its pictures." : "While it trains, tintype serve with the run's folder shows it in a tab of this page.";
}
