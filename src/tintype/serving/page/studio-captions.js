// Step 2 of the studio: all captions, searched, filtered, changed one by one or many at once, and saved as they change.
import { $, api, element, toast } from "./api.js";
import { CaptionGrid } from "./studio-cell.js";
import { Rows } from "./studio-rows.js";
import { at, dataset, many, studio, thumbnail } from "./studio-state.js";
import * as suggest from "./studio-suggest.js";

const AGAIN_MS = 3000; // until a caption that could not be saved is tried again
const TYPING_MS = 120; // after the last letter of a search
const MAX_ROWS = 10000; // that one operation may name; more are named by their search
const LABELS = { all: "All", empty: "No caption", repeated: "Repeated", unread: "Not readable", cut: "Cut", edited: "Edited", left_out: "Left out" };
const PAGE = { side: 256 };
const unsaved = new Map(); // row: { caption, before }, in the order of their changes
let filter = "all";
let shown = ""; // the data set on display
let rows, grid, saving;

export function start(onChange) {
  rows = new Rows(() => grid.arrived());
  grid = new CaptionGrid($("captions-grid"), { rows, thumb: (row) => thumbnail(studio.data, row, PAGE.side), onEdit: edit, onSelect: says });
  $("captions-filters").replaceChildren(...Object.keys(LABELS).map(chip));
  $("captions-search").addEventListener("input", () => { clearTimeout(start.typing); start.typing = setTimeout(find, TYPING_MS); });
  $("captions-search").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.value) { event.target.value = ""; find(); event.preventDefault(); }
    if (event.key === "ArrowDown" || event.key === "Enter") { grid.grid.moveTo(0); event.preventDefault(); }
  });
  const forms = {
    "captions-replace": () => ({ op: "replace", find: $("captions-find").value, with: $("captions-by").value, words: $("captions-whole").checked, match_case: false }),
    "captions-add": () => ({ op: $("captions-where").value, text: $("captions-words").value.trim(), separator: $("captions-comma").checked ? ", " : " " }),
    "captions-names": () => ({ op: "names", from: $("captions-from").value, only_empty: $("captions-only").checked }),
  };
  for (const [id, operation] of Object.entries(forms)) {
    $(id).addEventListener("submit", (event) => { event.preventDefault(); attempt(() => operate(operation())); });
    $(id).addEventListener("input", () => attempt(() => preview(operation())));
  }
  $("captions-out").addEventListener("click", () => attempt(() => operate({ op: "use", use: false })));
  $("captions-in").addEventListener("click", () => attempt(() => operate({ op: "use", use: true })));
  $("captions-reset").addEventListener("click", () => attempt(() => operate({ op: "reset" })));
  for (const way of ["undo", "redo"]) $(`captions-${way}`).addEventListener("click", () => attempt(() => back(way)));
  suggest.start(() => (grid.selected.size ? selection().rows ?? null : null), attempt, onChange);
  addEventListener("keydown", shortcut);
  addEventListener("beforeunload", (event) => { if (unsaved.size) event.preventDefault(); });
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    $("captions-status").textContent = error.message;
  }
}

export async function enter() {
  $("captions-body").hidden = !dataset()?.scanned;
  $("captions-wait").hidden = Boolean(dataset()?.scanned);
  if (!dataset()?.scanned) return void (shown = "");
  update();
  const isNew = suggest.update();
  if (shown === studio.data) {
    grid.grid.measure();
    if (!isNew) return;
    rows.forget();
    return attempt(() => after(dataset()));
  }
  shown = studio.data;
  $("captions-search").value = "";
  filter = "all";
  await attempt(find);
}

// Pictures were added or checked: the list is made anew.
export function forget() {
  shown = "";
}

// What the overview says of the data set: what can be taken back.
export function update() {
  const { can_undo: undo, can_redo: redo } = dataset() ?? {};
  $("captions-files").href = at(studio.data, "captions.zip");
  $("captions-copies").href = at(studio.data, "captions.zip?pictures=true");
  for (const [id, label, what] of [["captions-undo", "Undo", undo], ["captions-redo", "Redo", redo]]) {
    $(id).disabled = !what;
    $(id).title = what ? `${label}: ${what}` : "";
  }
}

function chip(name) {
  const button = element("button", { type: "button" });
  button.dataset.filter = name;
  button.addEventListener("click", () => { filter = name; attempt(find); });
  return button;
}

async function find() {
  grid.close();
  if (!(await rows.find(studio.data, $("captions-search").value.trim(), filter))) return;
  grid.reset();
  numbers();
}

