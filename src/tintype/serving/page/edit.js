// Editing: restart from a step, a painted mask, a picture or a receipt.
import { $, api, element, readDataUrl, readPicture, toast } from "./api.js";
import { freshSeed, send, settings } from "./generate.js";
import { Painter } from "./paint.js";
import * as size from "./size.js";
import { painting, stopPlaying } from "./stage.js";
import { current, frame, model, row, state, step } from "./state.js";

const RECEIPT_BYTES = 2 ** 19; // from the start of a file, where the receipt is
const THUMBNAIL = 128; // pixels, the longer side
let painter;

export function start() {
  painter = new Painter($("paint"), $("brush"));
  const clicks = {
    again: restart, recaption, copy, mask: () => paint(true), "paint-done": () => paint(false),
    "paint-clear": () => painter.clear(), "paint-go": repaint, "start-clear": () => startFrom(null),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action());
  $("strength").addEventListener("input", () => {
    document.querySelector("output[for=strength]").textContent = Number($("strength").value).toFixed(2);
    $("way-noise").checked = true;
  });
  $("shows").addEventListener("input", () => { $("way-back").checked = true; });
  $("open").addEventListener("change", (event) => { openFile(event.target.files[0]); event.target.value = ""; });
}

// caption: of the picture, if known.
export function startFrom(image, caption = "") {
  state.from = null;
  if (image) {
    const canvas = element("canvas", { width: image.naturalWidth ?? image.width, height: image.naturalHeight ?? image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    state.from = { url: canvas.toDataURL("image/png"), width: canvas.width, height: canvas.height };
    thumbnail($("start-picture"), canvas);
    $("shows").value = caption;
    $("way-noise").checked = true;
    $("caption").focus();
  }
  $("start").hidden = !state.from;
  size.reset();
}

function thumbnail(small, picture) {
  const scale = Math.min(1, THUMBNAIL / Math.max(picture.width, picture.height));
  Object.assign(small, { width: Math.max(1, Math.round(picture.width * scale)), height: Math.max(1, Math.round(picture.height * scale)) });
  small.classList.toggle("small", scale === 1);
  small.getContext("2d").imageSmoothingQuality = "high";
  small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
}

// The strength, from 0 to 1, that brings a picture to a noise level.
function strengthAt(sigma) {
  const { sigma_min: low, sigma_max: high } = model();
  return Math.min(1, Math.max(0.01, Math.log(sigma / low) / Math.log(high / low)));
}

function guess() {
  const canvas = element("canvas");
  frame().draw(canvas, "guess", row());
  return canvas;
}

// The size of a request that goes on from the guess: its own, and what it is to be enlarged to.
function sizeOf(canvas) {
  const { width, height, enlarge } = current().body;
  return enlarge ? { width, height, enlarge } : { width: canvas.width, height: canvas.height, enlarge: null };
}

// Add noise to the guess of this step, at the step's own level, and develop it again.
function restart() {
  const canvas = guess();
  const overrides = { ...sizeOf(canvas), n: 1, source_caption: undefined };
  if (step() === 0 && !current().body.init_image) return send([{ body: settings({ ...overrides, init_image: undefined, strength: undefined }), label: "" }]);
  send([{ body: settings({ ...overrides, init_image: canvas.toDataURL("image/png"), strength: strengthAt(frame().sigma) }), label: "" }]);
}

// Invert the picture to its noise, to develop it from there under another caption.
async function recaption() {
  const { blob, receipt } = current().pictures[row()];
  startFrom(await readPicture(blob), receipt.caption);
  size.useReceipt(receipt);
  $("way-back").checked = true;
  $("caption").select();
  toast("Change the caption, then develop: details that the caption leaves open stay");
}

function paint(on) {
  painting(on);
  if (!on) return;
  stopPlaying();
  const canvas = guess();
  painter.start(canvas.width, canvas.height);
  $("paint").focus();
}

function repaint() {
  if (!painter.touched) return toast("Paint the part to redo first");
  freshSeed();
  const canvas = guess();
  const images = { init_image: canvas.toDataURL("image/png"), mask: painter.mask(canvas.width, canvas.height) };
  const overrides = { ...sizeOf(canvas), ...images, n: 1, source_caption: undefined, strength: Number($("paint-strength").value) };
  send([{ body: settings(overrides), label: "" }]);
}

export function useReceipt(receipt) {
  if (Object.hasOwn(state.models, receipt.model)) $("model").value = receipt.model;
  else toast(`This server does not have the model ${receipt.model}`);
  startFrom(null);
  const fields = { caption: receipt.caption, seed: receipt.seed, steps: receipt.steps, guidance: receipt.guidance, sampler: receipt.sampler, negative: receipt.negative, num: 1 };
  for (const [id, value] of Object.entries(fields)) $(id).value = value;
  size.useReceipt(receipt);
  $("lock").setAttribute("aria-pressed", "true");
  $("caption").dispatchEvent(new Event("input"));
  scrollTo({ top: 0 });
}

export function redo(receipt) {
  useReceipt(receipt);
  if (receipt.init_image) return toast("This picture started from another one: open that one, then develop");
  send([{ body: settings({ index: receipt.index, n: 1 }), label: "" }]);
}

async function copy() {
  const picture = current().pictures?.[row()];
  const text = JSON.stringify(picture ? picture.receipt : settings(), null, 2);
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not allow copying here");
  }
}

// A dropped or opened picture: use its settings if it has a receipt, else start from it.
export async function openFile(file) {
  if (!file) return;
  try {
    const read = async () => api("api/receipt", { image: await readDataUrl(file.slice(0, RECEIPT_BYTES, file.type)) });
    const { receipt } = file.type === "image/png" ? await read() : { receipt: null };
    if (receipt && !receipt.init_image) {
      useReceipt(receipt);
      toast("Its settings are set: Develop makes the same picture");
    } else {
      startFrom(await readPicture(file), receipt?.caption);
      toast(receipt ? "This picture started from another one: it is now the starting picture" : "This picture has no receipt: it is now the starting picture");
    }
  } catch (error) {
    toast(error.message);
  }
}
