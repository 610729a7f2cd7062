// The page: form, plates, strip of steps. The worker draws.
"use strict";

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("page").textContent);
const plates = { noisy: ".noisy canvas", noise: ".noise canvas", guess: "#guess" };
const plate = (name) => document.querySelector(plates[name]);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const PLAY_MS = 90;
const NOISE_MS = 110;
const MAX_STRIP = 24; // steps in the strip
let worker = null;
let frames = []; // of the picture on display, a step each
let shown = null; // the step on display; null: the newest
let current = null; // the picture that is being drawn, or is on display: { id, caption, numSteps, seed }
let isOpen = false;
let playing = null;
let usedSeed = null;
let numDrawn = 0;

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

// The theme chosen last time, or else the system's.
function startTheme() {
  const key = "tintype-theme";
  try {
    const theme = localStorage.getItem(key);
    if (theme) document.documentElement.dataset.theme = theme;
  } catch { /* storage may be forbidden */ }
  $("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
    const theme = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem(key, theme); } catch { /* likewise */ }
  });
}

function paint(canvas, pixels) {
  const [width, height] = page.pixels;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", Math.max(width, height) <= 160);
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}

// Static on the plates until there is a picture.
function shimmer() {
  const draw = () => {
    if (frames.length) return;
    for (const name of Object.keys(plates)) {
      const pixels = new Uint8ClampedArray(4 * page.pixels[0] * page.pixels[1]);
      for (let i = 0; i < pixels.length; i++) pixels[i] = i % 4 === 3 ? 255 : 128 + 85 * (Math.random() + Math.random() + Math.random() - 1.5);
      paint(plate(name), pixels);
    }
  };
  draw();
  setInterval(() => { if (!calm.matches && !document.hidden) draw(); }, NOISE_MS);
}

function randomSeed() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

// A whole number up to the limit in the field, or null.
function seedInField() {
  const digits = $("seed").value.trim().replace(/^0+(?=\d)/, "");
  const limit = page.limits.seed;
  const isSeed = /^\d+$/.test(digits) && (digits.length < limit.length || (digits.length === limit.length && digits <= limit));
  return isSeed ? digits : null;
}

// The request that the form describes; says what is wrong and returns null where it describes none.
function requestOfForm() {
  const caption = $("caption").value;
  const [numSteps, guidance] = [Number($("steps").value), Number($("guidance").value)];
  const largest = page.steps.at(-1);
  let wrong = null;
  if (!caption.trim()) wrong = ["caption", "Say what to draw"];
  else if (seedInField() === null) wrong = ["seed", `Seed must be a whole number from 0 to ${page.limits.seed}`];
  else if (!page.steps.includes(numSteps)) wrong = ["steps", `Steps must be a whole number from 1 to ${page.steps.length < largest ? `${page.steps.length - 1}, or ${largest}` : largest}`];
  else if ($("guidance").value === "" || !(guidance >= 0 && guidance <= page.limits.guidance)) wrong = ["guidance", `Guidance must be a number from 0 to ${page.limits.guidance}`];
  if (wrong === null) return { caption, seed: seedInField(), numSteps, guidance };
  say(wrong[1], true);
  $(wrong[0]).focus();
  return null;
}

function draw() {
  if ($("go").disabled) return;
  const isKept = $("lock").getAttribute("aria-pressed") === "true";
  if (!isKept && $("seed").value === usedSeed) randomSeed();
  const request = requestOfForm();
  if (request === null) return;
  stopPlaying();
  usedSeed = $("seed").value;
  current = { id: ++numDrawn, ...request };
  [frames, shown] = [[], null];
  setOpen(true);
  say("drawing");
  $("save").parentElement.hidden = $("time").hidden = true;
  $("examples").hidden = true;
  $("where").textContent = "\u00a0";
  worker.postMessage({ kind: "draw", ...current });
}

function cancel() {
  if (isOpen) worker.postMessage({ kind: "cancel" });
}

function setOpen(value) {
  isOpen = value;
  document.body.classList.toggle("busy", value);
  $("cancel").hidden = !value;
}

function show() {
  const index = shown ?? frames.length - 1;
  const frame = frames[index];
  if (!frame) return;
  for (const name of Object.keys(plates)) paint(plate(name), frame[name]);
  plate("guess").setAttribute("aria-label", `The model's guess at step ${index + 1}: ${current.caption}`);
  $("where").textContent = `step ${index + 1} of ${current.numSteps} · noise level ${Number(frame.sigma.toPrecision(3))}`;
  showStrip(index);
}

function showStrip(index) {
  $("time").hidden = frames.length < 2;
  Object.assign($("scrub"), { max: Math.max(1, frames.length - 1), value: index });
  $("scrub").setAttribute("aria-valuetext", `step ${index + 1} of ${current.numSteps}`);
  const every = Math.ceil(current.numSteps / MAX_STRIP);
  const steps = frames.map((_, i) => i).filter((i) => i % every === 0);
  $("time").style.setProperty("--steps", Math.ceil(current.numSteps / every));
  const strip = $("strip");
  if (strip.dataset.id !== String(current.id)) strip.replaceChildren();
  strip.dataset.id = current.id;
  for (const step of steps.slice(strip.children.length)) {
    const small = document.createElement("canvas");
    small.addEventListener("click", () => goTo(step));
    paint(small, frames[step].guess);
    strip.append(small);
  }
  steps.forEach((step, i) => strip.children[i].classList.toggle("now", step <= index && index < step + every));
}

