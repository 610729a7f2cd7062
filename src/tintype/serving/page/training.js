// Training: progress, errors and samples of a served run, read-only.
import { $, api, element } from "./api.js";
import { RunView } from "./run-view.js";

const EVERY_MS = 5000;
let visible = false;
let view;
let useModel = () => {};

export async function start(onModel) {
  useModel = onModel;
  view = new RunView("run");
  const { runs } = await api("api/runs");
  $("training-tab").hidden = runs.length === 0 || Boolean($("studio")); // the studio shows runs itself
  $("run").replaceChildren(...runs.map((name) => element("option", { value: name, textContent: name })));
  $("run").addEventListener("change", refresh);
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
    const run = await api(`api/runs/${encodeURIComponent($("run").value)}`);
    view.show(run);
    $("run-generate").disabled = !run.can_generate;
    $("run-generate").title = run.can_generate ? "" : "the run has not saved a checkpoint yet";
  } catch (error) {
    $("run-status").textContent = error.message;
  }
}

async function generate() {
  const name = $("run").value;
  if (![...$("model").options].some((option) => option.value === name)) return location.reload();
  $("model").value = name;
  useModel();
  location.hash = "#develop";
  $("caption").focus();
}
