// What the parts of the Develop view share: the models, the newest request, and what is looked at of it.
import { $ } from "./api.js";

export const state = {
  models: {},
  jobs: [], // of the newest request: { id, label, ask, frames, rows, status, total, stop }
  at: { job: 0, row: 0, step: null }, // what the plates show; step null: the newest
  from: null, // { url } of the picture to start from
};

export const model = () => state.models[$("model").value];
export const isOpen = (job) => ["sending", "waiting", "running"].includes(job.status);
export const current = () => state.jobs[state.at.job];
export const row = () => Math.min(state.at.row, current().rows - 1);
export const steps = (job = current()) => (job ? [...job.frames.keys()].sort((a, b) => a - b) : []);
export const step = () => (state.at.step !== null && current()?.frames.has(state.at.step) ? state.at.step : steps().at(-1));
export const frame = () => current()?.frames.get(step());

// On a way back to noise every level is higher than the one before.
export function goesBack(job, index) {
  const [before, now, after] = [index - 1, index, index + 1].map((one) => job.frames.get(one)?.sigma);
  return job.ask.invert !== undefined && (after !== undefined ? after > now : before !== undefined && before < now);
}
