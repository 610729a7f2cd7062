// Chapter 5: the same static under several captions, and how far guidance follows them.
import { $, short } from "./api.js";
import { attempt } from "./attempt.js";
import { guess, levels, noiseIn } from "./network.js";
import { LEVELS, draw, mix, normal, randomSeed, uniform } from "./pixels.js";
import { currentModel, examples } from "./subject.js";

const STEPS = 12;
const state = { number: 0, model: "", seed: 5, prompts: [], steps: [], shape: null };
const figures = () => [...$("caption-quad").children];

export function start() {
  $("caption-ask").addEventListener("submit", (event) => { event.preventDefault(); attempt(begin); });
  $("caption-dice").addEventListener("click", () => { state.seed = randomSeed(); attempt(begin); });
  $("caption-guidance").addEventListener("input", () => attempt(begin));
  $("caption-step").addEventListener("input", show);
  Object.assign($("caption-step"), { max: STEPS - 1, value: STEPS - 1 });
}

export async function enter() {
  if (state.model === currentModel().name) return;
  $("caption-a").value = examples()[0];
  $("caption-b").value = examples()[1] ?? "";
  $("caption-guidance").value = currentModel().guidance;
  await begin();
}

// The words of a caption in another order, where there is one.
export function shuffled(caption, seed) {
  const words = caption.split(/\s+/).filter(Boolean);
  const random = uniform(seed);
  for (let trial = 0; trial < 20; trial++) {
    const order = words.map((word) => [random(), word]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
    if (order.join(" ") !== words.join(" ")) return order.join(" ");
  }
  return words.join(" ");
}

// All four pictures step by step; guidance acts at every level, so that 0 is truly without the caption.
async function begin() {
  const number = ++state.number;
  const model = currentModel();
  const shape = { width: model.width, height: model.height };
  const a = $("caption-a").value.trim();
  const prompts = [a, $("caption-b").value.trim(), shuffled(a, 3), ""];
  const scale = Number($("caption-guidance").value);
  $("caption-scale").textContent = String(scale);
  const start = normal(state.seed, 3 * shape.width * shape.height).map((value) => value * model.sigma_max);
  const sigmas = levels(STEPS, model);
  let xs = prompts.map(() => start);
  Object.assign(state, { model: model.name, prompts, shape });
  const steps = [];
  for (let i = 0; i < STEPS; i++) {
    const guesses = await guess({ model, shape, xs, sigma: sigmas[i], prompts, scale });
    if (number !== state.number) return;
    steps.push({ sigma: sigmas[i], guesses });
    state.steps = steps;
    show();
    xs = xs.map((x, p) => mix([1, x], [sigmas[i + 1] - sigmas[i], noiseIn(x, guesses[p], sigmas[i])]));
  }
}

function show() {
  const index = Math.min(Number($("caption-step").value), state.steps.length - 1);
  if (index < 0) return;
  const { sigma, guesses } = state.steps[index];
  const names = ["One caption", "Another", "Words shuffled", "No caption"];
  figures().forEach((figure, i) => {
    const canvas = figure.querySelector("canvas");
    draw(canvas, guesses[i], state.shape);
    canvas.setAttribute("aria-label", `${names[i]}: ${state.prompts[i] || "nothing"}`);
    figure.querySelector("span").textContent = state.prompts[i] || "nothing at all";
  });
  $("caption-step").setAttribute("aria-valuetext", `step ${index + 1} of ${STEPS}`);
  const apart = (i) => (LEVELS * mix([1, guesses[0]], [-1, guesses[i]]).reduce((sum, value) => sum + Math.abs(value), 0)) / guesses[0].length;
  $("caption-seen").textContent = `Step ${index + 1} of ${STEPS}, noise level ${short(sigma)}, guidance ${$("caption-scale").textContent}. From the first picture the second differs by ${short(apart(1))} of 255 levels on average, `
    + `that of the shuffled words by ${short(apart(2))}, and that without a caption by ${short(apart(3))}. They all began as the same static.`;
}
