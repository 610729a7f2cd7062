// Training: progress, errors and samples of a run, read-only; the command line starts and stops it.
import { $, api, duration, element } from "./api.js";
import { plot } from "./plot.js";

const EVERY_MS = 5000;
let visible = false;
let atNewest = true;
let samples = [];
let useModel = () => {};

export async function start(onModel) {
  useModel = onModel;
  const { runs } = await api("api/runs");
  $("training-tab").hidden = runs.length === 0;
  $("run").replaceChildren(...runs.map((name) => element("option", { value: name, textContent: name })));
  $("run").addEventListener("change", () => { atNewest = true; refresh(); });
  $("run-when").addEventListener("input", () => {
    atNewest = Number($("run-when").value) === samples.length - 1;
    grid();
  });
  $("run-generate").addEventListener("click", generate);
  setInterval(() => { if (visible && !document.hidden) refresh(); }, EVERY_MS);
}

export function setVisible(on) {
  visible = on;
  if (on) refresh();
}

async function refresh() {
  if (!$("run").value) return;
  try {
    show(await api(`api/runs/${encodeURIComponent($("run").value)}`));
  } catch (error) {
    $("run-status").textContent = error.message;
  }
}

function show(run) {
  const progress = run.images_seen / run.images;
  const idle = run.seconds_since !== null && run.seconds_since > 90;
  const seen = `${run.images_seen.toLocaleString()} of ${run.images.toLocaleString()} images seen (${Math.floor(100 * progress)} %)`;
  let now = "";
  if (run.finished) now = "finished";
  else if (idle) now = `no progress for ${duration(run.seconds_since)}: stopped or paused`;
  else if (run.images_seen >= run.images) now = "finishing: it is measured and saved";
  else if (run.seconds_left !== null) now = `about ${duration(run.seconds_left)} left`;
  $("run-status").textContent = now ? `${seen} · ${now}` : seen;
  $("run-progress").value = progress;
  $("run-generate").disabled = !run.can_generate;
  $("run-generate").title = run.can_generate ? "" : "the run has not saved a checkpoint yet";
  plot($("run-loss"), { title: "Training loss", xName: "images seen", yName: "", curves: [{ name: "loss", points: run.loss }], logY: true });
  const levels = [...new Set(run.noise_error.flatMap((row) => Object.keys(row.levels)))].sort((a, b) => a - b);
  const curves = levels.map((level) => ({ name: `at ${level}`, points: run.noise_error.map((row) => [row.images_seen, row.levels[level]]) }));
  plot($("run-errors"), { title: "Error of the predicted noise, held-out pictures", xName: "images seen", yName: "by noise level", curves, logY: true });
  samples = run.samples;
  $("run-samples").hidden = samples.length === 0;
  const last = samples.length - 1;
  Object.assign($("run-when"), { max: Math.max(0, last) });
  if (atNewest) $("run-when").value = Math.max(0, last);
  grid();
  if ($("run-captions").children.length !== run.captions.length) $("run-captions").replaceChildren(...run.captions.map((text) => element("li", { textContent: text })));
  const plan = { Model: run.plan.preset, Pictures: run.plan.sizes.map(([width, height]) => `${width} × ${height}`).join(", "), Text: run.plan.text, "Batch size": run.plan.batch_size, "Learning rate": run.plan.lr, Prediction: run.plan.predicts, Seed: run.plan.seed };
  $("run-plan").replaceChildren(...Object.entries(plan).map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: String(value) }))));
}

function grid() {
  const sample = samples[Number($("run-when").value)];
  if (!sample) return;
  const url = `api/runs/${encodeURIComponent($("run").value)}/samples/${sample.file}`;
  if (!$("run-grid").src.endsWith(url)) $("run-grid").src = url;
  const label = `after ${sample.images_seen.toLocaleString()} images`;
  $("run-when-says").textContent = label;
  $("run-when").setAttribute("aria-valuetext", label);
}

async function generate() {
  const name = $("run").value;
  if (![...$("model").options].some((option) => option.value === name)) return location.reload();
  $("model").value = name;
  useModel();
  location.hash = "#develop";
  $("caption").focus();
}
