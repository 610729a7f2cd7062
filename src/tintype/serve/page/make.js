// Developing pictures: ask, watch every step, go back to one, develop again from there.
import { $, Frame, api, bytesOf, drawStatic, duration, element, follow, loaded, pictureOf, toast } from "./api.js";
import * as gallery from "./gallery.js";
import { Painter } from "./paint.js";

const SCALES = [1, 2, 4, 8];
const SEEDS = 9;
const PLAY_MS = 90;
const STATIC_MS = 110;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let models = {};
let jobs = []; // of the newest request: { id, label, ask, frames, rows, status, total, stop }
let at = { job: 0, row: 0, step: null }; // what the plates show; step null: the newest
let from = null; // { url, canvas } of the picture to start from
let playing = null;
let painter;
let usedSeed = null;

const plates = { noisy: ".noisy canvas", noise: ".noise canvas", guess: "#guess" };
const plate = (kind) => document.querySelector(plates[kind]);
const model = () => models[$("model").value];
const isOpen = (job) => ["sending", "waiting", "running"].includes(job.status);
const busy = () => jobs.some(isOpen);
const whole = (input, otherwise) => (input.value.trim() === "" ? otherwise : Number(input.value));

export function start(found, samplers) {
  models = found;
  $("sampler").replaceChildren(...samplers.map((name) => element("option", { value: name, textContent: name })));
  painter = new Painter($("paint"), $("brush"));
  useModel();
  dice();
  listen();
  shimmer();
  gallery.start({ redo, settings: useReceipt, from: (image) => startFrom(image) });
}

export function useModel() {
  const own = model();
  if (!own) return;
  Object.assign($("steps"), { value: own.steps, max: own.max_steps });
  $("guidance").value = own.guidance;
  $("sampler").value = own.sampler;
  for (const name of ["width", "height"]) Object.assign($(name), { value: own.resolution, step: own.patch, min: own.patch });
}

function listen() {
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); develop(); });
  $("caption").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); develop(); }
  });
  $("caption").addEventListener("input", fit);
  addEventListener("keydown", (event) => {
    if ($("develop").hidden) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) develop();
    if (event.key === "Escape") $("painting").hidden ? cancel() : paint(false);
  });
  const clicks = {
    cancel, dice, seeds: () => develop({ n: SEEDS }), scales: compare, play, again, copy,
    lock: () => $("lock").setAttribute("aria-pressed", $("lock").getAttribute("aria-pressed") !== "true"),
    mask: () => paint(true), "paint-done": () => paint(false), "paint-clear": () => painter.wipe(), "paint-go": repaint,
    "start-clear": () => startFrom(null),
  };
  for (const [id, does] of Object.entries(clicks)) $(id).addEventListener("click", () => does());
  $("scrub").addEventListener("input", () => { stopPlaying(); at.step = steps()[Number($("scrub").value)] ?? null; show(); });
  $("strength").addEventListener("input", () => { document.querySelector("output[for=strength]").textContent = Number($("strength").value).toFixed(2); });
  $("open").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
}

function fit() {
  $("caption").style.height = "auto";
  $("caption").style.height = `${$("caption").scrollHeight + 2}px`;
}

function dice() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

// A seed that was typed or kept is used; one that has made its picture makes room for another.
function freshSeed() {
  if ($("lock").getAttribute("aria-pressed") !== "true" && $("seed").value === usedSeed) dice();
  usedSeed = $("seed").value;
}

// --- asking --------------------------------------------------------------------------------------------------------

function settings(more = {}) {
  const text = /^\d{1,19}$/.test($("seed").value.trim()) ? $("seed").value.trim() : "0";
  const own = {
    model: $("model").value,
    prompt: $("caption").value,
    seed: JSON.rawJSON ? JSON.rawJSON(BigInt(text).toString()) : Number(text),
    n: whole($("num"), 1),
    num_inference_steps: whole($("steps"), null),
    guidance_scale: whole($("guidance"), null),
    negative_prompt: $("negative").value || null,
    sampler: $("sampler").value,
    width: whole($("width"), null),
    height: whole($("height"), null),
  };
  if (from) Object.assign(own, { init_image: from.url, strength: Number($("strength").value) });
  return { ...own, ...more };
}

