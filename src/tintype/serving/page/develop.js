// The Develop view: its form, its keys, and its parts put together.
import { $, element } from "./api.js";
import * as again from "./again.js";
import * as gallery from "./gallery.js";
import * as make from "./make.js";
import * as stage from "./stage.js";
import { model, state } from "./state.js";

const SEEDS = 9;

export function start(found, samplers) {
  state.models = found;
  $("sampler").replaceChildren(...samplers.map((name) => element("option", { value: name, textContent: name })));
  listen();
  again.start();
  stage.start();
  useModel();
  make.dice();
  gallery.start({ redo: again.redo, settings: again.useReceipt, from: again.startFrom });
}

// The model that was chosen: its own settings, and what it knows to draw.
export function useModel() {
  const own = model();
  if (!own) return;
  Object.assign($("steps"), { value: own.steps, max: own.max_steps });
  $("guidance").value = own.guidance;
  $("sampler").value = own.sampler;
  for (const name of ["width", "height"]) Object.assign($(name), { value: own.resolution, step: own.patch, min: own.patch });
  $("examples").replaceChildren(...own.examples.map((text) => {
    const button = element("button", { type: "button", textContent: text });
    button.addEventListener("click", () => { say(text); make.develop(); });
    return button;
  }));
  $("examples").hidden = !own.examples.length || state.jobs.length > 0;
}

function listen() {
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); make.develop(); });
  $("caption").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); make.develop(); }
  });
  $("caption").addEventListener("input", fit);
  addEventListener("keydown", (event) => {
    if ($("develop").hidden || event.defaultPrevented) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) make.develop();
    if (event.key === "Escape") $("painting").hidden ? make.cancel() : stage.painting(false);
  });
  const clicks = {
    cancel: make.cancel, dice: make.dice, seeds: () => make.develop({ n: SEEDS }), scales: make.compare,
    lock: () => $("lock").setAttribute("aria-pressed", String($("lock").getAttribute("aria-pressed") !== "true")),
  };
  for (const [id, does] of Object.entries(clicks)) $(id).addEventListener("click", () => does());
}

function say(text) {
  $("caption").value = text;
  fit();
}

function fit() {
  $("caption").style.height = "auto";
  $("caption").style.height = `${$("caption").scrollHeight + 2}px`;
}

export const take = again.take;
