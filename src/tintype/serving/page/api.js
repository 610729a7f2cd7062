// The server, and small things that every view uses.

export const $ = (id) => document.getElementById(id);

export async function api(path, body, method) {
  const options = { method: method ?? (body === undefined ? "GET" : "POST") };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server cannot be reached");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error?.message ?? `the server says ${answer.status}`);
  return found;
}

// Follow a job until it is over; the browser attaches again by itself when the connection breaks.
export function follow(id, hear) {
  const source = new EventSource(`/api/jobs/${id}/events`);
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    if (!["waiting", "running"].includes(state.status)) source.close();
    hear(state);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) hear({ status: "failed", error: { message: "the connection was lost" } });
  });
  return () => source.close();
}

let toasting;
export function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toasting);
  toasting = setTimeout(() => { $("toast").textContent = ""; }, 4000);
}

export function element(name, members = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(members)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function loaded(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("this picture cannot be read"));
    image.src = url;
  });
}

// One step of a job: pictures below each other, each as noisy, guess and noise side by side.
export class Frame {
  constructor(image, rows, sigma) {
    this.image = image;
    this.sigma = sigma;
    this.width = image.naturalWidth / 3;
    this.height = image.naturalHeight / rows;
  }

  draw(canvas, kind, row = 0) {
    const column = ["noisy", "guess", "noise"].indexOf(kind);
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

// A file as a data: URL of a PNG that is no larger than a model could use.
export async function pictureOf(file, most = 1024) {
  const url = URL.createObjectURL(file);
  try {
    const image = await loaded(url);
    const scale = Math.min(1, most / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = element("canvas", { width: Math.round(image.naturalWidth * scale), height: Math.round(image.naturalHeight * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas;
  } finally {
    URL.revokeObjectURL(url);
  }
}

export function bytesOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("this file cannot be read"));
    reader.readAsDataURL(file);
  });
}

// Static in a canvas: what there is before there is a picture.
export function drawStatic(canvas, side = 32) {
  if (canvas.width !== side || canvas.height !== side) Object.assign(canvas, { width: side, height: side });
  canvas.classList.add("small");
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  for (let i = 0; i < pixels.data.length; i++) {
    pixels.data[i] = i % 4 === 3 ? 255 : 128 + 85 * (Math.random() + Math.random() + Math.random() - 1.5);
  }
  context.putImageData(pixels, 0, 0);
}

export const duration = (seconds) => {
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};
