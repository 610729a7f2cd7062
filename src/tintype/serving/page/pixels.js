// Pictures as numbers, as the model has them: red, then green, then blue, each row by row; -1 is black, 1 white.
import { element } from "./api.js";

export const LEVELS = 127.5; // of 255 on the screen, for one unit

// The sum of numbers times factors: mix([1, x], [-sigma, noise]).
export function mix(...terms) {
  const sum = new Float32Array(terms[0][1].length);
  for (const [factor, values] of terms) for (let i = 0; i < sum.length; i++) sum[i] += factor * values[i];
  return sum;
}

export function meanSquare(values) {
  let sum = 0;
  for (const value of values) sum += value * value;
  return sum / values.length;
}

export function variance(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return meanSquare(values) - (sum / values.length) ** 2;
}

// How much two lists agree: 1 the same direction, 0 none in common (their cosine).
export function agreement(a, b) {
  let product = 0;
  for (let i = 0; i < a.length; i++) product += a[i] * b[i];
  return product / (a.length * Math.sqrt(meanSquare(a) * meanSquare(b)) || 1);
}

// Uniform numbers from 0 to 1, the same for the same seed (mulberry32).
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Standard normal numbers (Box and Muller 1958), the same for the same seed.
export function normal(seed, length) {
  const next = uniform(seed);
  const values = new Float32Array(length);
  for (let i = 0; i < length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < length) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

export function draw(canvas, values, { width, height }) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", Math.max(width, height) <= 160);
  canvas.parentElement?.style.setProperty("--aspect", width / height);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const size = width * height;
  for (let i = 0; i < size; i++) {
    for (let channel = 0; channel < 3; channel++) pixels.data[4 * i + channel] = LEVELS * (values[channel * size + i] + 1) + 0.5;
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

// How far a noisy picture is dimmed to fit the screen: not at all without noise, to half where all is noise of level 1.
const NOISE_SHOWN = 0.5; // at its full strength, a third of the dots would be too bright or too dark
export const dimming = (sigma) => 1 / Math.hypot(1, sigma / NOISE_SHOWN);

// A noisy picture, or a part of one, dimmed as its noise level needs.
export const drawNoisy = (canvas, x, sigma, shape) => draw(canvas, mix([dimming(sigma), x]), shape);

// Noise by itself, as it looks in complete static.
export const drawNoise = (canvas, noise, shape) => draw(canvas, mix([NOISE_SHOWN, noise]), shape);

// How far two pictures differ, dot by dot: black is no difference, white `most` or more.
export function drawChange(canvas, change, shape, most = 0.5) {
  const size = shape.width * shape.height;
  const values = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) {
    const largest = Math.max(...[0, 1, 2].map((channel) => Math.abs(change[channel * size + i])));
    values.fill(2 * Math.min(1, largest / most) - 1, i, i + 1);
    values[size + i] = values[2 * size + i] = values[i];
  }
  draw(canvas, values, shape);
}

// The share of dots of which any color changed by more than `levels` of 255.
export function shareChanged(change, levels = 1) {
  const size = change.length / 3;
  let count = 0;
  for (let i = 0; i < size; i++) if ([0, 1, 2].some((channel) => LEVELS * Math.abs(change[channel * size + i]) > levels)) count++;
  return size ? count / size : 0;
}

// What an image or a canvas shows, in a shape: its middle, on white.
export function pixelsOf(image, { width, height }) {
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  const [w, h] = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
  const scale = Math.max(width / w, height / h);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale);
  return fromBytes(context.getImageData(0, 0, width, height).data, width * height);
}

function fromBytes(bytes, size) {
  const values = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) for (let channel = 0; channel < 3; channel++) values[channel * size + i] = bytes[4 * i + channel] / LEVELS - 1;
  return values;
}

// The size of a picture of this shape for a model: about as many pixels as the model's own, in multiples of its patch.
export function shapeFor(model, aspect) {
  if (Math.abs(aspect / (model.width / model.height) - 1) < 0.1) return { width: model.width, height: model.height };
  const side = (share) => Math.max(1, Math.floor((model.resolution * share) / model.patch + 1e-6)) * model.patch;
  const root = Math.sqrt(Math.min(4, Math.max(0.25, aspect)));
  return { width: side(root), height: side(1 / root) };
}
