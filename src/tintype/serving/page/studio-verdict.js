// What the check found in a data set: what is used, what is left out and why, and the cases to look at.
import { $, api, element } from "./api.js";
import { at, dataset, many, studio, taskOf, thumbnail } from "./studio-state.js";

const STAGES = { listing: "Listing the pictures", checking: "Looking at every picture", reading: "Reading the pictures" };
let shown = ""; // data set and verdict on display
let wasBusy = "";

export function start(changed) {
  const act = (part) => async () => {
    try {
      await api(at(studio.data, part), part === "check" ? { resolution: 32 } : {});
    } catch (error) {
      $("data-status").textContent = error.message;
    }
    await changed();
  };
  $("verdict-scan").addEventListener("click", act("scan"));
  $("verdict-check").addEventListener("click", act("check"));
  $("task-cancel").addEventListener("click", async () => {
    await api(`api/studio/tasks/${taskOf().id}/cancel`, {}).catch(() => {});
    await changed();
  });
}

// Follow the overview: the work on the data set, and its verdict once that is done.
export async function update() {
  const one = dataset();
  const task = taskOf();
  $("verdict").hidden = !one;
  if (!one) return;
  $("task").hidden = !task;
  $("verdict-scan").parentElement.hidden = Boolean(task);
  if (task) {
    $("task-says").textContent = task.state === "waiting" ? "Waits for other work to end" : `${STAGES[task.stage] ?? STAGES.reading}${task.total ? `: ${task.done.toLocaleString("en")} of ${task.total.toLocaleString("en")}` : ""}`;
    if (task.total) Object.assign($("task-bar"), { max: task.total, value: task.done });
    else $("task-bar").removeAttribute("value");
    wasBusy = one.id;
    return;
  }
  const failed = studio.overview.tasks.findLast((other) => other.dataset === one.id && ["scan", "check"].includes(other.kind));
  $("task-error").textContent = failed?.state === "failed" ? failed.error : "";
  const now = `${one.id} ${one.checked} ${one.pictures} ${one.stale}`;
  if (shown === now && wasBusy !== one.id) return;
  shown = now;
  wasBusy = "";
  $("verdict-body").hidden = true;
  $("verdict-scan").textContent = one.scanned ? "Read the pictures again" : "Read the pictures";
  $("verdict-check").hidden = !one.scanned;
  if (!one.judged) return;
  try {
    const verdict = await api(at(one.id, "verdict"));
    if (one.id === studio.data) show(one, verdict);
  } catch (error) {
    if (error.code !== "not_checked") $("task-error").textContent = error.message;
  }
}

function show(one, verdict) {
  $("verdict-body").hidden = false;
  $("verdict-line").textContent = verdict.usable ? `${many(verdict.usable, "picture")} can be used` : "No picture can be used yet";
  const without = one.empty ? `${many(one.empty, "picture has", "pictures have")} no caption yet: the step Captions is for that. ` : "";
  $("verdict-more").textContent = `${without}${verdict.left_out ? `${many(verdict.left_out, "file")} left out, as below.` : "Nothing is left out."}`;
  $("verdict-stale").hidden = !verdict.stale;
  const out = verdict.problems.filter((problem) => problem.left_out);
  const remarks = verdict.problems.filter((problem) => !problem.left_out);
  $("verdict-cases").replaceChildren(...group("Left out", out.map(reason)), ...group("Used, but worth a look", remarks.map(reason)),
    ...group("To look at", verdict.worst.map(({ title, pictures }) => figures(title, pictures))));
  $("verdict-facts").replaceChildren(...verdict.histograms.map(histogram));
  $("verdict-read").replaceChildren(...verdict.captions_as_read.map(({ text, cut }) => element("li", { textContent: `${text || "(nothing)"}${cut ? ` … and ${many(cut, "more token")} that it cannot read` : ""}` })));
  $("verdict-encoder").textContent = verdict.captions_as_read.length ? `Captions as the text encoder ${verdict.encoder} reads them` : "";
  $("verdict-notes").replaceChildren(...verdict.notes.map((note) => element("li", { textContent: note })));
}

const group = (title, parts) => (parts.length ? [element("h4", { textContent: title }), ...parts] : []);

// Files by the reason that is said of them, with their names.
const reason = ({ reason: text, files, pictures }) => figures(`${many(files, "file")}: ${text}`, pictures.map(({ row, path }) => ({ row, path, caption: path.split("/").at(-1) })), files - pictures.length);

// Pictures with their names; those that cannot be read have a name alone.
function figures(title, pictures, more = 0) {
  return element("section", { className: "case" }, element("h5", { textContent: title }), element("ul", {}, ...pictures.map(({ row, path, caption }) => {
    const image = row === null ? [] : [element("img", { src: thumbnail(studio.data, row, 112), alt: "", loading: "lazy", width: 72, height: 72 })];
    for (const each of image) each.addEventListener("error", () => each.remove());
    return element("li", { title: path }, ...image, element("span", { textContent: caption || path }));
  }), ...(more > 0 ? [element("li", { className: "soft", textContent: `and ${more.toLocaleString("en")} more` })] : [])));
}

function histogram({ title, rows }) {
  const most = Math.max(1, ...rows.map(([, number]) => number));
  return element("section", { className: "histogram" }, element("h5", { textContent: title }), element("table", {}, element("tbody", {}, ...rows.map(([range, number]) => {
    const bar = element("span", { className: "share" });
    bar.style.width = `${(100 * number) / most}%`;
    return element("tr", {}, element("th", { scope: "row", textContent: range }), element("td", {}, bar), element("td", { textContent: number.toLocaleString("en") }));
  }))));
}

