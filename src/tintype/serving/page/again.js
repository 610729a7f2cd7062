// Going on from something: from a step, a part that was painted over, a picture, a receipt.
import { $, api, bytesOf, element, pictureOf, toast } from "./api.js";
import { freshSeed, send, settings } from "./make.js";
import { Painter } from "./paint.js";
import { painting, stopPlaying } from "./stage.js";
import { current, frame, model, row, state, step } from "./state.js";

const RECEIPT_BYTES = 2 ** 19; // of a file: its receipt is before its pixels
let painter;

export function start() {
  painter = new Painter($("paint"), $("brush"));
  const clicks = {
    again, recaption, copy, mask: () => paint(true), "paint-done": () => paint(false),
    "paint-clear": () => painter.wipe(), "paint-go": repaint, "start-clear": () => startFrom(null),
  };
  for (const [id, does] of Object.entries(clicks)) $(id).addEventListener("click", () => does());
  $("strength").addEventListener("input", () => {
    document.querySelector("output[for=strength]").textContent = Number($("strength").value).toFixed(2);
    $("way-noise").checked = true;
  });
  $("shows").addEventListener("input", () => { $("way-back").checked = true; });
  $("open").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
}

// shows: the caption of the picture, if it is known.
export function startFrom(image, shows = "") {
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
    $("shows").value = shows;
    $("way-noise").checked = true;
    $("caption").focus();
  }
  $("start").hidden = !state.from;
}

// How strong noise must be on a picture for it to be at a noise level, from 0 to 1.
function strengthAt(sigma) {
  const { sigma_min: low, sigma_max: high } = model();
  return Math.min(1, Math.max(0.01, Math.log(sigma / low) / Math.log(high / low)));
}

function guess() {
  const canvas = element("canvas");
  frame().draw(canvas, "guess", row());
  return canvas;
}

// No step is locked in: noise the guess of this step as much as it was noised then, and develop it again.
function again() {
  const canvas = guess();
  const size = { width: canvas.width, height: canvas.height, n: 1, invert: undefined };
  if (step() === 0 && !current().ask.init_image) return send([{ ask: settings({ ...size, init_image: undefined, strength: undefined }), label: "" }]);
  send([{ ask: settings({ ...size, init_image: canvas.toDataURL("image/png"), strength: strengthAt(frame().sigma) }), label: "" }]);
}

// Lead the picture back to the noise it comes from, to be developed from there under another caption.
async function recaption() {
  const { blob, receipt } = current().pictures[row()];
  startFrom(await pictureOf(blob), receipt.caption);
  $("way-back").checked = true;
  $("caption").select();
  toast("Change its caption, then develop: what the caption leaves open stays as it is");
}

function paint(on) {
  painting(on);
  if (!on) return;
  stopPlaying();
  const canvas = guess();
  painter.begin(canvas.width, canvas.height);
  $("paint").focus();
}

function repaint() {
  if (!painter.touched) return toast("Paint over what is to be made again first");
  freshSeed();
  const canvas = guess();
  const [width, height] = [canvas.width, canvas.height];
  const more = { width, height, n: 1, invert: undefined, init_image: canvas.toDataURL("image/png"), mask: painter.mask(width, height), strength: Number($("paint-strength").value) };
  send([{ ask: settings(more), label: "" }]);
}

export function useReceipt(receipt) {
  if (receipt.model in state.models) $("model").value = receipt.model;
  else toast(`The model ${receipt.model} is not served here`);
  const fields = { caption: receipt.caption, seed: receipt.seed, steps: receipt.steps, guidance: receipt.guidance, sampler: receipt.sampler, negative: receipt.negative, width: receipt.width, height: receipt.height, num: 1 };
  for (const [id, value] of Object.entries(fields)) $(id).value = value;
  $("lock").setAttribute("aria-pressed", "true");
  startFrom(null);
  $("caption").dispatchEvent(new Event("input"));
  scrollTo({ top: 0 });
}

export function redo(receipt) {
  useReceipt(receipt);
  if (receipt.init_image) return toast("It began from a picture: open that one, then develop");
  send([{ ask: settings({ index: receipt.index, n: 1 }), label: "" }]);
}

async function copy() {
  const picture = current().pictures?.[row()];
  const text = JSON.stringify(picture ? picture.receipt : settings(), null, 2);
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not let pages copy here");
  }
}

// A picture that was dropped or opened: its settings if it carries a receipt, else a start.
export async function take(file) {
  if (!file) return;
  try {
    const ask = async () => api("/api/receipt", { image: await bytesOf(file.slice(0, RECEIPT_BYTES, file.type)) });
    const { receipt } = file.type === "image/png" ? await ask() : { receipt: null };
    if (receipt && !receipt.init_image) {
      useReceipt(receipt);
      toast("Its settings are in place: develop makes it again");
    } else {
      startFrom(await pictureOf(file), receipt?.caption);
      toast(receipt ? "It began from another picture, so it is used as a start" : "It carries no receipt: it is used as a start");
    }
  } catch (error) {
    toast(error.message);
  }
}
