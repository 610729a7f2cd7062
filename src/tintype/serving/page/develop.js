// The Develop view: form, keys, and parts.
import { $, element } from "./api.js";
import * as edit from "./edit.js";
import * as gallery from "./gallery.js";
import * as generate from "./generate.js";
import * as stage from "./stage.js";
import * as size from "./size.js";
import { model, state } from "./state.js";

const SEEDS = 9;

export function start(models, samplers) {
  state.models = models;
  $("sampler").replaceChildren(...samplers.map((name) => element("option", { value: name, textContent: name })));
  listen();
  edit.start();
  stage.start();
  size.start();
  useModel();
  generate.randomSeed();
  gallery.start({ redo: edit.redo, settings: edit.useReceipt, from: edit.startFrom });
}

// Models that were not there before.
export function useModels(models) {
  state.models = models;
  useModel();
}

// The selected model: its default settings and example captions.
export function useModel() {
  const selected = model();
  for (const id of ["go", "seeds", "scales"]) $(id).disabled = !selected;
  if (!selected) return;
  Object.assign($("steps"), { value: selected.steps, max: selected.max_steps });
  $("guidance").value = selected.guidance;
  $("sampler").value = selected.sampler;
  for (const name of ["width", "height"]) Object.assign($(name), { step: selected.patch, min: selected.patch });
  size.reset();
  $("examples").replaceChildren(...selected.examples.map((text) => {
    const button = element("button", { type: "button", textContent: text });
    button.addEventListener("click", () => { setCaption(text); generate.develop(); });
    return button;
  }));
  $("examples").hidden = !selected.examples.length || state.jobs.length > 0;
  stage.show();
}

function listen() {
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); generate.develop(); });
  $("caption").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); generate.develop(); }
  });
  $("caption").addEventListener("input", fitCaption);
  addEventListener("keydown", (event) => {
    if ($("develop").hidden || event.defaultPrevented) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate.develop();
    if (event.key === "Escape") $("painting").hidden ? generate.cancel() : stage.painting(false);
  });
  $("settings-toggle").addEventListener("click", () => $("settings-toggle").setAttribute("aria-expanded", String($("ask").classList.toggle("open"))));
  const clicks = {
    cancel: generate.cancel, dice: generate.randomSeed, seeds: () => generate.develop({ n: SEEDS }), scales: generate.compare,
    lock: () => $("lock").setAttribute("aria-pressed", String($("lock").getAttribute("aria-pressed") !== "true")),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action());
}

function setCaption(text) {
  $("caption").value = text;
  fitCaption();
}

function fitCaption() {
  $("caption").style.height = "auto";
  $("caption").style.height = `${$("caption").scrollHeight + 2}px`;
}

export const openFile = edit.openFile;
