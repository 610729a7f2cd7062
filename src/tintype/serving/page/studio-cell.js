// Captions edited in place: the cells of the grid, the editor in one of them, and which are selected.
import { element } from "./api.js";
import { Grid } from "./studio-grid.js";

const SIZE = { width: 164, height: 226 }; // of a cell, in pixels
const WAIT_MS = 30; // until the rows of a window are asked for

export class CaptionGrid {
  // rows: the Rows on display. thumb(row): the address of a picture. onEdit(row, caption), onSelect().
  constructor(box, { rows, thumb, onEdit, onSelect }) {
    Object.assign(this, { box, rows, thumb, onEdit, onSelect, selected: new Set(), anchor: 0, editor: null, awaited: null });
    this.grid = new Grid(box, { ...SIZE, cell: () => this.cell(), fill: (cell, at, sketch) => this.fill(cell, at, sketch), onMove: (from, to, event) => this.moved(from, to, event) });
    box.setAttribute("aria-multiselectable", "true");
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.click(event));
  }

  // The list changed as a whole.
  reset() {
    this.close();
    this.selected.clear();
    this.grid.at = 0;
    this.box.scrollTop = 0;
    this.grid.setCount(this.rows.rows.length);
    this.onSelect();
  }

  refresh() {
    this.grid.refresh();
  }

  // Captions that were asked for are there: one of them may be to be edited.
  arrived() {
    this.refresh();
    if (this.awaited !== null && this.rows.get(this.awaited) && this.awaited === this.grid.at) this.edit(this.awaited);
  }

  // Ask for what the window lacks, once the scrolling leaves time for it.
  want() {
    this.asking ??= setTimeout(() => {
      this.asking = null;
      this.rows.want(...this.grid.window()).catch(() => { setTimeout(() => this.want(), 1000); });
    }, WAIT_MS);
  }

  cell() {
    const image = element("img", { alt: "", width: 128, height: 128, decoding: "async", draggable: false });
    image.addEventListener("error", () => { image.hidden = true; image.parentElement.classList.add("broken"); });
    image.addEventListener("load", () => { image.hidden = false; image.classList.toggle("small", image.naturalWidth <= 64); });
    return element("div", { className: "cell" }, element("div", { className: "thumb" }, image, element("span", { className: "flag" })), element("p"));
  }

  fill(cell, at, sketch) {
    const row = this.rows.rows[at];
    const picture = this.rows.get(at);
    if (!this.rows.isKnown(at) && !sketch) this.want();
    const [thumb, text] = cell.children;
    const [image, flag] = thumb.children;
    const url = this.thumb(row);
    if (image.dataset.url !== url) {
      image.hidden = true;
      thumb.classList.remove("broken");
      image.dataset.url = "";
      image.removeAttribute("src");
      if (!sketch) {
        image.dataset.url = url;
        image.src = url;
      }
    }
    const caption = picture?.caption ?? "";
    if (!text.classList.contains("editing")) text.textContent = picture ? caption || "no caption" : "…";
    text.classList.toggle("none", !caption);
    flag.textContent = picture ? flags(picture) : "";
    cell.classList.toggle("out", Boolean(picture?.left_out));
    cell.setAttribute("aria-selected", String(this.selected.has(row)));
    cell.setAttribute("aria-label", picture ? `${picture.path}: ${caption || "no caption"}${flag.textContent && ` (${flag.textContent})`}` : "not read yet");
    cell.title = picture?.path ?? "";
  }

  moved(from, to, event) {
    if (!event.shiftKey) this.anchor = to;
    else this.select(this.anchor, to);
  }

  select(from, to) {
    const [low, high] = from < to ? [from, to] : [to, from];
    this.selected = new Set(this.rows.rows.slice(low, high + 1));
    this.refresh();
    this.onSelect();
  }

  toggle(at) {
    const row = this.rows.rows[at];
    if (!this.selected.delete(row)) this.selected.add(row);
    this.anchor = at;
    this.refresh();
    this.onSelect();
  }

  clear() {
    this.selected.clear();
    this.refresh();
    this.onSelect();
  }

  key(event) {
    if (this.editor) return this.editorKey(event);
    if (!this.grid.count || !event.target.closest("[role=gridcell]")) return;
    const command = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" || event.key === "F2") this.edit(this.grid.at);
    else if (event.key === " ") this.toggle(this.grid.at);
    else if (event.key === "Escape" && this.selected.size) this.clear();
    else if (command && event.key.toLowerCase() === "a") this.select(0, this.grid.count - 1);
    else return;
    event.preventDefault();
  }

  click(event) {
    const cell = event.target.closest("[role=gridcell]");
    if (!cell || event.target.closest("textarea")) return;
    const at = this.grid.indexOf(cell);
    if (event.shiftKey) this.select(this.anchor, at);
    else if (event.ctrlKey || event.metaKey) this.toggle(at);
    if (event.shiftKey || event.ctrlKey || event.metaKey || !event.target.closest("p")) this.grid.moveTo(at);
    else this.edit(at);
    if (!event.shiftKey) this.anchor = at;
  }

  edit(at) {
    this.close();
    const cell = this.grid.moveTo(at);
    const picture = this.rows.get(at);
    this.awaited = picture ? null : at;
    if (!cell || !picture) return;
    const area = element("textarea", { value: picture.caption, rows: 3, maxLength: 32000 });
    area.setAttribute("aria-label", `Caption of ${picture.path}`);
    area.addEventListener("blur", () => this.close());
    this.editor = { at, area };
    cell.lastElementChild.replaceChildren(area);
    cell.lastElementChild.classList.add("editing");
    area.focus({ preventScroll: true });
    area.setSelectionRange(area.value.length, area.value.length);
  }

  // Leave the editor, with its text kept unless it is dropped.
  close(keep = true) {
    if (!this.editor) return;
    const { at, area } = this.editor;
    this.editor = null;
    const picture = this.rows.get(at);
    area.parentElement.classList.remove("editing");
    area.remove();
    const caption = clean(area.value);
    if (keep && picture && caption !== picture.caption) this.onEdit(picture, caption);
    this.refresh();
  }

  editorKey(event) {
    const { at } = this.editor;
    const next = at + (event.shiftKey ? -1 : 1);
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      this.close();
      this.grid.moveTo(at);
    } else if (event.key === "Escape") {
      this.close(false);
      this.grid.moveTo(at);
    } else if (event.key === "Tab" && next >= 0 && next < this.grid.count) {
      this.edit(next);
    } else if (event.key === "Tab") {
      return this.close();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// One caption a line, without spaces that nobody sees.
const clean = (text) => text.split("\n").map((line) => line.trim().replace(/\s+/g, " ")).filter(Boolean).join("\n");

function flags({ unread, cut, left_out: out, edited }) {
  return [out && "left out", unread?.length && "not readable", cut && "cut", edited && "edited"].filter(Boolean).join(", ");
}
