// The plane of two numbers: its data, and the denoiser that knows it exactly. Mathematics only.
import { uniform } from "./pixels.js";

const NUM_POINTS = 160;

// The mean of the data points, each weighed by how likely the noise led from it to the place [x, y] (Karras et al. 2022,
// arXiv 2206.00364, eq. 57).
export function exactGuess(points, [x, y], sigma) {
  const logits = points.map(([a, b]) => -((x - a) ** 2 + (y - b) ** 2) / (2 * sigma * sigma));
  const peak = Math.max(...logits);
  let [total, u, v] = [0, 0, 0];
  logits.forEach((logit, i) => {
    const weight = Math.exp(logit - peak);
    total += weight;
    u += weight * points[i][0];
    v += weight * points[i][1];
  });
  return [u / total, v / total];
}

// From one noise level to the next lower one along the arrow: Euler's method, as for pictures.
export function along(place, guess, sigma, next) {
  const share = 1 - next / sigma;
  return place.map((value, i) => value + share * (guess[i] - value));
}

// Noise levels from high to low, evenly in their logarithm, then 0.
export function planeLevels(high, low, steps) {
  return [...Array.from({ length: steps }, (_, i) => high * (low / high) ** (i / (steps - 1))), 0];
}

export const DATA = { moons, ring, word, four };

function moons() {
  const random = uniform(1);
  return Array.from({ length: NUM_POINTS }, (_, i) => {
    const [angle, jitter] = [Math.PI * random(), 0.06 * (random() - 0.5)];
    const upper = i % 2 === 0;
    return [0.6 * ((upper ? Math.cos(angle) : 1 - Math.cos(angle)) - 0.5) + jitter, 0.6 * (upper ? Math.sin(angle) - 0.15 : 0.35 - Math.sin(angle)) + jitter];
  });
}

function ring() {
  return Array.from({ length: NUM_POINTS }, (_, i) => [0.7 * Math.cos((2 * Math.PI * i) / NUM_POINTS), 0.7 * Math.sin((2 * Math.PI * i) / NUM_POINTS)]);
}

function four() {
  const random = uniform(2);
  return Array.from({ length: NUM_POINTS }, (_, i) => [(i % 2 ? 0.6 : -0.6) + 0.08 * (random() - 0.5), (i % 4 < 2 ? 0.6 : -0.6) + 0.08 * (random() - 0.5)]);
}

// The word "hi", from strokes.
function word() {
  const strokes = [[[-0.6, 0.6], [-0.6, -0.5]], [[-0.6, 0.05], [-0.35, 0.15]], [[-0.35, 0.15], [-0.15, 0]], [[-0.15, 0], [-0.15, -0.5]], [[0.35, 0.1], [0.35, -0.5]], [[0.33, 0.4], [0.37, 0.42]]];
  const lengths = strokes.map(([a, b]) => Math.hypot(b[0] - a[0], b[1] - a[1]));
  const spacing = lengths.reduce((a, b) => a + b) / NUM_POINTS;
  return strokes.flatMap(([a, b], s) => {
    const num = Math.max(2, Math.round(lengths[s] / spacing));
    return Array.from({ length: num }, (_, i) => [0, 1].map((axis) => a[axis] + ((b[axis] - a[axis]) * i) / (num - 1)));
  });
}
