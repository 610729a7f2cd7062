// The page: views, models, theme, and dropped pictures.
import { $, api, element } from "./api.js";
import * as develop from "./develop.js";
import * as how from "./how.js";
import * as training from "./training.js";

const VIEWS = ["develop", "how", "training"];

function view() {
  const [hash, chapter] = location.hash.slice(1).split("/");
  const name = VIEWS.includes(hash) ? hash : "develop";
  for (const other of VIEWS) $(other).hidden = other !== name;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  how.setVisible(name === "how", chapter);
  training.setVisible(name === "training");
}

function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("tintype-theme", dark ? "light" : "dark"); } catch { /* storage may be forbidden */ }
}

function drops() {
  let depth = 0;
  const over = (by) => { depth = Math.max(0, depth + by); document.body.classList.toggle("dropping", depth > 0); };
  addEventListener("dragenter", (event) => { if (event.dataTransfer?.types.includes("Files")) over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    const file = event.dataTransfer?.files[0];
    if ($("how").hidden) develop.openFile(file);
    else how.openFile(file);
  });
}

async function begin() {
  $("broken").remove();
  $("theme").addEventListener("click", theme);
  addEventListener("hashchange", view);
  drops();
  try {
    const { models, samplers } = await api("api/models");
    const byName = Object.fromEntries(models.map((model) => [model.name, model]));
    $("model").replaceChildren(...models.map((model) => element("option", { value: model.name, textContent: model.name })));
    $("model").addEventListener("change", () => develop.useModel());
    develop.start(byName, samplers);
    how.start();
    await training.start(() => develop.useModel());
    if (!models.length) $("status").textContent = "no model is ready: the run has not saved a checkpoint yet";
  } catch (error) {
    $("status").textContent = error.message;
    $("status").classList.add("bad");
  }
  view();
}

begin();
