// A grid of very many cells of which only those on display exist: rows are elements, used again as they leave the window.
import { element } from "./api.js";

const MARGIN = 2; // rows kept above and below the window
const FAST = 0.02; // rows per millisecond from which cells are only sketched until the scrolling slows down
const SETTLE_MS = 90;
const MOVES = {
  ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: (grid) => -grid.columns, ArrowDown: (grid) => grid.columns,
  PageUp: (grid) => -grid.page(), PageDown: (grid) => grid.page(), Home: (grid) => -grid.at, End: (grid) => grid.count - 1 - grid.at,
};

export class Grid {
  // box: the element that scrolls. cell(): an empty cell. fill(cell, index, sketch): show an index in it; with sketch true
  // whatever costs time may wait. onMove(from, to, event): the current cell changed.
  constructor(box, { width, height, cell, fill, onMove }) {
    Object.assign(this, { box, width, height, cell, fill, onMove, count: 0, columns: 1, at: 0, rows: new Map(), free: [] });
    this.space = element("div", { className: "space", role: "presentation" });
    box.append(this.space);
    box.setAttribute("role", "grid");
    this.last = { top: 0, time: 0 };
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.measure()).observe(box);
  }

  setCount(count) {
    this.count = count;
    this.at = Math.max(0, Math.min(this.at, count - 1));
    this.measure();
    this.refresh();
  }

  page() {
    return this.columns * Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
  }

  measure() {
    const columns = Math.max(2, Math.floor(this.box.clientWidth / this.width));
    if (columns !== this.columns) for (const row of [...this.rows.keys()]) this.drop(row);
    if (columns !== this.columns) this.free = [];
    this.columns = columns;
    const rows = Math.ceil(this.count / columns);
    this.space.style.height = `${rows * this.height}px`;
    this.box.setAttribute("aria-rowcount", rows);
    this.box.setAttribute("aria-colcount", columns);
    this.show(false);
  }

  scrolled() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame((now) => {
      this.waiting = 0;
      const top = this.box.scrollTop;
      const speed = Math.abs(top - this.last.top) / this.height / Math.max(1, now - this.last.time);
      this.last = { top, time: now };
      this.show(speed > FAST);
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.finish(), SETTLE_MS);
    });
  }

  lines() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - MARGIN);
    return [first, Math.min(Math.ceil(this.count / this.columns), Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + MARGIN)];
  }

  // The first index on display, and the one after the last.
  window() {
    const [first, end] = this.lines();
    return [first * this.columns, Math.min(this.count, end * this.columns)];
  }

  // The rows in the window; others go, but for the one that has the focus.
  show(sketch) {
    if (!this.box.clientHeight) return;
    const [first, end] = this.lines();
    for (const [row, node] of this.rows) if ((row < first || row >= end) && !node.contains(document.activeElement)) this.drop(row);
    for (let row = first; row < end; row++) if (!this.rows.has(row)) this.add(row, sketch);
  }

  drop(row) {
    const node = this.rows.get(row);
    this.rows.delete(row);
    node.hidden = true;
    this.free.push(node);
  }

  add(row, sketch) {
    const node = this.free.pop() ?? this.newRow();
    node.hidden = false;
    node.style.transform = `translateY(${row * this.height}px)`;
    node.setAttribute("aria-rowindex", row + 1);
    this.rows.set(row, node);
    this.fillRow(row, node, sketch);
  }

  newRow() {
    const cells = Array.from({ length: this.columns }, (_, column) => {
      const cell = this.cell();
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", column + 1);
      return cell;
    });
    const node = element("div", { className: "line", role: "row" }, ...cells);
    node.style.height = `${this.height}px`;
    node.style.gridTemplateColumns = `repeat(${this.columns}, 1fr)`;
    this.space.append(node);
    return node;
  }

  fillRow(row, node, sketch) {
    [...node.children].forEach((cell, column) => {
      const index = row * this.columns + column;
      cell.hidden = index >= this.count;
      cell.tabIndex = index === this.at ? 0 : -1;
      if (!cell.hidden) this.fill(cell, index, sketch);
    });
    node.dataset.sketch = sketch;
  }

  finish() {
    for (const [row, node] of this.rows) if (node.dataset.sketch === "true") this.fillRow(row, node, false);
  }

  refresh() {
    for (const [row, node] of this.rows) this.fillRow(row, node, false);
  }

  cellOf(index) {
    return this.rows.get(Math.floor(index / this.columns))?.children[index % this.columns];
  }

  indexOf(cell) {
    const line = cell.closest(".line");
    return (Number(line.getAttribute("aria-rowindex")) - 1) * this.columns + [...line.children].indexOf(cell.closest("[role=gridcell]"));
  }

  // Make a cell the current one and bring it into the window. Returns its element.
  moveTo(index, focus = true) {
    if (!this.count) return null;
    const before = this.cellOf(this.at);
    this.at = Math.max(0, Math.min(index, this.count - 1));
    const top = Math.floor(this.at / this.columns) * this.height;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.box.scrollTop = top + this.height - clientHeight;
    if (before) before.tabIndex = -1;
    this.show(false);
    const cell = this.cellOf(this.at);
    cell.tabIndex = 0;
    if (focus) cell.focus({ preventScroll: true });
    return cell;
  }

  key(event) {
    const move = MOVES[event.key];
    if (!move || event.defaultPrevented || event.altKey || event.target.closest("textarea, input")) return;
    event.preventDefault();
    const from = this.at;
    const by = move(this);
    const beyond = (event.key === "ArrowUp" || event.key === "ArrowDown") && (from + by < 0 || from + by >= this.count);
    if (!beyond) this.moveTo(from + by);
    this.onMove(from, this.at, event);
  }
}
