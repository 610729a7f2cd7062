// Step 1 of the studio: pictures that are dropped, chosen or lie in a folder of this machine, as data sets.
import { $, api, element, toast } from "./api.js";
import { Sending, chosen, dropped, sortOut } from "./studio-send.js";
import { at, bytes, many, remember, studio, taskOf } from "./studio-state.js";
import * as verdict from "./studio-verdict.js";

let sending = null;
let changed = () => {}; // the overview is asked for anew

export function start(onChange) {
  changed = onChange;
  for (const id of ["studio-files", "studio-folder"]) {
    $(id).addEventListener("change", () => { attempt(() => take(chosen($(id)))).then(() => { $(id).value = ""; }); });
  }
  $("studio-browse").addEventListener("click", () => attempt(() => browse($("browse").hidden ? "" : null)));
  $("browse-use").addEventListener("click", () => attempt(useFolder));
  $("upload-stop").addEventListener("click", () => sending?.stop());
  verdict.start(changed);
}

async function attempt(work) {
  try {
    $("data-status").textContent = "";
    await work();
  } catch (error) {
    $("data-status").textContent = error.message;
  }
}

export function openDrop(transfer) {
  return attempt(async () => take(await dropped(transfer)));
}

export function update() {
  const { datasets, limits } = studio.overview;
  $("data-sets").replaceChildren(...datasets.map(card));
  $("data-sets-title").hidden = !datasets.length;
  const own = datasets.filter(({ folder }) => folder === null);
  const before = $("upload-into").value;
  $("upload-into").replaceChildren(element("option", { value: "", textContent: "a new data set" }), ...own.map(({ id, name }) => element("option", { value: id, textContent: name })));
  $("upload-into").value = own.some(({ id }) => id === before) ? before : "";
  $("upload-into").parentElement.hidden = !own.length;
  $("data-limits").textContent = `${limits.suffixes.filter((suffix) => suffix.startsWith(".")).map((suffix) => suffix.slice(1)).join(", ")}; ${bytes(studio.overview.disk_free)} free on this disk`;
  verdict.update();
}

function card(one) {
  const choose = element("button", { type: "button", className: "name", textContent: one.name });
  choose.setAttribute("aria-pressed", String(one.id === studio.data));
  choose.addEventListener("click", () => { use(one.id); changed(); });
  const remove = element("button", { type: "button", className: "quiet", textContent: "✕", title: "Move to the trash" });
  remove.setAttribute("aria-label", `Move ${one.name} to the trash`);
  remove.addEventListener("click", () => attempt(async () => {
    await api(at(one.id), undefined, "DELETE");
    toast(`${one.name} is in the trash; the step Models brings it back`);
    await changed();
  }));
  return element("li", { className: one.id === studio.data ? "now" : "" }, choose, element("small", { textContent: about(one) }), remove);
}

function about(one) {
  const place = one.folder === null ? "uploaded" : one.folder || "the whole folder";
  if (one.gone) return `${place}: this folder is no longer there`;
  if (taskOf(one.id)) return `${place} · being read`;
  if (!one.scanned) return `${place} · not read yet`;
  if (!one.pictures) return `${place} · no pictures`;
  return `${place} · ${many(one.pictures, "picture")}, ${one.empty ? `${one.empty.toLocaleString("en")} without a caption` : "all with a caption"}`;
}

function use(id) {
  studio.data = id;
  remember();
}

const title = (files) => {
  const first = files[0].path;
  if (first.includes("/")) return first.split("/")[0];
  return files.length === 1 ? first.replace(/\.[^.]+$/, "") : "My pictures";
};

// Send files to a data set, and have it read.
async function take(files) {
  if (!files.length) throw new Error("there are no files in what was dropped");
  if (sending) throw new Error("other files are still on their way");
  const { kept, refused } = sortOut(files, studio.overview.limits);
  if (!kept.length) throw new Error(`${many(refused.length, "file")}, but no picture among them: pictures, caption files and zip files can be used`);
  let id = $("upload-into").value;
  if (!id) ({ dataset: { id } } = await api("api/studio/datasets", { name: title(files) }));
  use(id);
  sending = new Sending(id, kept, studio.overview.limits.chunk_bytes);
  sending.refused.push(...refused);
  $("upload").hidden = false;
  $("browse").hidden = true;
  progress(sending);
  try {
    await changed();
    await sending.run(progress);
    if (sending.stopped) toast("The upload was stopped; what had arrived is kept");
    if (sending.number) await api(at(id, "scan"), {});
  } finally {
    left(sending);
    sending = null;
    $("upload").hidden = true;
    await changed();
  }
}

function progress({ number, files, bytes: sent, total, message }) {
  Object.assign($("upload-bar"), { max: Math.max(1, total), value: sent });
  $("upload-says").textContent = message || `${number.toLocaleString("en")} of ${many(files.length, "file")}, ${bytes(sent)} of ${bytes(total)}`;
}

function left({ refused }) {
  $("upload-left").hidden = !refused.length;
  $("upload-left").replaceChildren(element("summary", { textContent: `${many(refused.length, "file")} not sent` }),
    element("ul", {}, ...refused.slice(0, 100).map(({ path, reason }) => element("li", { textContent: `${path}: ${reason}` }))));
}

let here = "";

// The folders below the root; null closes the list.
async function browse(path) {
  $("browse").hidden = path === null;
  $("studio-browse").setAttribute("aria-expanded", String(path !== null));
  if (path === null) return;
  const found = await api(`api/studio/folders?${new URLSearchParams({ path, limit: 500 })}`);
  here = found.path;
  const parts = here ? here.split("/") : [];
  const crumbs = [studio.overview.root, ...parts].map((name, i) => opener(name, parts.slice(0, i).join("/")));
  $("browse-path").replaceChildren(...crumbs.flatMap((crumb, i) => (i ? [" / ", crumb] : [crumb])));
  $("browse-list").replaceChildren(...found.folders.map(({ name, path: inner }) => element("li", {}, opener(`${name} /`, inner, name))),
    ...found.archives.map((archive) => element("li", {}, archiveOf(archive))));
  $("browse-none").hidden = found.folders.length + found.archives.length > 0;
  $("browse-says").textContent = found.pictures ? `${many(found.pictures, "picture")} and ${many(found.captions, "caption file")} directly in here` : "No pictures directly in here; those of folders inside count too";
}

function opener(text, path, label = text) {
  const button = element("button", { type: "button", className: "quiet", textContent: text });
  button.setAttribute("aria-label", `Open ${label}`);
  button.addEventListener("click", () => attempt(async () => { await browse(path); $("browse-use").focus(); }));
  return button;
}

function archiveOf({ name, path, bytes: size }) {
  const button = element("button", { type: "button", className: "quiet", textContent: `${name} (${bytes(size)})` });
  button.addEventListener("click", () => attempt(() => useFolder(path)));
  return button;
}

async function useFolder(path) {
  const folder = typeof path === "string" ? path : here;
  const { dataset: made } = await api("api/studio/datasets", { name: folder.split("/").at(-1).replace(/\.(zip|tar)$/i, "") || studio.overview.root, folder });
  await browse(null);
  use(made.id);
  await changed();
}

