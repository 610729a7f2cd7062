// What goes wrong in a chapter is said above it.
import { $ } from "./api.js";

// A chapter's work. A message that was there goes; an error of this work becomes the new one.
export async function attempt(work) {
  try {
    await work();
    $("how-status").textContent = "";
  } catch (error) {
    $("how-status").textContent = error.message;
  }
}
