// Chapter 6: a token model and diffusion at the same caption and the same moment; either may be changed half way.
import { $, short } from "./api.js";
import { attempt } from "./attempt.js";
import { develop, levels } from "./network.js";
import { LEVELS, draw, mix, normal, shareChanged } from "./pixels.js";
import { currentModel, examples } from "./subject.js";
import { state as served } from "./state.js";
import { brightness, drawToken, loadTokenModel, write } from "./tokens.js";

const STEPS = 16;
const SEED = 4;
const FRAME_MS = 70; // between moments, one token each
const SPOT = 2; // tokens along the side of a stain
const CLEARLY = 8; // of 255 levels
const calm = matchMedia("(prefers-reduced-motion: reduce)");
// before: both pictures as they would have become without the newest change, and when it was made.
const ways = { number: 0, tokenModel: null, prompt: "", tokens: [], steps: [], final: null, shape: null, before: null, working: false };

export function start() {
  $("ways-ask").addEventListener("submit", (event) => { event.preventDefault(); attempt(begin); });
  $("ways-half").addEventListener("click", () => goTo(Math.floor($("ways-time").max / 2)));
  $("ways-on").addEventListener("click", () => attempt(play));
  $("ways-time").addEventListener("input", () => goTo(moment()));
  $("ways-change").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => change({ prompt: $("ways-other").value.trim() })); });
  $("ways-spot").addEventListener("click", () => attempt(() => change({ spot: middleSpot() })));
  for (const id of ["ways-tokens", "ways-all"]) $(id).addEventListener("click", (event) => attempt(() => change({ spot: spotAt($(id), event) })));
}

// The diffusion model beside it: the one that knows the same world as the token model, where it is served.
const partner = () => served.models.shapes ?? currentModel();
const total = () => ways.tokenModel.rows * ways.tokenModel.columns;
const moment = () => Number($("ways-time").value);
const stepAt = (time) => Math.min(STEPS - 1, Math.floor((time * STEPS) / total()));
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export async function enter() {
  if (ways.tokenModel) return show();
  ways.tokenModel = await loadTokenModel();
  $("ways-time").max = total();
  const known = ways.tokenModel.examples.length > 1 ? ways.tokenModel.examples : examples();
  [$("ways-caption").value, $("ways-other").value] = known;
  await begin();
}

async function begin() {
  if (!ways.tokenModel || ways.working) return;
  const model = partner();
  const number = ++ways.number;
  const shape = { width: model.width, height: model.height };
  Object.assign(ways, { prompt: $("ways-caption").value.trim(), tokens: [], steps: [], final: null, shape, before: null });
  $("ways-time").value = 0;
  $("ways-seen").textContent = "Both begin.";
  const start = normal(SEED, 3 * shape.width * shape.height).map((value) => value * model.sigma_max);
  await bothFrom([], 0, start);
  if (number === ways.number) await play();
}

// All tokens of a picture of which some are given.
async function writeTokens(given) {
  const tokens = [];
  const body = { model: ways.tokenModel.name, prompt: ways.prompt, seed: SEED, tokens: given, alternatives: 0 };
  for await (const event of write(body)) if (event.type === "token") tokens[event.place] = event.token;
  return tokens;
}

// Both pictures to their ends: tokens of which some are given, and steps from one of them on with the noisy picture x.
async function bothFrom(given, from, x) {
  const model = partner();
  const left = writeTokens(given);
  const steps = ways.steps.slice(0, from);
  ways.final = null;
  ways.working = true; // nothing else may begin meanwhile
  try {
    for await (const step of develop({ model, shape: ways.shape, x, prompt: ways.prompt, sigmas: levels(STEPS, model), guidance: model.guidance, from })) steps.push(step);
    Object.assign(ways, { tokens: await left, steps, final: steps.at(-1).guess });
  } finally {
    ways.working = false;
  }
}

// Both go on from the moment on display; reduced motion shows the end at once.
async function play() {
  if (!ways.final) return;
  const number = ++ways.number;
  for (let time = calm.matches ? total() : moment(); time <= total(); time++) {
    if (number !== ways.number) return;
    goTo(time, false);
    if (time < total()) await pause(FRAME_MS);
  }
}

function goTo(time, stop = true) {
  if (stop) ways.number++;
  $("ways-time").value = time;
  show();
}

// A change at the moment on display: another caption, or a stain; then both go on.
async function change({ prompt, spot }) {
  if (!ways.final) return; // still at work
  const time = Math.min(moment(), total() - 1);
  const index = stepAt(time);
  ways.number++;
  const stain = stainFor(ways.tokens);
  ways.before = { tokens: ways.tokens, final: ways.final, time, index, spot, prompt, color: stain.color };
  if (prompt !== undefined) ways.prompt = prompt;
  const given = ways.tokens.slice(0, time);
  let { x } = ways.steps[index];
  if (spot) {
    for (const place of spot) given[place] = stain.token;
    for (let place = 0; place < given.length; place++) given[place] ??= null;
    x = stained(ways.steps[index], spot, stain.color);
  }
  await bothFrom(given, index, x);
  goTo(time);
  await play();
}

