// Chapter 2: which is the noise in a noisy picture? First the reader, then the model, at every noise level.
import { $, short } from "./api.js";
import { attempt } from "./attempt.js";
import { levelAt } from "./how-static.js";
import { denoise, noiseIn } from "./network.js";
import { LEVELS, agreement, draw, drawNoise, drawNoisy, meanSquare, mix, normal, uniform } from "./pixels.js";
import { plot } from "./plot.js";
import { currentModel, otherNoise, subject } from "./subject.js";

const NUM_LEVELS = 12;
const NAMES = ["A", "B", "C"];
const state = { version: -1, model: "", right: 0, choices: [], answers: new Map(), revealed: false, score: { you: 0, model: 0, rounds: 0 } };

export function start() {
  $("noise-slider").max = NUM_LEVELS - 1;
  $("noise-slider").addEventListener("input", () => attempt(show));
  $("noise-again").addEventListener("click", () => { otherNoise(); attempt(enter); });
  $("noise-reveal").addEventListener("click", () => attempt(tell));
  [...$("noise-choices").children].forEach((button, i) => button.addEventListener("click", () => attempt(() => reveal(i))));
}

const sigmaAt = (index) => levelAt(index / (NUM_LEVELS - 1)) || currentModel().sigma_min;
const sigma = () => sigmaAt(Number($("noise-slider").value));

// A new round for a new picture, noise, caption or model.
export async function enter() {
  if (state.version !== subject.version || state.model !== currentModel().name) {
    const random = uniform(subject.seed ^ 0x5bd1);
    const others = () => normal(random() * 2 ** 32, subject.noise.length);
    Object.assign(state, { version: subject.version, model: currentModel().name, right: Math.floor(random() * NAMES.length), answers: new Map(), revealed: false });
    state.choices = NAMES.map((_, i) => (i === state.right ? subject.noise : others()));
    const name = currentModel().prediction;
    $("noise-same").textContent = `Here the network puts out the ${name}: the page Training calls that “Predicts ${name}”, and this chapter subtracts.`;
  }
  await show();
}

// The answer without a choice, for those who ask for it and for paper.
export const tell = () => reveal(null);

async function reveal(choice) {
  if (state.version !== subject.version) { // the picture has changed since: a new round
    await enter();
    if (choice !== null) return;
  }
  const answer = await ask(sigma());
  if (!state.revealed && choice !== null) {
    const { score } = state;
    score.rounds++;
    if (choice === state.right) score.you++;
    if (pick(answer) === state.right) score.model++;
    $("noise-score").textContent = `You ${score.you} of ${score.rounds}, the model ${score.model} of ${score.rounds}`;
  }
  state.choice = choice;
  state.revealed = true;
  await show();
  for (let i = 0; i < NUM_LEVELS; i++) await ask(sigmaAt(i)); // the curves
  await show();
}

// The model's answer at a noise level: its guess, the noise it names, and how wrong that is.
async function ask(level) {
  const { answers, version } = state;
  if (!answers.has(level)) {
    const x = mix([1, subject.x0], [level, subject.noise]);
    const [guess] = await denoise({ model: currentModel(), shape: subject.shape, x, sigma: level, prompts: [subject.caption] });
    const predicted = noiseIn(x, guess, level);
    const error = meanSquare(mix([1, predicted], [-1, subject.noise]));
    if (version === state.version) answers.set(level, { x, guess, predicted, error, off: LEVELS * level * Math.sqrt(error) });
    else return ask(level);
  }
  return answers.get(level);
}

// The choice that agrees best with the noise which the model has named.
const agreements = (answer) => state.choices.map((choice) => agreement(choice, answer.predicted));
const pick = (answer) => agreements(answer).reduce((best, value, i, all) => (value > all[best] ? i : best), 0);

async function show() {
  const level = sigma();
  const { shape } = subject;
  drawNoisy($("noise-noisy"), mix([1, subject.x0], [level, subject.noise]), level, shape);
  $("noise-level").textContent = `noise level ${short(level)}`;
  $("noise-slider").setAttribute("aria-valuetext", $("noise-level").textContent);
  [...$("noise-choices").children].forEach((button, i) => {
    drawNoise(button.firstElementChild, state.choices[i], shape);
    button.classList.toggle("right", state.revealed && i === state.right);
    button.setAttribute("aria-pressed", String(state.revealed && i === state.choice));
    button.lastElementChild.textContent = state.revealed && i === state.right ? `${NAMES[i]}: it is this` : NAMES[i];
    button.setAttribute("aria-label", `Noise ${NAMES[i]}${state.revealed && i === state.right ? ": it is this one" : ""}`);
  });
  document.querySelectorAll("#how-noise .after").forEach((figure) => figure.classList.toggle("covered", !state.revealed));
  $("noise-plots").hidden = !state.revealed;
  if (!state.revealed) {
    $("noise-error").textContent = $("noise-off").textContent = "after you";
    $("noise-seen").textContent = "Compare a corner of the picture with the same corner of each. With more noise it is easier: try the slider.";
    return;
  }
  const answer = await ask(level);
  if (level !== sigma()) return;
  drawNoise($("noise-predicted"), answer.predicted, shape);
  draw($("noise-guess"), answer.guess, shape);
  $("noise-error").textContent = `error ${short(answer.error)}; 1 is knowing nothing`;
  $("noise-off").textContent = `off by ${answer.off.toFixed(answer.off < 10 ? 1 : 0)} of 255 levels`;
  $("noise-seen").textContent = whatIsSeen(answer);
  curves();
}

const signed = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

function whatIsSeen(answer) {
  const values = agreements(answer).map((value, i) => `${NAMES[i]} ${signed(value)}`).join(", ");
  const you = state.choice === null ? "" : state.choice === state.right ? "You are right. " : `You said ${NAMES[state.choice]}; it is ${NAMES[state.right]}. `;
  return `${you}The model names ${NAMES[pick(answer)]}: what it says agrees with ${values} (1 is the same).${ends()}`;
}

// The errors at both ends, once they are known: what is easy and what is hard.
function ends() {
  const [slight, complete] = [sigmaAt(0), sigmaAt(NUM_LEVELS - 1)].map((level) => state.answers.get(level));
  if (!slight || !complete) return "";
  return ` Slight noise: the picture is off by ${short(slight.off)} levels, the error of the noise is ${short(slight.error)}. Complete static: the picture is off by ${short(complete.off)}, the error of the noise is ${short(complete.error)}.`;
}

// Both errors over the noise level: of the noise, hard at slight levels, and of the picture, hard at complete static.
function curves() {
  if (state.answers.size < 2) return;
  const rows = [...state.answers].sort((a, b) => a[0] - b[0]);
  const axes = { xName: "noise level", logX: true, here: sigma() };
  plot($("noise-plot"), { ...axes, title: "Error of the noise", yName: "1 is knowing nothing", logY: true, curves: [{ name: "this picture", points: rows.map(([level, { error }]) => [level, error]) }] });
  plot($("noise-plot-picture"), { ...axes, title: "Error of the picture", yName: "of 255 levels", curves: [{ name: "this picture", points: rows.map(([level, { off }]) => [level, off]) }] });
}
