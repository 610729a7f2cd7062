// What the steps of the studio share: the server's overview, the data set at work, and the run on display.
import { api } from "./api.js";

const MEMORY = "tintype-studio";

export const studio = {
  overview: null, // of the server: data sets, runs, tasks, trash, limits
  data: null, // id of the data set at work
  run: null, // name of the run on display
};

export const dataset = (id = studio.data) => studio.overview?.datasets.find((one) => one.id === id) ?? null;
export const run = (name = studio.run) => studio.overview?.runs.find((one) => one.name === name) ?? null;
// The scan or check of a data set that is at work or waits.
export const taskOf = (id = studio.data) => studio.overview?.tasks.find(({ dataset: of, kind, state }) => of === id && ["scan", "check"].includes(kind) && ["waiting", "running"].includes(state)) ?? null;

// The address of a data set's part.
export const at = (id, part = "") => `api/studio/datasets/${encodeURIComponent(id)}${part && `/${part}`}`;
export const thumbnail = (id, row, side = 256) => at(id, `thumbnails/${row}?side=${side}&quiet=true`);

export function remember() {
  try { localStorage.setItem(MEMORY, JSON.stringify({ data: studio.data, run: studio.run })); } catch { /* storage may be forbidden */ }
}

export function recall() {
  try { Object.assign(studio, JSON.parse(localStorage.getItem(MEMORY) ?? "{}")); } catch { /* as above */ }
}

// Ask for the overview. What was remembered and is no longer there is forgotten.
export async function refresh() {
  const overview = await api(`api/studio?${new URLSearchParams({ run: studio.run ?? "" })}`);
  studio.overview = overview;
  if (!dataset()) studio.data = overview.datasets.at(-1)?.id ?? null;
  if (!run()) studio.run = overview.runs.at(-1)?.name ?? null;
  return overview;
}

export const many = (number, one, plural = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : plural}`;

export function bytes(number) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  for (; number >= 1000 && at < units.length - 1; at++) number /= 1000;
  return `${at && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[at]}`;
}