// A stain that is seen: the darkest piece where the picture at left is light, else the lightest; color: -1 or 1.
function stainFor(tokens) {
  const all = brightness(ways.tokenModel);
  const color = mean(tokens.map((token) => all[token])) > 0 ? -1 : 1;
  return { color, token: all.reduce((best, value, i) => (color * value > color * all[best] ? i : best), 0) };
}

// The places of a stain under a pointer, or under the middle of what is written.
function spotAt(canvas, event) {
  const { rows, columns } = ways.tokenModel ?? { rows: 1, columns: 1 };
  const box = canvas.getBoundingClientRect();
  return spotFrom(Math.floor(((event.clientY - box.top) / box.height) * rows), Math.floor(((event.clientX - box.left) / box.width) * columns));
}

function middleSpot() {
  const { columns } = ways.tokenModel ?? { columns: 1 };
  return spotFrom(Math.floor(moment() / columns / 2), columns / 2 - 1);
}

function spotFrom(row, column) {
  if (!ways.tokenModel) return [];
  const { rows, columns } = ways.tokenModel;
  const [top, left] = [Math.max(0, Math.min(rows - SPOT, row)), Math.max(0, Math.min(columns - SPOT, column))];
  return Array.from({ length: SPOT * SPOT }, (_, i) => (top + Math.floor(i / SPOT)) * columns + left + (i % SPOT));
}

// The noisy picture with the same stain in the picture and the noise as it was.
function stained({ x, guess }, spot, color) {
  const changed = x.slice();
  const inside = dotsOf(spot);
  for (let i = 0; i < changed.length; i++) if (inside[i % inside.length]) changed[i] += color - guess[i];
  return changed;
}

// Which dots of the picture at right lie in these places.
function dotsOf(places) {
  const { rows, columns } = ways.tokenModel;
  const { width, height } = ways.shape;
  const inside = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (places.includes(Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width))) inside[y * width + x] = 1;
  }
  return inside;
}

function show() {
  const { tokenModel, steps, tokens } = ways;
  if (!ways.final) return;
  const time = moment();
  const index = stepAt(time);
  const step = steps[index];
  drawTokens(time);
  draw($("ways-all"), step.guess, ways.shape);
  $("ways-tokens-say").textContent = `${tokenModel.name}: ${Math.min(time, tokens.length)} of ${total()} pieces are written`;
  $("ways-all-say").textContent = `${partner().name}: step ${index + 1} of ${STEPS}, noise level ${short(step.sigma)}`;
  $("ways-time").setAttribute("aria-valuetext", `moment ${time} of ${total()}`);
  $("ways-seen").textContent = whatIsSeen(time, index);
}

function drawTokens(time) {
  const { rows, columns, patch } = ways.tokenModel;
  const canvas = $("ways-tokens");
  Object.assign(canvas, { width: columns * patch, height: rows * patch });
  canvas.classList.add("small");
  const context = canvas.getContext("2d");
  ways.tokens.slice(0, time).forEach((token, place) => drawToken(ways.tokenModel, context, token, patch * (place % columns), patch * Math.floor(place / columns)));
  if (ways.before?.spot && time < total()) {
    for (const place of ways.before.spot) drawToken(ways.tokenModel, context, ways.tokens[place], patch * (place % columns), patch * Math.floor(place / columns));
  }
}

const percent = (share) => `${Math.round(100 * share)} %`;

function whatIsSeen(time, index) {
  const { before, steps, tokens } = ways;
  if (before && time >= total()) return whatChanged();
  if (!index) return "At left nothing is written yet. At right the whole picture is there, as a first guess.";
  const change = mix([1, steps[index].guess], [-1, steps[index - 1].guess]);
  return `At left ${Math.min(time, tokens.length)} pieces stand for good and ${total() - time} are missing. At right every dot is there, and ${percent(shareChanged(change))} of them changed in this step.`;
}

// What the newest change did to both, from both pictures as they became with it and without.
function whatChanged() {
  const { before, tokens, final } = ways;
  const after = mix([1, final], [-1, before.final]);
  const written = tokens.slice(0, before.time);
  const own = written.filter((token, place) => before.spot?.includes(place)).length;
  const same = written.filter((token, place) => token === before.tokens[place] && !before.spot?.includes(place)).length;
  const left = `At left ${same} of the ${written.length - own} pieces that stood at moment ${before.time} are as they were`;
  if (before.prompt !== undefined) {
    const stood = dotsOf(written.map((token, place) => place));
    const [there, elsewhere] = [1, 0].map((value) => percent(shareChanged(after.filter((_, i) => stood[i % stood.length] === value), CLEARLY)));
    return `${left}: the new caption reached only the rest. At right it reached the whole picture: ${there} of the dots there are clearly different, and ${elsewhere} of the others.`;
  }
  const inside = dotsOf(before.spot);
  const off = (picture) => LEVELS * mean(picture.map((value, i) => Math.abs(value - before.final[i])).filter((_, i) => inside[i % inside.length]));
  const stain = LEVELS * mean(before.final.map((value) => Math.abs(before.color - value)).filter((_, i) => inside[i % inside.length]));
  return `${left}, and the stain stays. At right the stain was ${stain.toFixed(0)} of 255 levels off and is now ${off(final).toFixed(0)}: ${off(final) < stain / 2 ? "it was revised away" : "too late, so little noise was left that it stayed"}.`;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
