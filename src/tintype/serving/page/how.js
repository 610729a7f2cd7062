// How it works: seven chapters, each with a link of its own, and the keys that turn its pages.
import { $ } from "./api.js";
import * as caption from "./how-caption.js";
import * as gradient from "./how-gradient.js";
import * as layers from "./how-layers.js";
import * as noise from "./how-noise.js";
import * as still from "./how-static.js";
import * as ways from "./how-ways.js";
import * as yours from "./how-yours.js";
import { attempt } from "./attempt.js";
import { hasModel, useFile, useModel } from "./subject.js";

// name in the link: [the section, its module]. Every module has start(), and enter(), which shows the present state.
const CHAPTERS = {
  static: ["how-static", still], noise: ["how-noise", noise], layers: ["how-layers", layers], gradient: ["how-gradient", gradient],
  caption: ["how-caption-chapter", caption], ways: ["how-ways", ways], yours: ["how-yours", yours],
};
const NAMES = Object.keys(CHAPTERS);
const NEED_MODEL = ["noise", "layers", "caption", "ways"];
const NEED_SUBJECT = ["static", "noise"];
const FORWARD = ["ArrowRight", "PageDown"]; // as presenters send them, too
const BACK = ["ArrowLeft", "PageUp"];
let here = NAMES[0];
let visible = false;
let started = false;
let ready = Promise.resolve(); // once the model has drawn the picture of the chapters

export function start() {
  addEventListener("keydown", turn);
  $("how-large").addEventListener("click", projector);
  $("how-print").addEventListener("click", print);
  addEventListener("beforeprint", () => document.body.classList.add("printing"));
  addEventListener("afterprint", () => { document.body.classList.remove("printing"); open(here); });
  addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) large(false); });
  $("model").addEventListener("change", () => { if (visible) refresh(); });
}

// The chapter of a link such as #how/noise; #how alone is the first.
export function setVisible(on, name) {
  visible = on;
  document.body.classList.toggle("teaching", on);
  if (!on) return large(false);
  open(NAMES.includes(name) ? name : NAMES[0]);
  refresh();
}

export async function openFile(file) {
  if (!file) return;
  await attempt(async () => {
    await useFile(file);
    enter();
  });
}

function open(name) {
  here = name;
  const at = NAMES.indexOf(name);
  for (const [other, [id]] of Object.entries(CHAPTERS)) $(id).hidden = other !== name;
  document.querySelectorAll(".chapters a").forEach((link, i) => (i === at ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current")));
  link($("how-before"), NAMES[at - 1]);
  link($("how-after"), NAMES[at + 1]);
}

function link(anchor, name) {
  anchor.style.visibility = name ? "" : "hidden";
  if (!name) return;
  anchor.href = `#how/${name}`;
  anchor.querySelector("span").textContent = document.querySelector(`.chapters a[href="#how/${name}"] span`).textContent;
}

// Show the chapter again, with the picture that the present model has.
async function refresh() {
  if (!started) for (const [, chapter] of Object.values(CHAPTERS)) chapter.start();
  started = true;
  await attempt(async () => {
    ready = ready.then(drawSubject, drawSubject);
    if (NEED_SUBJECT.includes(here)) await ready;
    await enter();
  });
}

async function drawSubject() {
  for await (const _ of useModel()) if (here === NAMES[0]) still.enter();
}

async function enter() {
  if (!hasModel() && NEED_MODEL.includes(here)) throw new Error("this chapter needs a model of pixels: choose one above; a run has one once it has saved a checkpoint");
  await CHAPTERS[here][1].enter();
}

// The arrow keys turn the pages, unless the focus is where they mean something else.
function turn(event) {
  if (!visible || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const by = FORWARD.includes(event.key) ? 1 : BACK.includes(event.key) ? -1 : 0;
  const next = NAMES[NAMES.indexOf(here) + by];
  if (!by || !next || (event.key.startsWith("Arrow") && event.target.closest("input, select, textarea, canvas, pre"))) return;
  event.preventDefault();
  open(next); // before the new address does, as what is hidden takes no focus
  location.hash = `#how/${next}`;
  $(CHAPTERS[next][0]).querySelector("h2").focus({ preventScroll: true });
}

// Large type without the frame; the browser's full screen where it allows it.
function projector() {
  const on = $("how-large").getAttribute("aria-pressed") !== "true";
  large(on);
  if (on) document.documentElement.requestFullscreen?.().catch(() => {});
}

function large(on) {
  document.body.classList.toggle("large", on);
  $("how-large").setAttribute("aria-pressed", String(on));
  if (!on && document.fullscreenElement) document.exitFullscreen().catch(() => {});
}

// Every chapter is brought into its present state first, so that none is empty on paper.
async function print() {
  const before = here;
  for (const name of NAMES) {
    open(name);
    await attempt(enter);
  }
  if (hasModel()) await attempt(noise.tell);
  open(before);
  window.print();
}
