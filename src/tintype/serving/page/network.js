// The network: one call answers a noisy picture with the model's guess. All else is arithmetic, and done in this page.
import { api } from "./api.js";
import { mix } from "./pixels.js";

const CHUNK = 0x8000; // bytes that one call turns into characters

function base64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK) text += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
  return btoa(text);
}

function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// The guesses at the clean pictures: x is one noisy picture for all captions, or a list with one for each.
export async function denoise({ model, shape, x, sigma, prompts }) {
  const all = Array.isArray(x) ? x : [x];
  const joined = new Float32Array(all.length * all[0].length);
  all.forEach((values, i) => joined.set(values, i * values.length));
  const answer = await api("api/denoise", { model: model.name, ...shape, sigma, prompts, x: base64(joined) });
  const guesses = numbers(answer.denoised);
  return prompts.map((_, i) => guesses.subarray(i * all[0].length, (i + 1) * all[0].length));
}

// The noise in x at a noise level, if the clean picture is the guess.
export const noiseIn = (x, guess, sigma) => mix([1 / sigma, x], [-1 / sigma, guess]);

// From the guess without a caption towards the guess with it, `scale` times as far (Ho and Salimans 2022, arXiv 2207.12598).
export const guide = (guess, empty, scale) => (scale === 1 ? guess : mix([1 - scale, empty], [scale, guess]));

// The scale of guidance that acts at a noise level: it fades at both ends of the model's interval, as in `tintype generate`.
export function scaleAt(model, scale, sigma) {
  const [low, high] = model.guidance_interval;
  const position = Math.min(Math.log(sigma / Math.max(low, 1e-9)), Math.log(high / sigma)) / Math.LN2;
  const share = Math.min(1, Math.max(0, position));
  return 1 + (scale - 1) * share * share * (3 - 2 * share);
}

// The noise levels of so many steps, then 0: the schedule "logistic" of the package, with the model's numbers.
export function levels(steps, { sigma_min: low, sigma_max: high, schedule_center: center, schedule_spread: spread }) {
  const place = (sigma) => 1 / (1 + (sigma / center) ** (-1 / spread));
  const [first, least] = [place(high), place(low)];
  const last = Math.max(least, first / steps);
  const sigmas = Array.from({ length: steps }, (_, i) => {
    const at = steps === 1 ? first : first + ((last - first) * i) / (steps - 1);
    return center * (at / (1 - at)) ** spread;
  });
  sigmas[0] = high;
  if (last === least && steps > 1) sigmas[steps - 1] = low;
  return [...sigmas, 0];
}

// The guesses at several noisy pictures of one noise level under captions of their own, with guidance, in one call.
export async function guess({ model, shape, xs, sigma, prompts, scale }) {
  const guided = prompts.map((prompt, i) => i).filter((i) => scale !== 1 && prompts[i] !== "");
  const guesses = await denoise({ model, shape, sigma, x: [...xs, ...guided.map((i) => xs[i])], prompts: [...prompts, ...guided.map(() => "")] });
  return prompts.map((_, i) => {
    const place = guided.indexOf(i);
    return place < 0 ? guesses[i] : guide(guesses[i], guesses[prompts.length + place], scale);
  });
}

// Develop a picture: one record a step, and the layer of noise that it removes (Euler's method).
export async function* develop({ model, shape, x, prompt, sigmas, guidance, from = 0 }) {
  for (let index = from; index < sigmas.length - 1; index++) {
    const [sigma, next] = [sigmas[index], sigmas[index + 1]];
    const [guessed] = await guess({ model, shape, xs: [x], sigma, prompts: [prompt], scale: scaleAt(model, guidance, sigma) });
    const noise = noiseIn(x, guessed, sigma);
    yield { index, sigma, next, x, guess: guessed, noise };
    x = mix([1, x], [next - sigma, noise]);
  }
}