function develop(more) {
  freshSeed();
  send([{ ask: settings(more), label: "" }]);
}

function compare() {
  usedSeed = $("seed").value;
  send(SCALES.map((scale) => ({ ask: settings({ n: 1, guidance_scale: scale }), label: `guidance ${scale}` })));
}

async function send(wanted) {
  cancel();
  stopPlaying();
  paint(false);
  const made = wanted.map((one) => ({ ...one, frames: new Map(), rows: one.ask.n ?? 1, status: "sending", total: 0, stop() {} }));
  jobs = made;
  at = { job: 0, row: 0, step: null };
  describe();
  others();
  for (const job of made) {
    try {
      const state = await api("/api/jobs", job.ask);
      job.id = state.id;
      if (job.status === "cancelled") { api(`/api/jobs/${job.id}`, undefined, "DELETE").catch(() => {}); continue; }
      job.stop = follow(job.id, (now) => hear(job, now));
    } catch (error) {
      Object.assign(job, { status: "failed", message: error.message });
      describe();
    }
  }
}

export function cancel() {
  for (const job of jobs.filter(isOpen)) {
    job.stop();
    job.status = "cancelled";
    if (job.id) api(`/api/jobs/${job.id}`, undefined, "DELETE").catch(() => {});
  }
  describe();
}

async function hear(job, state) {
  if (job.status === "cancelled") return;
  Object.assign(job, { status: state.status, total: state.total ?? job.total, position: state.position, left: state.seconds_left, warning: state.warning, message: state.error?.message, seconds: state.seconds });
  if (state.step && !job.frames.has(state.step.index)) {
    job.frames.set(state.step.index, new Frame(await loaded(state.step.strip), state.step.rows, state.step.sigma));
  }
  if (jobs.includes(job)) { show(); describe(); }
  if (state.status === "done") await complete(job, state);
}

async function complete(job, state) {
  const missing = Object.entries(state.sigmas).filter(([index]) => !job.frames.has(Number(index)));
  await Promise.all(missing.map(async ([index, sigma]) => {
    job.frames.set(Number(index), new Frame(await loaded(`/api/jobs/${job.id}/steps/${index}.png`), job.rows, sigma));
  }));
  job.pictures = await Promise.all(state.pictures.map(async ({ url, receipt }) => ({ receipt, blob: await (await fetch(url)).blob() })));
  if (jobs.includes(job)) { show(); describe(); }
  for (const { blob, receipt } of job.pictures) await gallery.keep(blob, receipt);
}

// --- showing -------------------------------------------------------------------------------------------------------

const current = () => jobs[at.job];
const steps = (job = current()) => (job ? [...job.frames.keys()].sort((a, b) => a - b) : []);
const step = () => (at.step !== null && current()?.frames.has(at.step) ? at.step : steps().at(-1));

function show() {
  const job = current();
  const index = step();
  const frame = job?.frames.get(index);
  $("bench").dataset.idle = String(!frame);
  if (frame) {
    for (const kind of Object.keys(plates)) frame.draw(plate(kind), kind, Math.min(at.row, job.rows - 1));
    plate("guess").setAttribute("aria-label", `What the model believes the picture is, at step ${index + 1}: ${job.ask.prompt}`);
    $("where").textContent = `step ${index + 1} of ${job.total} · noise level ${frame.sigma.toPrecision(3)}`;
  } else $("where").textContent = "\u00a0";
  film(index);
  others();
}

