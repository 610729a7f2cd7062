// The studio: five steps from a folder of pictures to one's own model, on this machine.
import { $ } from "./api.js";
import * as captions from "./studio-captions.js";
import * as data from "./studio-data.js";
import * as models from "./studio-models.js";
import * as plan from "./studio-plan.js";
import { dataset, many, recall, refresh, remember, studio } from "./studio-state.js";
import * as training from "./studio-train.js";

// name in the link: its module. Every module has start(), and update(), which shows what the server said last.
const STEPS = { pictures: data, captions, plan, training, models };
const NAMES = Object.keys(STEPS);
const BUSY_MS = 1000;
const IDLE_MS = 5000;
let here = NAMES[0];
let visible = false;
let timer;
let scanned = ""; // data set, its number of pictures and the last look at them: for these the list on display is right

// onModel(name): the page uses a model, which may be new to it.
export function start(onModel) {
  recall();
  data.start(poll);
  captions.start(poll);
  plan.start(poll);
  training.start(poll, onModel);
  models.start(poll);
  document.addEventListener("visibilitychange", () => { if (visible && !document.hidden) poll(); });
}

export function setVisible(on, name) {
  visible = on;
  document.body.classList.toggle("making", on);
  clearTimeout(timer);
  if (!on) return;
  here = NAMES.includes(name) ? name : NAMES[0];
  for (const other of NAMES) $(`studio-${other}`).hidden = other !== here;
  document.querySelectorAll(".steps a").forEach((link, i) => (NAMES[i] === here ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current")));
  poll();
}

export async function openDrop(transfer) {
  const work = data.openDrop(transfer); // its entries are gone once this task is over
  location.hash = "#studio/pictures";
  await work;
}

// Ask the server how things are, show it, and ask again: soon while something is going on.
async function poll() {
  clearTimeout(timer);
  let busy = true;
  try {
    ({ busy } = await refresh());
    $("studio-problem").textContent = "";
    await show();
  } catch (error) {
    if (error.code === "token_needed") return closed(error);
    $("studio-problem").textContent = error.status === undefined ? "The server does not answer. The page goes on by itself once it is back." : error.message;
  }
  clearTimeout(timer);
  if (visible && !document.hidden) timer = setTimeout(poll, busy ? BUSY_MS : IDLE_MS);
}

function closed(error) {
  $("studio-open").hidden = true;
  $("studio-problem").textContent = `${error.message}.`;
}

async function show() {
  $("studio-open").hidden = false;
  remember();
  const one = dataset();
  $("studio-of").textContent = one ? `${one.name}: ${one.scanned ? many(one.pictures, "picture") : "not read yet"}` : "";
  const looks = studio.overview.tasks.filter(({ dataset: id, kind, state }) => id === studio.data && ["scan", "check"].includes(kind) && state === "done");
  const now = `${studio.data} ${one?.pictures} ${looks.at(-1)?.id}`;
  if (now !== scanned) captions.forget();
  scanned = now;
  const step = STEPS[here];
  await (step.enter ?? step.update)();
}

