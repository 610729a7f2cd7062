// Chapter 4: arrows from noise to data, on a plane where they are known exactly, then for the picture of chapter 3.
import { $, short } from "./api.js";
import { attempt } from "./attempt.js";
import { ensureRun, run } from "./how-layers.js";
import { agreement, draw, drawNoisy, meanSquare, mix, normal, LEVELS } from "./pixels.js";
import { DATA, along, exactGuess, planeLevels } from "./plane.js";
import { REACH, arrows, clear, cross, dots, paths, placeOf } from "./plane-view.js";
import { hasModel } from "./subject.js";

const [LOW, HIGH] = [0.04, 1.5]; // noise levels in the plane
const NUM_POINTS = 300;
const STEPS = 40;
const FRAME_MS = 50;
const NEAR = 0.1; // of a data point: arrived
const LEAST = 0.05; // noise level shortly before the end of a picture's arrow
const APART = 0.05; // points of one stroke
const calm = matchMedia("(prefers-reduced-motion: reduce)");
export const plane = { points: DATA.moons(), version: 0 };
let flow = { points: [], paths: [], number: 0, sigma: null };
let cursor = [0, 0];

export function start() {
  $("plane-level").addEventListener("input", () => { stopFlow(); show(); });
  $("plane-go").addEventListener("click", () => attempt(letGo));
  $("plane-data").addEventListener("change", choose);
  $("plane").addEventListener("pointerdown", (event) => { $("plane").setPointerCapture(event.pointerId); begin(); add(placeOf($("plane"), event)); });
  $("plane").addEventListener("pointermove", (event) => { if (event.buttons) add(placeOf($("plane"), event)); });
  $("plane").addEventListener("keydown", keys);
  for (const name of ["focus", "blur"]) $("plane").addEventListener(name, show);
  for (const id of ["arrow-walk", "arrow-step"]) $(id).addEventListener("input", showArrow);
}

export async function enter() {
  show();
  if (!hasModel()) return;
  await ensureRun();
  showArrow();
}

const sigmaOf = () => LOW * (HIGH / LOW) ** (Number($("plane-level").value) / 100);

function choose() {
  const name = $("plane-data").value;
  set(name === "own" ? [] : DATA[name]());
}

function set(points) {
  plane.points = points;
  plane.version++;
  stopFlow();
  show();
}

// The first stroke of one's own takes the place of the ready data.
function begin() {
  if ($("plane-data").value === "own") return;
  $("plane-data").value = "own";
  set([]);
}

function add(place) {
  const last = plane.points.at(-1);
  if (last && Math.hypot(last[0] - place[0], last[1] - place[1]) < APART) return;
  if (place.every((value) => Math.abs(value) <= REACH)) set([...plane.points, place]);
}

function keys(event) {
  const step = event.shiftKey ? 0.3 : 0.1;
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
  if (move) cursor = cursor.map((value, i) => Math.max(-REACH, Math.min(REACH, value + move[i])));
  else if (event.key === " ") { begin(); add([...cursor]); }
  else return;
  event.preventDefault();
  show();
}

function stopFlow() {
  flow = { points: [], paths: [], number: flow.number + 1, sigma: null };
}

// Points of pure static, moved along the arrows from level to level.
async function letGo() {
  if (!plane.points.length) throw new Error("there is no data yet: draw some on the plane");
  stopFlow();
  const number = flow.number;
  const noise = normal(number, 2 * NUM_POINTS);
  const levels = planeLevels(HIGH, LOW, STEPS);
  flow.points = Array.from({ length: NUM_POINTS }, (_, i) => [HIGH * noise[2 * i], HIGH * noise[2 * i + 1]]);
  flow.paths = flow.points.map((place) => [place]);
  for (let i = 0; i < STEPS; i++) {
    flow.points = flow.points.map((place) => along(place, exactGuess(plane.points, place, levels[i]), levels[i], levels[i + 1]));
    flow.points.forEach((place, p) => flow.paths[p].push(place));
    flow.sigma = levels[i + 1];
    if (calm.matches && i < STEPS - 1) continue;
    $("plane-level").value = Math.round((100 * Math.log(Math.max(levels[i + 1], LOW) / LOW)) / Math.log(HIGH / LOW));
    show();
    await new Promise((resolve) => { setTimeout(resolve, FRAME_MS); });
    if (number !== flow.number) return;
  }
}