function film(index) {
  const all = steps();
  $("time").hidden = all.length < 2;
  const place = all.indexOf(index);
  Object.assign($("scrub"), { max: Math.max(0, all.length - 1), value: Math.max(0, place) });
  $("scrub").setAttribute("aria-valuetext", index === undefined ? "" : `step ${index + 1} of ${current().total}`);
  const shown = all.length > 24 ? all.filter((_, i) => i % Math.ceil(all.length / 24) === 0) : all;
  const strip = $("strip");
  while (strip.children.length > shown.length) strip.lastChild.remove();
  while (strip.children.length < shown.length) {
    const small = element("canvas");
    small.addEventListener("click", () => { stopPlaying(); at.step = Number(small.dataset.step); show(); });
    strip.append(small);
  }
  const nearest = shown.filter((one) => one <= index).at(-1);
  shown.forEach((one, i) => {
    const small = strip.children[i];
    const key = `${at.job}/${at.row}/${current().id}/${one}`;
    if (small.dataset.key !== key) {
      current().frames.get(one).draw(small, "guess", Math.min(at.row, current().rows - 1));
      Object.assign(small.dataset, { key, step: one });
    }
    small.classList.toggle("now", one === nearest);
  });
}

// All pictures of the request, small, to choose from; they develop together.
function others() {
  const cells = jobs.flatMap((job, j) => Array.from({ length: job.rows }, (_, row) => ({ job, j, row })));
  $("others").hidden = cells.length < 2;
  if (cells.length < 2) return $("others").replaceChildren();
  while ($("others").children.length > cells.length) $("others").lastChild.remove();
  while ($("others").children.length < cells.length) $("others").append(element("button", { type: "button" }, element("canvas"), element("span")));
  cells.forEach(({ job, j, row }, i) => {
    const button = $("others").children[i];
    button.onclick = () => { at = { ...at, job: j, row }; show(); };
    button.setAttribute("aria-pressed", String(j === at.job && row === at.row));
    button.lastChild.textContent = job.label || `${row + 1}`;
    const newest = at.step !== null && job.frames.has(at.step) ? at.step : steps(job).at(-1);
    if (newest === undefined) drawStatic(button.firstChild, 16);
    else job.frames.get(newest).draw(button.firstChild, "guess", row);
  });
}

function describe() {
  const open = jobs.filter(isOpen);
  const bad = jobs.find((job) => job.status === "failed");
  document.body.classList.toggle("busy", open.length > 0);
  $("cancel").hidden = !open.length;
  $("status").classList.toggle("bad", Boolean(bad));
  const ready = current()?.status === "done" && Boolean(current().pictures);
  const first = open.find((job) => job.status === "running") ?? open[0];
  let text = "";
  if (first?.status === "running") text = `developing${first.left > 1.5 ? `, about ${duration(first.left)} left` : ""}`;
  else if (first?.status === "waiting") text = first.position > 0 ? `waiting, number ${first.position} in line` : "waiting";
  else if (first) text = "on its way";
  else if (bad) text = bad.message ?? "it failed";
  else if (jobs.length && jobs.every((job) => job.status === "done")) {
    text = `done in ${duration(Math.max(...jobs.map((job) => job.seconds ?? 0)))}`;
  } else if (jobs.length) text = "cancelled";
  const warning = jobs.find((job) => job.warning)?.warning;
  text = warning ? `${text} · ${warning}` : text;
  if ($("status").textContent !== text) $("status").textContent = text;
  $("actions").hidden = !steps().length || !$("painting").hidden;
  $("download").hidden = !ready;
  if (ready) {
    const picture = current().pictures[at.row] ?? current().pictures[0];
    if ($("download").dataset.of !== `${current().id}/${at.row}`) {
      URL.revokeObjectURL($("download").href);
      Object.assign($("download"), { href: URL.createObjectURL(picture.blob), download: gallery.fileName(picture.receipt) });
      $("download").dataset.of = `${current().id}/${at.row}`;
    }
  }
}

// While nothing is there yet, static is.
function shimmer() {
  const draw = () => {
    if ($("bench").dataset.idle !== "true" || $("develop").hidden) return;
    for (const kind of Object.keys(plates)) drawStatic(plate(kind));
  };
  draw();
  setInterval(() => { if (!calm.matches && !document.hidden) draw(); }, STATIC_MS);
}

function play() {
  if (playing) return stopPlaying();
  const all = steps();
  let i = 0;
  $("play").textContent = "❚❚";
  playing = setInterval(() => {
    at.step = all[i++];
    show();
    if (i >= all.length) stopPlaying();
  }, Math.max(30, Math.min(PLAY_MS, 3000 / all.length)));
}

