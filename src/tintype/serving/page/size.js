// The size of the pictures to make: the model's own, that of the form, or the shape of the starting picture.
import { $ } from "./api.js";
import { model, state } from "./state.js";

const LARGE = 2; // times the side of a training picture; beyond it models repeat and scatter what they draw
const SIDES = ["width", "height"];

export function start() {
  for (const side of SIDES) $(side).addEventListener("input", offerToEnlarge);
}

// The size for which nobody asks: the model's own; with a starting picture none, so that its shape is kept.
export function reset() {
  const selected = model();
  if (selected) use(state.from ? {} : selected);
}

export function use({ width = "", height = "" }) {
  $("width").value = width;
  $("height").value = height;
  offerToEnlarge();
}

// The size of the picture with a receipt; it may have been made smaller, and enlarged.
export function useReceipt({ width, height, enlarge }) {
  const enlarged = enlargedSize(enlarge);
  use(enlarged ?? { width, height });
  $("enlarge").checked = Boolean(enlarged);
}

// The size in the text of a receipt, such as "512x512 lanczos"; null if the picture was not enlarged.
export function enlargedSize(enlarge) {
  const sides = /^(\d+)x(\d+)/.exec(enlarge ?? "");
  return sides && { width: Number(sides[1]), height: Number(sides[2]) };
}

// Enlarging is offered by choosing it; whoever prefers otherwise changes it until the next change of the size.
function offerToEnlarge() {
  const { resolution, width, height } = model();
  const [w, h] = SIDES.map((side) => Number($(side).value));
  $("enlarge").checked = Math.max(w, h) > LARGE * resolution && !(w === width && h === height);
}

export function fields() {
  const [width, height] = SIDES.map((side) => ($(side).value.trim() === "" ? null : Number($(side).value)));
  return { width, height, enlarge: $("enlarge").checked || null };
}

// Width divided by height of the pictures that the form asks for.
export function aspect() {
  const { width, height } = fields();
  if (width > 0 && height > 0) return width / height;
  const shape = state.from ?? model();
  return shape ? shape.width / shape.height : 1;
}