function numbers() {
  for (const button of $("captions-filters").children) {
    const name = button.dataset.filter;
    const number = rows.counts[name];
    button.textContent = `${LABELS[name]}${number === null || number === undefined ? "" : ` ${number.toLocaleString("en")}`}`;
    button.hidden = number === 0 && name !== filter && name !== "all";
    button.setAttribute("aria-pressed", String(name === filter));
  }
  $("captions-none").hidden = rows.rows.length > 0;
}

function says() {
  $("captions-suggest-go").textContent = grid.selected.size ? "Suggest captions for the selection" : "Suggest captions where there are none";
  $("captions-target").textContent = grid.selected.size ? `${many(grid.selected.size, "picture")} selected` : `All ${many(rows.rows.length, "picture")} shown`;
}

function edit(picture, caption) {
  unsaved.set(picture.row, { caption, before: unsaved.get(picture.row)?.before ?? picture.caption });
  Object.assign(picture, { caption, edited: true });
  save();
}

// Send one caption after the other; those that cannot be sent wait.
async function save() {
  if (saving || !unsaved.size) return saving;
  $("captions-status").textContent = "Saving …";
  saving = sendAll();
  try {
    await saving;
  } finally {
    saving = null;
  }
}

// Captions may change while others are on their way.
async function sendAll() {
  while (unsaved.size) if (!(await send())) return;
}

// Returns whether the server answered.
async function send() {
  let said = "Saved";
  for (const [row, { caption, before }] of unsaved) {
    try {
      const { edit: _, ...picture } = await api(at(shown, `captions/${row}`), { caption, before }, "PATCH");
      if (unsaved.get(row)?.caption !== caption) unsaved.get(row).before = caption;
      else unsaved.delete(row);
      if (!unsaved.has(row)) rows.known.set(row, picture);
    } catch (error) {
      if (error.status === undefined || error.status >= 500) return later(error), false;
      unsaved.delete(row);
      said = error.code === "changed_meanwhile" ? "Another tab changed this caption meanwhile: it is shown as it is there" : error.message;
      rows.known.delete(row);
    }
  }
  $("captions-status").textContent = said;
  await after();
  return true;
}

function later(error) {
  $("captions-status").textContent = `${many(unsaved.size, "caption")} not saved yet: ${error.message}. The page tries again.`;
  setTimeout(save, AGAIN_MS);
}

// Numbers of the filters, and what can be taken back, after a change.
async function after(changed = null) {
  const overview = changed ?? await api(at(shown));
  Object.assign(dataset(shown) ?? {}, overview);
  update();
  grid.refresh();
  await rows.recount($("captions-search").value.trim(), filter);
  numbers();
}

function selection() {
  const chosen = grid.selected.size ? rows.rows.filter((row) => grid.selected.has(row)) : rows.rows;
  if (chosen.length <= MAX_ROWS) return { rows: chosen };
  if (grid.selected.size) throw new Error(`at most ${MAX_ROWS.toLocaleString("en")} pictures can be selected; a search may keep more`);
  return { where: { q: $("captions-search").value.trim(), filter } };
}

const isComplete = (operation) => operation.find !== "" && operation.text !== "";

async function operate(operation) {
  if (!isComplete(operation)) return;
  grid.close();
  await save();
  const { edit: done, dataset: changed } = await api(at(shown, "captions"), { ...operation, ...selection() });
  toast(done ? `${many(done.changed, "caption")} changed` : "Nothing to change");
  $("captions-preview").textContent = "";
  if (!done) return;
  rows.forget();
  await after(changed);
}

// What an operation would do, in one line, before it is done.
async function preview(operation) {
  const number = preview.number = (preview.number ?? 0) + 1;
  if (!isComplete(operation) || operation.op === "names") return void ($("captions-preview").textContent = "");
  const { changes, examples } = await api(at(shown, "captions"), { ...operation, ...selection(), preview: true });
  if (number !== preview.number) return;
  const [first] = examples;
  $("captions-preview").textContent = first ? `${many(changes, "caption")}: “${first.before || "no caption"}” becomes “${first.after}”` : "No caption would change";
}

async function back(way) {
  await save();
  const { edit: done, dataset: changed } = await api(at(shown, way), {});
  toast(`${way === "undo" ? "Undone" : "Done again"}: ${done.label}`);
  rows.forget();
  await after(changed);
}

function shortcut(event) {
  if ($("studio").hidden || $("studio-captions").hidden || event.defaultPrevented || event.altKey) return;
  const typing = event.target.closest("input, textarea, select");
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  if (typing) return;
  if (key === "/") $("captions-search").focus();
  else if (command && (key === "y" || (key === "z" && event.shiftKey))) attempt(() => back("redo"));
  else if (command && key === "z") attempt(() => back("undo"));
  else return;
  event.preventDefault();
}