function stopPlaying() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "▶";
}

// --- going on from something ---------------------------------------------------------------------------------------

function startFrom(image) {
  from = null;
  if (image) {
    const canvas = element("canvas", { width: image.naturalWidth ?? image.width, height: image.naturalHeight ?? image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    from = { url: canvas.toDataURL("image/png") };
    const small = $("start-picture");
    Object.assign(small, { width: 48, height: 48 });
    const side = Math.min(canvas.width, canvas.height);
    small.getContext("2d").imageSmoothingEnabled = false;
    small.getContext("2d").drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, 48, 48);
    $("caption").focus();
  }
  $("start").hidden = !from;
}

// How strong noise must be on a picture for it to be at a noise level, from 0 to 1.
function strengthAt(sigma) {
  const { sigma_min: low, sigma_max: high } = model();
  return Math.min(1, Math.max(0.01, Math.log(sigma / low) / Math.log(high / low)));
}

function guess() {
  const canvas = element("canvas");
  current().frames.get(step()).draw(canvas, "guess", Math.min(at.row, current().rows - 1));
  return canvas;
}

// No step is locked in: noise the guess of this step as much as it was noised then, and develop it again.
function again() {
  const frame = current().frames.get(step());
  const canvas = guess();
  const size = { width: canvas.width, height: canvas.height, n: 1 };
  if (step() === 0) return send([{ ask: settings(size), label: "" }]);
  send([{ ask: settings({ ...size, init_image: canvas.toDataURL("image/png"), strength: strengthAt(frame.sigma) }), label: "" }]);
}

function paint(on) {
  $("painting").hidden = $("paint").hidden = !on;
  $("actions").hidden = on || !steps().length;
  if (on) {
    stopPlaying();
    const canvas = guess();
    painter.begin(canvas.width, canvas.height);
    $("paint").focus();
  }
}

function repaint() {
  if (!painter.touched) return toast("Paint over what is to be made again first");
  freshSeed();
  const canvas = guess();
  const [width, height] = [canvas.width, canvas.height];
  const more = { width, height, n: 1, init_image: canvas.toDataURL("image/png"), mask: painter.mask(width, height), strength: Number($("paint-strength").value) };
  send([{ ask: settings(more), label: "" }]);
}

function useReceipt(receipt) {
  if (receipt.model in models) $("model").value = receipt.model;
  else toast(`The model ${receipt.model} is not served here`);
  Object.assign($("caption"), { value: receipt.caption });
  Object.assign($("seed"), { value: receipt.seed });
  const fields = { steps: receipt.steps, guidance: receipt.guidance, sampler: receipt.sampler, negative: receipt.negative, width: receipt.width, height: receipt.height, num: 1 };
  for (const [id, value] of Object.entries(fields)) $(id).value = value;
  $("lock").setAttribute("aria-pressed", "true");
  fit();
  scrollTo({ top: 0 });
}

function redo(receipt) {
  useReceipt(receipt);
  if (receipt.init_image) return toast("It began from a picture: open that one, then develop");
  send([{ ask: settings({ index: receipt.index, n: 1 }), label: "" }]);
}

async function copy() {
  const picture = current().pictures?.[at.row];
  const text = picture ? JSON.stringify(picture.receipt, null, 2) : JSON.stringify(settings(), null, 2);
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not let pages copy here");
  }
}

// A picture that was dropped or opened: its settings if it carries a receipt, else a start.
export async function take(file) {
  if (!file) return;
  try {
    const { receipt } = file.type === "image/png" ? await api("/api/receipt", { image: await bytesOf(file) }) : { receipt: null };
    if (receipt && !receipt.init_image) {
      useReceipt(receipt);
      toast("Its settings are in place: develop makes it again");
    } else {
      startFrom(await pictureOf(file));
      toast(receipt ? "It began from another picture, so it is used as a start" : "It carries no receipt: it is used as a start");
    }
  } catch (error) {
    toast(error.message);
  }
}

export const developing = busy;
