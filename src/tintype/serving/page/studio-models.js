// Step 5 of the studio: models to use, to give away and to throw away, and the trash.
import { $, api, element, toast } from "./api.js";
import { bytes, studio } from "./studio-state.js";
import { develop } from "./studio-train.js";

let changed = () => {};

export function start(onChange) {
  changed = onChange;
}

export function update() {
  const { runs, trash } = studio.overview;
  const usable = runs.filter((one) => one.model || one.can.includes("delete"));
  $("models-none").hidden = usable.length > 0;
  replace($("models-list"), usable, ({ name, model, can, state }) => `${name} ${model} ${can} ${state}`, modelCard);
  $("trash").hidden = trash.length === 0;
  replace($("trash-list"), trash, ({ id }) => id, trashCard);
}

// Cards for things; a list that is as before stays, so that the focus does, too.
function replace(list, things, keyOf, card) {
  const key = things.map(keyOf).join("\n");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...things.map(card));
}

function act(text, name, work, className = "") {
  const button = element("button", { type: "button", textContent: text, className });
  button.setAttribute("aria-label", `${text}: ${name}`);
  button.addEventListener("click", async () => {
    try {
      $("models-status").textContent = "";
      await work();
    } catch (error) {
      $("models-status").textContent = error.message;
    }
  });
  return button;
}

function modelCard({ name, state, model, can }) {
  const acts = [];
  if (model) acts.push(act("Develop", name, () => develop(name, "")));
  if (model && $("give")) acts.push(act("Give it away", name, () => give(name)));
  if (can.includes("delete")) acts.push(act("Move to the trash", name, () => remove(name), "quiet"));
  return element("li", {}, element("b", { textContent: name }), element("small", { textContent: state }), element("span", { className: "row" }, ...acts));
}

// The export of the developing page, for this model.
async function give(name) {
  await develop(name, "");
  $("give").scrollIntoView();
  $("give-as").focus({ preventScroll: true });
}

async function remove(name) {
  await api(`api/studio/runs/${encodeURIComponent(name)}`, undefined, "DELETE");
  toast(`${name} is in the trash`);
  await changed();
  $("trash-list").querySelector("button")?.focus();
}

function trashCard({ id, kind, name, bytes: size, deleted }) {
  const place = `api/studio/trash/${encodeURIComponent(id)}`;
  return element("li", {}, element("b", { textContent: name }),
    element("small", { textContent: `${kind === "run" ? "model" : "data set"}, ${bytes(size)}, ${new Date(deleted).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}` }),
    element("span", { className: "row" }, act("Bring back", name, async () => {
      const back = await api(`${place}/restore`, {});
      toast(`${back.name} is back${back.note ? `: ${back.note}` : ""}`);
      await changed();
    }), act("Delete for good", name, async () => {
      if (!confirm(`Delete ${name} for good? Nothing brings it back.`)) return;
      await api(place, undefined, "DELETE");
      await changed();
    }, "quiet")));
}
