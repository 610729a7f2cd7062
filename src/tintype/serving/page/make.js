// Asking for pictures and hearing of them: settings, requests, the steps as they come.
import { $, Frame, api, follow, loaded } from "./api.js";
import * as gallery from "./gallery.js";
import { describe, others, painting, show, stopPlaying } from "./stage.js";
import { isOpen, state } from "./state.js";

const SCALES = [1, 2, 4, 8];
let usedSeed = null;

const whole = (input, otherwise) => (input.value.trim() === "" ? otherwise : Number(input.value));
const kept = () => $("lock").getAttribute("aria-pressed") === "true";

export function dice() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

// A seed that was typed or kept is used; one that has made its picture makes room for another.
export function freshSeed() {
  if (!kept() && $("seed").value === usedSeed) dice();
  usedSeed = $("seed").value;
}

export function settings(more = {}) {
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
  return { ...own, ...starting(), ...more };
}

// How the picture to start from is used, if there is one. Its way back to noise has a sampler and steps of its own.
function starting() {
  if (!state.from) return {};
  const init = { init_image: state.from.url };
  if ($("way-back").checked) return { ...init, invert: $("shows").value, num_inference_steps: null, sampler: null };
  return { ...init, strength: Number($("strength").value) };
}

export function develop(more) {
  freshSeed();
  send([{ ask: settings(more), label: "" }]);
}

export function compare() {
  usedSeed = $("seed").value;
  send(SCALES.map((scale) => ({ ask: settings({ n: 1, guidance_scale: scale }), label: `guidance ${scale}` })));
}

export async function send(wanted) {
  cancel();
  stopPlaying();
  painting(false);
  const made = wanted.map((one) => ({ ...one, frames: new Map(), rows: one.ask.n ?? 1, status: "sending", total: 0, stop() {} }));
  state.jobs = made;
  state.at = { job: 0, row: 0, step: null };
  show();
  describe();
  others();
  for (const job of made) {
    try {
      const begun = await api("/api/jobs", job.ask);
      job.id = begun.id;
      if (job.status === "cancelled") { api(`/api/jobs/${job.id}`, undefined, "DELETE").catch(() => {}); continue; }
      job.stop = follow(job.id, (now) => hear(job, now));
    } catch (error) {
      Object.assign(job, { status: "failed", message: error.message });
      describe();
    }
  }
}

export function cancel() {
  for (const job of state.jobs.filter(isOpen)) {
    job.stop();
    job.status = "cancelled";
    if (job.id) api(`/api/jobs/${job.id}`, undefined, "DELETE").catch(() => {});
  }
  describe();
}

async function hear(job, now) {
  if (job.status === "cancelled") return;
  Object.assign(job, { status: now.status, total: now.total ?? job.total, position: now.position, left: now.seconds_left, warning: now.warning, message: now.error?.message, seconds: now.seconds });
  if (now.step && job.newest !== now.step.strip) {
    job.newest = now.step.strip; // the same step may come again, better
    job.frames.set(now.step.index, new Frame(await loaded(now.step.strip), now.step.rows, now.step.sigma));
  }
  if (state.jobs.includes(job)) { show(); describe(); }
  if (now.status === "done") await complete(job, now);
}

async function complete(job, now) {
  const missing = Object.entries(now.sigmas).filter(([index]) => !job.frames.has(Number(index)));
  await Promise.all(missing.map(async ([index, sigma]) => {
    job.frames.set(Number(index), new Frame(await loaded(`/api/jobs/${job.id}/steps/${index}.png`), job.rows, sigma));
  }));
  job.pictures = await Promise.all(now.pictures.map(async ({ url, receipt }) => ({ receipt, blob: await (await fetch(url)).blob() })));
  if (state.jobs.includes(job)) { show(); describe(); }
  await gallery.keep(job.pictures);
}
