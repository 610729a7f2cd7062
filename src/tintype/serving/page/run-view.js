// A run on display: its progress, curves, samples over time, and plan. Both tabs that show runs have one.
import { $, duration, element } from "./api.js";
import { plot } from "./plot.js";

const IDLE_SECONDS = 90; // without a row in the log, until a run counts as stopped

export class RunView {
  // prefix: of the ids of its elements, such as run-status and run-loss.
  constructor(prefix) {
    this.part = (name) => $(`${prefix}-${name}`);
    Object.assign(this, { name: "", samples: [], atNewest: true });
    this.part("when").addEventListener("input", () => {
      this.atNewest = Number(this.part("when").value) === this.samples.length - 1;
      this.grid();
    });
  }

  // now: what to say of its state, where somebody knows better than its log.
  show(run, now = stateOf(run)) {
    if (run.name !== this.name) this.atNewest = true;
    this.name = run.name;
    const progress = run.images_seen / run.images;
    const seen = `${run.images_seen.toLocaleString()} of ${run.images.toLocaleString()} images seen (${Math.floor(100 * progress)} %)`;
    this.part("status").textContent = now ? `${seen} · ${now}` : seen;
    this.part("progress").value = progress;
    plot(this.part("loss"), { title: "Training loss", xName: "images seen", yName: "", curves: [{ name: "loss", points: run.loss }], logY: true });
    const levels = [...new Set(run.noise_error.flatMap((row) => Object.keys(row.levels)))].sort((a, b) => a - b);
    const curves = levels.map((level) => ({ name: `at ${level}`, points: run.noise_error.map((row) => [row.images_seen, row.levels[level]]) }));
    plot(this.part("errors"), { title: "Error of the predicted noise, held-out pictures", xName: "images seen", yName: "by noise level", curves, logY: true });
    this.samples = run.samples;
    this.part("samples").hidden = run.samples.length === 0;
    const last = Math.max(0, run.samples.length - 1);
    this.part("when").max = last;
    if (this.atNewest) this.part("when").value = last;
    this.grid();
    this.part("captions").replaceChildren(...run.captions.map((text) => element("li", { textContent: text })));
    const plan = { Model: run.plan.preset, Pictures: run.plan.sizes.map(([width, height]) => `${width} × ${height}`).join(", "), Text: run.plan.text, "Batch size": run.plan.batch_size, "Learning rate": run.plan.lr, Prediction: run.plan.predicts, Seed: run.plan.seed };
    this.part("plan").replaceChildren(...Object.entries(plan).map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: String(value) }))));
  }

  grid() {
    const sample = this.samples[Number(this.part("when").value)];
    if (!sample) return;
    const url = `api/runs/${encodeURIComponent(this.name)}/samples/${sample.file}`;
    if (!this.part("grid").src.endsWith(url)) this.part("grid").src = url;
    const label = `after ${sample.images_seen.toLocaleString()} images`;
    this.part("when-says").textContent = label;
    this.part("when").setAttribute("aria-valuetext", label);
  }
}

function stateOf(run) {
  if (run.finished && run.planned_images) return `finished: it stopped by itself, of ${run.planned_images.toLocaleString()} images; from there on it would only have learned its pictures by heart`;
  if (run.finished) return "finished";
  if (run.seconds_since !== null && run.seconds_since > IDLE_SECONDS) return `no progress for ${duration(run.seconds_since)}: stopped or paused`;
  if (run.images_seen >= run.images) return "finishing: it is measured and saved";
  return run.seconds_left === null ? "" : `about ${duration(run.seconds_left)} left`;
}
