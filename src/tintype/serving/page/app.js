// The page: views, models, theme, and dropped pictures.
import { $, api, element } from "./api.js";
import * as develop from "./develop.js";
import * as give from "./give.js";
import * as how from "./how.js";
import * as training from "./training.js";

const MODEL_MS = 5000; // between questions whether there is a model
const VIEWS = ["develop", "how", "training", "studio"];
let studio = null; // its module, where the server has a studio

function view() {
  const [hash, chapter] = location.hash.slice(1).split("/");
  const here = VIEWS.filter((each) => $(each));
  const name = here.includes(hash) ? hash : "develop";
  for (const other of here) $(other).hidden = other !== name;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  how.setVisible(name === "how", chapter);
  training.setVisible(name === "training");
  studio?.setVisible(name === "studio", chapter);
  $("drop").textContent = name === "studio" ? "Drop pictures, a folder or a zip" : "Drop the picture";
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
    if (studio && !$("studio").hidden) return studio.openDrop(event.dataTransfer);
    const file = event.dataTransfer?.files[0];
    if ($("how").hidden) develop.openFile(file);
    else how.openFile(file);
  });
}

// A run has no model before its first checkpoint: the page says so, and goes on by itself once there is one.
async function waitForModel(list) {
  $("status").replaceChildren("No model is ready: the run has not saved a checkpoint yet. ", element("a", { href: "#training", textContent: "See how it gets on" }));
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, MODEL_MS); });
    const { models } = await api("api/models").catch(() => ({ models: [] }));
    if (!models.length) continue;
    $("status").textContent = "";
    develop.useModels(list(models));
    return give.start();
  }
}

// The studio is part of the page only where the server has one.
async function openStudio(list) {
  if (!$("studio")) return;
  studio = await import("./studio.js");
  studio.start(async (name) => {
    if (![...$("model").options].some((option) => option.value === name)) develop.useModels(list((await api("api/models")).models));
    $("model").value = name;
    develop.useModel();
  });
  $("studio-tab").hidden = false;
  if (!$("studio").hidden) view();
}

async function begin() {
  $("broken").remove();
  $("theme").addEventListener("click", theme);
  addEventListener("hashchange", view);
  drops();
  try {
    const { models, samplers } = await api("api/models");
    const list = (all) => {
      $("model").replaceChildren(...all.map((model) => element("option", { value: model.name, textContent: model.name })));
      return Object.fromEntries(all.map((model) => [model.name, model]));
    };
    $("model").addEventListener("change", () => { develop.useModel(); give.useModel(); });
    develop.start(list(models), samplers);
    how.start();
    view(); // before the runs are known, which only their tab needs
    await training.start(() => { develop.useModel(); give.useModel(); });
    if (!$("training").hidden) view();
    if (models.length) await give.start();
    if (!models.length) waitForModel(list);
    await openStudio(list);
  } catch (error) {
    $("status").textContent = error.message;
    $("status").classList.add("bad");
    view();
  }
}

begin();
