// Chapter 1: a picture, and noise of any strength added to it. Everything here is computed in the page.
import { $, short } from "./api.js";
import { attempt } from "./attempt.js";
import { dimming, drawNoisy, mix, variance } from "./pixels.js";
import { currentModel, drawOne, otherNoise, setCaption, subject, useFile, useLatest } from "./subject.js";

const LEAST = 0.02; // noise level at which the slider begins, after none at all
const MOST = 80;

export function start() {
  $("static-level").addEventListener("input", enter);
  $("static-dice").addEventListener("click", () => { otherNoise(); enter(); });
  $("how-draw").addEventListener("click", () => attempt(async () => { for await (const _ of drawOne()) enter(); }));
  $("how-caption").addEventListener("change", () => setCaption($("how-caption").value.trim()));
  $("how-latest").addEventListener("click", () => attempt(async () => {
    if (!await useLatest()) throw new Error("this browser has no pictures yet: develop one, or choose a file");
    enter();
  }));
  $("how-open").addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (file) attempt(async () => { await useFile(file); enter(); });
  });
}

// The noise level at a place of the slider, 0 to 1: none, then evenly in its logarithm.
export function levelAt(place) {
  const { sigma_min: low = LEAST, sigma_max: high = MOST } = currentModel();
  return place === 0 ? 0 : low * (high / low) ** place;
}

export function enter() {
  const { shape, x0, noise } = subject;
  const sigma = levelAt(Number($("static-level").value) / 100);
  drawNoisy($("static-picture"), x0, sigma, shape);
  drawNoisy($("static-noise"), mix([sigma, noise]), sigma, shape);
  drawNoisy($("static-noisy"), mix([1, x0], [sigma, noise]), sigma, shape);
  $("static-dimmed").textContent = sigma === 0 ? "as it is" : `all three dimmed to ${short(100 * dimming(sigma))} %, to fit the screen`;
  $("static-source").textContent = subject.source;
  if (document.activeElement !== $("how-caption")) $("how-caption").value = subject.caption;
  $("static-times").textContent = sigma === 0 ? "0" : short(sigma);
  $("static-level").setAttribute("aria-valuetext", `noise level ${$("static-times").textContent}`);
  $("static-seen").textContent = whatIsSeen(sigma, variance(x0) / (variance(x0) + sigma * sigma), x0.length);
}

// share: of the picture in all contrast, by its measured variance and that of the noise.
function whatIsSeen(sigma, share, count) {
  if (sigma === 0) return `No noise yet. This picture is ${count.toLocaleString("en")} numbers: one for each color of each dot.`;
  const numbers = `${count.toLocaleString("en")} random numbers were added, times ${short(sigma)}.`;
  const parts = share < 0.01 ? `One part in ${short(1 / share)} of what you see is still the picture`
    : `Of 100 parts of what you see ${Math.min(99, Math.round(100 * share))} are still the picture`;
  const eye = share > 0.6 ? "nothing is hidden yet" : share > 0.15 ? "the large shapes are still there" : share > 0.01 ? "an eye finds a trace, if it knows what to look for"
    : "the eye finds nothing, and yet it is not gone";
  return `${numbers} ${parts}: ${eye}.`;
}
