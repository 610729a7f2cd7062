// Editing: restart from a step, a painted mask, a picture or a receipt.
import { $, api, element, readDataUrl, readPicture, toast } from "./api.js";
import { freshSeed, send, settings } from "./generate.js";
import { Painter } from "./paint.js";
import { painting, stopPlaying } from "./stage.js";
import { current, frame, model, row, state, step } from "./state.js";

const RECEIPT_BYTES = 2 ** 19; // from the start of a file, where the receipt is
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
    state.from = { url: canvas.toDataURL("image/png") };
    const small = $("start-picture");
    Object.assign(small, { width: 48, height: 48 });
    const side = Math.min(canvas.width, canvas.height);
    small.getContext("2d").imageSmoothingEnabled = false;
    small.getContext("2d").drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, 48, 48);
    $("shows").value = caption;
    $("way-noise").checked = true;
    $("caption").focus();
  }
  $("start").hidden = !state.from;
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

// Add noise to the guess of this step, at the step's own level, and develop it again.
function restart() {
  const canvas = guess();
  const size = { width: canvas.width, height: canvas.height, n: 1, source_caption: undefined };
  if (step() === 0 && !current().body.init_image) return send([{ body: settings({ ...size, init_image: undefined, strength: undefined }), label: "" }]);
  send([{ body: settings({ ...size, init_image: canvas.toDataURL("image/png"), strength: strengthAt(frame().sigma) }), label: "" }]);
}

// Invert the picture to its noise, to develop it from there under another caption.
async function recaption() {
  const { blob, receipt } = current().pictures[row()];
  startFrom(await readPicture(blob), receipt.caption);
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
  const [width, height] = [canvas.width, canvas.height];
  const overrides = { width, height, n: 1, source_caption: undefined, init_image: canvas.toDataURL("image/png"), mask: painter.mask(width, height), strength: Number($("paint-strength").value) };
  send([{ body: settings(overrides), label: "" }]);
}

export function useReceipt(receipt) {
  if (Object.hasOwn(state.models, receipt.model)) $("model").value = receipt.model;
  else toast(`This server does not have the model ${receipt.model}`);
  const fields = { caption: receipt.caption, seed: receipt.seed, steps: receipt.steps, guidance: receipt.guidance, sampler: receipt.sampler, negative: receipt.negative, width: receipt.width, height: receipt.height, num: 1 };
  for (const [id, value] of Object.entries(fields)) $(id).value = value;
  $("lock").setAttribute("aria-pressed", "true");
  startFrom(null);
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
