// A network of two numbers in, two out, that learns to name noise: small enough to train while one watches.
import { normal, uniform } from "./pixels.js";

const WIDTH = 48;
const SIGMA_DATA = 0.5;
const [RATE, BETA1, BETA2] = [0.004, 0.9, 0.99];
const INPUTS = 4; // place, noise level, 1

// The weights: two hidden layers; Adam's moments beside them.
export function fresh(seed) {
  const sizes = [INPUTS * WIDTH, WIDTH * WIDTH, WIDTH * 2];
  const fans = [INPUTS, WIDTH, WIDTH];
  const layers = sizes.map((size, i) => normal(seed + i, size).map((value) => (i === 2 ? 0 : value * Math.sqrt(2 / fans[i]))));
  return { layers, means: sizes.map((size) => new Float32Array(size)), squares: sizes.map((size) => new Float32Array(size)), steps: 0 };
}

const inputs = ([x, y], sigma) => {
  const scale = 1 / Math.sqrt(SIGMA_DATA ** 2 + sigma * sigma);
  return [x * scale, y * scale, Math.log(sigma) / 2, 1];
};

function product(weights, values, size) {
  const sums = new Float32Array(size);
  for (let i = 0; i < values.length; i++) for (let j = 0; j < size; j++) sums[j] += values[i] * weights[i * size + j];
  return sums;
}

function forward({ layers }, place, sigma) {
  const first = inputs(place, sigma);
  const second = product(layers[0], first, WIDTH).map((value) => Math.max(0, value));
  const third = product(layers[1], second, WIDTH).map((value) => Math.max(0, value));
  return { first, second, third, noise: product(layers[2], third, 2) };
}

// The noise that the network names at a place, and the guess that follows from it.
export const nameNoise = (net, place, sigma) => forward(net, place, sigma).noise;
export const learnedGuess = (net, place, sigma) => {
  const noise = nameNoise(net, place, sigma);
  return place.map((value, i) => value - sigma * noise[i]);
};

// One step: noise on `batch` data points, the error of the noise named, and a small change of every weight (Adam, Kingma
// and Ba 2014, arXiv 1412.6980). Returns the mean squared error.
export function learn(net, points, batch, low, high) {
  const gradients = net.layers.map((layer) => new Float32Array(layer.length));
  const random = uniform(1000003 * net.steps + 17);
  const draws = normal(net.steps + 99, 2 * batch);
  let error = 0;
  for (let b = 0; b < batch; b++) {
    const point = points[Math.floor(random() * points.length)];
    const sigma = low * (high / low) ** random();
    const noise = [draws[2 * b], draws[2 * b + 1]];
    const pass = forward(net, point.map((value, i) => value + sigma * noise[i]), sigma);
    const wrong = noise.map((value, i) => pass.noise[i] - value);
    error += (wrong[0] ** 2 + wrong[1] ** 2) / 2;
    backward(net, pass, wrong, gradients);
  }
  update(net, gradients, batch);
  return error / batch;
}

function backward({ layers }, { first, second, third }, wrong, gradients) {
  let back = wrong;
  [third, second, first].forEach((values, i) => {
    const layer = 2 - i;
    const size = back.length;
    const before = new Float32Array(values.length);
    for (let a = 0; a < values.length; a++) {
      for (let b = 0; b < size; b++) {
        gradients[layer][a * size + b] += values[a] * back[b];
        before[a] += layers[layer][a * size + b] * back[b];
      }
      if (values[a] <= 0) before[a] = 0;
    }
    back = before;
  });
}

function update(net, gradients, batch) {
  net.steps++;
  const rate = RATE * Math.sqrt(1 - BETA2 ** net.steps) / (1 - BETA1 ** net.steps);
  net.layers.forEach((layer, l) => {
    for (let i = 0; i < layer.length; i++) {
      const gradient = gradients[l][i] / batch;
      net.means[l][i] += (1 - BETA1) * (gradient - net.means[l][i]);
      net.squares[l][i] += (1 - BETA2) * (gradient * gradient - net.squares[l][i]);
      layer[i] -= (rate * net.means[l][i]) / (Math.sqrt(net.squares[l][i]) + 1e-8);
    }
  });
}
