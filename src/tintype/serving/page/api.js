// Requests to the server, and helpers of all views.

export const $ = (id) => document.getElementById(id);

const LABELS = { name: "Title", license: "License", num_inference_steps: "Steps", steps: "Steps", guidance_scale: "Guidance", n: "Pictures", negative_prompt: "Negative prompt", prompt: "Caption", width: "Width", height: "Height", seed: "Seed", size: "Size", enlarge: "Enlarge", strength: "Strength", sampler: "Sampler", source_caption: "Its caption", init_image: "The starting picture", mask: "The painted part" };
const STARTING_SECONDS = 60; // to wait for a server that starts
const STARTING = ["server_is_overloaded", "not_ready"]; // codes of errors that pass by themselves

// The message of an error, with the labels of the page in place of the names of fields.
function messageOf(error) {
  const label = LABELS[error.param];
  return label ? error.message.replaceAll(new RegExp(`\\b${error.param}\\b`, "g"), label) : error.message;
}

// The answer to a request. An error has the status, the code and the content of the answer; without them nobody answered.
export async function api(path, body, method) {
  const options = { method: method ?? (body === undefined ? "GET" : "POST") };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const until = Date.now() + 1000 * STARTING_SECONDS;
  for (;;) {
    const response = await fetch(path, options).catch(() => { throw new Error("cannot reach the server"); });
    const content = await response.json().catch(() => ({}));
    if (response.ok) return content;
    const wait = 1000 * Number(response.headers.get("Retry-After"));
    const message = content.error?.message ? messageOf(content.error) : `the server responded with status ${response.status}`;
    if (response.status !== 503 || !STARTING.includes(content.error?.code) || !(wait > 0) || Date.now() + wait > until) {
      throw Object.assign(new Error(message), { status: response.status, code: content.error?.code, content });
    }
    toast(`${message[0].toUpperCase()}${message.slice(1)}: the page tries again`);
    await new Promise((resolve) => { setTimeout(resolve, wait); });
  }
}

export async function file(path) {
  const response = await fetch(path).catch(() => { throw new Error("cannot reach the server"); });
  if (!response.ok) throw new Error(`the server responded with status ${response.status}`);
  return response.blob();
}

// Follow a job to its end; the browser reconnects by itself.
export function follow(id, onState) {
  const source = new EventSource(`api/jobs/${id}/events`);
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    if (!["waiting", "running"].includes(state.status)) source.close();
    onState(state);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) onState({ status: "failed", error: { message: "lost the connection to the server" } });
  });
  return () => source.close();
}

let toastTimer;
export function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").textContent = ""; }, 4000);
}

export function element(name, members = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(members)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("cannot read this picture"));
    image.src = url;
  });
}

// One step of a job, a row per picture: noisy picture, guess and predicted noise side by side.
export class Frame {
  constructor(image, rows, sigma) {
    this.image = image;
    this.sigma = sigma;
    this.width = image.naturalWidth / 3;
    this.height = image.naturalHeight / rows;
  }

  draw(canvas, plate, row = 0) {
    const column = ["noisy", "guess", "noise"].indexOf(plate);
    blit(canvas, this.image, column * this.width, row * this.height, this.width, this.height);
  }
}

export function blit(canvas, image, left, top, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", width <= 160);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, left, top, width, height, 0, 0, width, height);
}

// The picture in a file as a canvas, with sides of at most maxSide pixels.
export async function readPicture(file, maxSide = 1024) {
  const url = URL.createObjectURL(file);
  try {
    const image = await loadImage(url);
    const scale = Math.min(1, maxSide / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = element("canvas", { width: Math.round(image.naturalWidth * scale), height: Math.round(image.naturalHeight * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas;
  } finally {
    URL.revokeObjectURL(url);
  }
}

export function readDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("cannot read this file"));
    reader.readAsDataURL(file);
  });
}

// Noise in a canvas, before there is a picture. aspect: width divided by height; side: pixels, the longer one.
export function drawNoise(canvas, aspect, side = 32) {
  const [width, height] = [Math.min(1, aspect), Math.min(1, 1 / aspect)].map((share) => Math.max(1, Math.round(side * share)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.classList.add("small");
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < pixels.data.length; i++) {
    pixels.data[i] = i % 4 === 3 ? 255 : 128 + 85 * (Math.random() + Math.random() + Math.random() - 1.5);
  }
  context.putImageData(pixels, 0, 0);
}

// A number in two digits that count, as people write it.
export const short = (value, digits = 2) => value.toLocaleString("en", { maximumSignificantDigits: digits });

export const duration = (seconds) => {
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};
