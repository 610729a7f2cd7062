// Generating: settings of the form, jobs, and their steps as they arrive.
import { $, Frame, api, file, follow, loadImage, toast } from "./api.js";
import * as gallery from "./gallery.js";
import { describe, others, painting, show, stopPlaying } from "./stage.js";
import * as size from "./size.js";
import { isOpen, state } from "./state.js";

const SCALES = [1, 2, 4, 8];
let usedSeed = null;

const numberIn = (input, otherwise) => (input.value.trim() === "" ? otherwise : Number(input.value));
const seedLocked = () => $("lock").getAttribute("aria-pressed") === "true";

export function randomSeed() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

// Draw a new seed, unless the seed is locked or has just been typed.
export function freshSeed() {
  checkSeed();
  if (!seedLocked() && $("seed").value === usedSeed) randomSeed();
  usedSeed = $("seed").value;
}

// A seed that is no whole number is replaced by one, which the field shows.
export function checkSeed() {
  if (/^\d{1,19}$/.test($("seed").value.trim())) return;
  randomSeed();
  toast("A seed is a whole number: this is a new one");
}

export function settings(overrides = {}) {
  checkSeed();
  const text = $("seed").value.trim();
  const fields = {
    model: $("model").value,
    prompt: $("caption").value,
    seed: JSON.rawJSON ? JSON.rawJSON(BigInt(text).toString()) : Number(text),
    n: numberIn($("num"), 1),
    num_inference_steps: numberIn($("steps"), null),
    guidance_scale: numberIn($("guidance"), null),
    negative_prompt: $("negative").value || null,
    sampler: $("sampler").value,
    ...size.fields(),
  };
  return { ...fields, ...startFields(), ...overrides };
}

// The fields of the starting picture. Inversion uses its own defaults for sampler and steps.
function startFields() {
  if (!state.from) return {};
  const init = { init_image: state.from.url };
  if ($("way-back").checked) return { ...init, source_caption: $("shows").value, num_inference_steps: null, sampler: null };
  return { ...init, strength: Number($("strength").value) };
}

export function develop(overrides) {
  freshSeed();
  send([{ body: settings(overrides), label: "" }]);
}

export function compare() {
  usedSeed = $("seed").value;
  send(SCALES.map((scale) => ({ body: settings({ n: 1, guidance_scale: scale }), label: `guidance ${scale}` })));
}

let numSends = 0;
let before = null; // what was on display before the newest request: { jobs, at }

// A number field that holds no number has an empty value, which would mean the model's own.
function wrongField() {
  return ["num", "steps", "guidance", "width", "height"].map($).find((field) => field.validity.badInput);
}

// Show new jobs once the server has taken the first; if it refuses, what was on display stays.
export async function send(requests) {
  cancel();
  const wrong = wrongField();
  if (wrong) {
    state.refusal = `${wrong.labels[0].textContent.trim()} must be a number`;
    wrong.focus();
    return describe();
  }
  const number = numSends;
  stopPlaying();
  painting(false);
  const jobs = requests.map((request) => ({ ...request, frames: new Map(), rows: request.body.n ?? 1, status: "sending", total: 0, stop() {} }));
  state.sending = true;
  describe();
  try {
    jobs[0].id = (await api("api/jobs", jobs[0].body)).id;
  } catch (error) {
    if (number === numSends) Object.assign(state, { sending: false, refusal: error.message });
    return describe();
  }
  if (number !== numSends) return void api(`api/jobs/${jobs[0].id}`, undefined, "DELETE").catch(() => {});
  before = { jobs: state.jobs, at: state.at };
  state.sending = false;
  display(jobs, { job: 0, row: 0, step: null });
  for (const job of jobs) {
    try {
      job.id ??= (await api("api/jobs", job.body)).id;
      if (job.status === "cancelled") { api(`api/jobs/${job.id}`, undefined, "DELETE").catch(() => {}); continue; }
      job.stop = follow(job.id, (now) => update(job, now));
    } catch (error) {
      Object.assign(job, { status: "failed", message: error.message });
      describe();
    }
  }
  restore();
}

function display(jobs, at) {
  Object.assign(state, { jobs, at });
  show();
  describe();
  others();
}

// Bring back what was on display, if the newest request ended before its first step.
function restore() {
  if (!before || state.jobs.some((job) => isOpen(job) || job.frames.size || job.status === "done")) return;
  state.refusal = state.jobs.find((job) => job.status === "failed")?.message ?? "cancelled";
  display(before.jobs, before.at);
  before = null;
}

export function cancel() {
  numSends++; // what is still being sent is cancelled when the server answers
  Object.assign(state, { sending: false, refusal: "" });
  for (const job of state.jobs.filter(isOpen)) {
    job.stop();
    job.status = "cancelled";
    if (job.id) api(`api/jobs/${job.id}`, undefined, "DELETE").catch(() => {});
  }
  restore();
  describe();
}

async function update(job, now) {
  if (job.status === "cancelled") return;
  Object.assign(job, { status: now.status, total: now.total ?? job.total, position: now.position, left: now.seconds_left, warning: now.warning, message: now.error?.message, seconds: now.seconds });
  const { index, strip, rows, sigma } = now.step ?? {};
  if (strip && job.newest !== strip) {
    job.newest = strip;
    const loaded = new Frame(await loadImage(strip), rows, sigma);
    // A later state may improve the same step, and may have been loaded faster.
    if (job.newest === strip || !job.frames.has(index)) job.frames.set(index, loaded);
  }
  if (state.jobs.includes(job)) { show(); describe(); restore(); }
  if (now.status !== "done") return;
  try {
    await complete(job, now);
  } catch (error) {
    Object.assign(job, { status: "failed", message: error.message });
    describe();
  }
}

async function complete(job, now) {
  const missing = Object.entries(now.sigmas).filter(([index]) => !job.frames.has(Number(index)));
  await Promise.all(missing.map(async ([index, sigma]) => {
    job.frames.set(Number(index), new Frame(await loadImage(`api/jobs/${job.id}/steps/${index}.png`), job.rows, sigma));
  }));
  // Relative, because a proxy may have put the page under a path that the server does not know.
  job.pictures = await Promise.all(now.pictures.map(async ({ receipt }, i) => ({ receipt, blob: await file(`api/jobs/${job.id}/pictures/${i}.png`) })));
  if (state.jobs.includes(job)) { show(); describe(); }
  await gallery.keep(job.pictures);
}
