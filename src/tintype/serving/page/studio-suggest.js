// Captions that a model of this machine suggests: the button for it, and how far it is.
import { $, api, element } from "./api.js";
import { at, many, studio } from "./studio-state.js";

const task = () => studio.overview.tasks.findLast(({ dataset, kind }) => dataset === studio.data && kind === "captions");
let told = ""; // the task whose end was told

let changed = async () => {}; // the overview is asked for anew

// chosen(): the numbers of the selected rows; null without a selection. attempt(work): shows what went wrong.
export function start(chosen, attempt, onChange) {
  changed = onChange;
  $("captions-suggest").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => begin(chosen())); });
  $("captions-busy-stop").addEventListener("click", () => attempt(() => api(`api/studio/tasks/${task().id}/cancel`, {})));
}

async function begin(rows) {
  studio.overview.tasks.push(await api(at(studio.data, "captions/suggest"), { captioner: $("captions-captioner").value, rows }));
  update();
  await changed();
}

// Follow the overview. Returns whether captions have come that the page does not show yet.
export function update() {
  const { captioners = [] } = studio.overview;
  $("captions-suggest").hidden = !captioners.length;
  if ($("captions-captioner").options.length !== captioners.length) {
    $("captions-captioner").replaceChildren(...captioners.map((name) => element("option", { value: name, textContent: name })));
  }
  const now = task();
  const isOpen = now && ["waiting", "running"].includes(now.state);
  $("captions-busy").hidden = !isOpen;
  if (!now) return false;
  if (isOpen) {
    $("captions-busy-says").textContent = now.total ? `A model writes captions: ${now.done.toLocaleString("en")} of ${many(now.total, "picture")}` : now.state === "waiting" ? "Waits for other work to end" : "The model is being read";
    if (now.total) Object.assign($("captions-busy-bar"), { max: now.total, value: now.done });
    else $("captions-busy-bar").removeAttribute("value");
  } else if (told.startsWith(now.id) && now.state === "failed") $("captions-status").textContent = `No captions: ${now.error}`;
  const key = `${now.id} ${now.state} ${now.done}`;
  const isNew = told !== key && (isOpen || told.startsWith(`${now.id} `));
  told = key;
  return isNew;
}
