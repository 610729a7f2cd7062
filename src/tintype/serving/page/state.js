// State of the Develop view: the models, the newest request, and the step on display.
import { $ } from "./api.js";

export const state = {
  models: {},
  jobs: [], // of the newest request: { id, label, body, frames, rows, status, total, stop }
  at: { job: 0, row: 0, step: null }, // on display; step null: the newest
  sending: false, // whether the server is asked to take the newest request
  refusal: "", // why it did not
  from: null, // { url, width, height } of the starting picture
};

export const model = () => state.models[$("model").value];
export const isOpen = (job) => ["sending", "waiting", "running"].includes(job.status);
export const current = () => state.jobs[state.at.job];
export const row = () => Math.min(state.at.row, current().rows - 1);
export const steps = (job = current()) => (job ? [...job.frames.keys()].sort((a, b) => a - b) : []);
export const step = () => (state.at.step !== null && current()?.frames.has(state.at.step) ? state.at.step : steps().at(-1));
export const frame = () => current()?.frames.get(step());

// During inversion the noise level rises with every step.
export function isInverting(job, index) {
  const [before, now, after] = [index - 1, index, index + 1].map((i) => job.frames.get(i)?.sigma);
  return job.body.source_caption !== undefined && (after !== undefined ? after > now : before !== undefined && before < now);
}