function goTo(step) {
  stopPlaying();
  shown = step;
  show();
}

function play() {
  if (playing) return stopPlaying();
  shown = 0;
  $("play").textContent = "❚❚";
  $("play").setAttribute("aria-label", "Stop");
  playing = setInterval(() => {
    show();
    if (shown >= frames.length - 1) stopPlaying();
    else shown += 1;
  }, Math.max(30, Math.min(PLAY_MS, 3000 / frames.length)));
  return undefined;
}

function stopPlaying() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "▶";
  $("play").setAttribute("aria-label", "Play");
}

function fileName({ caption, seed }) {
  const words = caption.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
  return `${words || "picture"}-s${seed}.png`;
}

const answers = {
  progress({ share }) {
    $("unpacking").value = share;
    say(`unpacking the model: ${Math.floor(100 * share)} %`);
  },
  ready({ isFast, licenses }) {
    $("unpacking").hidden = true;
    $("licenses").textContent = licenses;
    $("go").disabled = false;
    say(isFast ? "" : "This browser has no fast arithmetic (SIMD in WebAssembly), so a picture takes a while");
    document.body.dataset.ready = "true";
  },
  // There is a graphics card: it is used if it is faster, or if it is chosen.
  engine({ isGpu, milliseconds }) {
    $("engines").hidden = false;
    $("engine").value = isGpu ? "card" : "processor";
    [...$("engine").options].forEach((option, i) => { option.textContent += ` (${Math.max(1, Math.round(milliseconds[i]))} ms)`; });
    document.body.dataset.gpu = "yes";
  },
  noGpu({ reason }) {
    document.body.dataset.gpu = reason;
  },
  step({ id, index, frame }) {
    if (id !== current.id) return;
    frames[index] = frame;
    if (shown === null) show();
    else showStrip(shown);
  },
  done({ id, png, notes, hasGpu, seconds }) {
    if (id !== current.id) return;
    setOpen(false);
    URL.revokeObjectURL($("save").href);
    Object.assign($("save"), { href: URL.createObjectURL(png), download: fileName(current) });
    $("actions").hidden = false;
    if (!hasGpu) $("engines").hidden = true;
    say([`done in ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`, ...notes].join(" · "));
  },
  cancelled({ id }) {
    if (id !== current.id) return;
    setOpen(false);
    say("cancelled");
  },
  failed({ message }) {
    setOpen(false);
    $("unpacking").hidden = true;
    say(message, true);
  },
};

function startForm() {
  Object.assign($("steps"), { value: page.usual.steps, max: page.steps.at(-1) });
  Object.assign($("guidance"), { value: page.usual.guidance, max: page.limits.guidance });
  randomSeed();
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  $("caption").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); draw(); }
  });
  $("caption").addEventListener("input", fitCaption);
  addEventListener("keydown", (event) => { if (event.key === "Escape") cancel(); });
  $("lock").addEventListener("click", () => $("lock").setAttribute("aria-pressed", String($("lock").getAttribute("aria-pressed") !== "true")));
  $("dice").addEventListener("click", randomSeed);
  $("cancel").addEventListener("click", cancel);
  $("engine").addEventListener("change", () => worker.postMessage({ kind: "use", isGpu: $("engine").value === "card" }));
  $("play").addEventListener("click", play);
  $("scrub").addEventListener("input", () => goTo(Number($("scrub").value)));
  $("examples").hidden = page.examples.length === 0;
  $("examples").replaceChildren(...page.examples.map((text) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.addEventListener("click", () => { $("caption").value = text; fitCaption(); draw(); });
    return button;
  }));
}

function fitCaption() {
  $("caption").style.height = "auto";
  $("caption").style.height = `${$("caption").scrollHeight + 2}px`;
}

// The packed model: texts in this page, or a file beside it.
async function parts() {
  const elements = [...document.querySelectorAll("script.part")];
  if (elements.length) return elements.map((element) => { const { textContent } = element; element.remove(); return textContent; });
  if (location.protocol === "file:") throw new Error("This folder is for a web server; for a page that opens from a disk, export with --to page");
  const response = await fetch(page.file);
  if (!response.ok) throw new Error(`Cannot fetch ${page.file}: the server says ${response.status}`);
  return [new Uint8Array(await response.arrayBuffer())];
}

async function start() {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined") {
    return answers.failed({ message: "This browser is too old to unpack the model; a newer one can" });
  }
  try {
    worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => answers[data.kind](data);
    worker.onerror = (event) => answers.failed({ message: event.message || "This browser lets no worker run in this page" });
    worker.postMessage({ kind: "unpack", page, parts: await parts() });
  } catch (error) {
    answers.failed({ message: error.message });
  }
  return undefined;
}

startTheme();
startForm();
shimmer();
say("unpacking the model");
addEventListener("DOMContentLoaded", start);