function show() {
  const canvas = $("plane");
  const sigma = sigmaOf();
  clear(canvas);
  if (plane.points.length) arrows(canvas, (place) => exactGuess(plane.points, place, sigma));
  paths(canvas, flow.paths);
  dots(canvas, plane.points, "accent", 4);
  dots(canvas, flow.points, "line-2", 3.5);
  if (document.activeElement === canvas) cross(canvas, cursor);
  $("plane-level").setAttribute("aria-valuetext", `noise level ${short(sigma)}`);
  $("gradient-seen").textContent = whatIsSeen(sigma);
}

function whatIsSeen(sigma) {
  const { points } = plane;
  if (!points.length) return "No data: draw some with the pointer, or with the arrow keys and the space bar.";
  const level = `Plane, noise level ${short(sigma)}, ${points.length} data points: `;
  if (flow.sigma === 0) {
    const near = flow.points.filter(([x, y]) => points.some(([a, b]) => Math.hypot(x - a, y - b) < NEAR)).length;
    return `${level}${near} of ${NUM_POINTS} points of static have arrived at the data. Where each went was decided by where it began: by the noise.`;
  }
  const middle = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const corners = [[1, 1], [1, -1], [-1, 1], [-1, -1]].map((corner) => exactGuess(points, corner.map((side) => side * REACH), sigma));
  const same = corners.every((guess) => Math.hypot(guess[0] - middle[0], guess[1] - middle[1]) < 0.4);
  return level + (same ? "all arrows lead to the middle of the data, as there is too much noise to tell from which point it came."
    : "each arrow leads to the data nearby, as there is little noise and little doubt.");
}

// The arrow of a picture: from the noisy picture to the guess, drawn as the pictures on the way.
function showArrow() {
  const { steps, shape } = run;
  if (!steps.length) return;
  $("arrow-step").max = steps.length - 1;
  const index = Number($("arrow-step").value);
  const { x, guess, sigma } = steps[index];
  const walk = Number($("arrow-walk").value) / 100;
  const left = walk === 1 ? 0 : sigma * (LEAST / sigma) ** walk; // noise level on the way, if the guess is right
  const share = 1 - left / sigma;
  drawNoisy($("arrow-from"), x, sigma, shape);
  drawNoisy($("arrow-on"), mix([1 - share, x], [share, guess]), left, shape);
  draw($("arrow-to"), guess, shape);
  $("arrow-level").textContent = `step ${index + 1}, noise level ${short(sigma)}`;
  $("arrow-share").textContent = `${short(100 * share, 3)} % of the arrow`;
  $("arrow-step").setAttribute("aria-valuetext", $("arrow-level").textContent);
  $("arrow-walk").setAttribute("aria-valuetext", $("arrow-share").textContent);
  const length = LEVELS * Math.sqrt(meanSquare(mix([1, guess], [-1, x])));
  const end = index ? LEVELS * Math.sqrt(meanSquare(mix([1, guess], [-1, steps[index - 1].guess]))) : null;
  const turn = index ? (180 / Math.PI) * Math.acos(Math.min(1, agreement(steps[index].noise, steps[index - 1].noise))) : null;
  $("arrow-seen").textContent = `The picture is one point among ${x.length.toLocaleString("en")} numbers. The arrow would change each of them by ${short(length)} levels of 255, on average`
    + (index ? `; since the step before its end moved by ${short(end)}, and it turned by ${short(turn)}°. So one goes a little along it and looks again.` : ". It leads to a guess, not to the picture, so one goes only a little along it and looks again.");
}
