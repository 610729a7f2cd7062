// The pictures of a data set that a search found: their numbers at once, what is known of each only where it is looked at.
import { api } from "./api.js";
import { at } from "./studio-state.js";

const BATCH = 200; // rows of one request
const AHEAD = 60; // rows before and after the window that come with it

export class Rows {
  // onArrive(): rows that were asked for are there.
  constructor(onArrive) {
    Object.assign(this, { onArrive, data: null, rows: [], counts: {}, known: new Map(), before: new Map(), asked: new Set(), number: 0 });
  }

  // All rows that a filter and a search keep. The list stays as it is while captions change, until the next search.
  async find(data, query, filter) {
    const number = ++this.number;
    const { rows, counts } = await api(at(data, `captions/rows?${new URLSearchParams({ q: query, filter })}`));
    if (number !== this.number) return false;
    if (data !== this.data) [this.known, this.before] = [new Map(), new Map()];
    Object.assign(this, { data, rows, counts });
    this.asked.clear();
    return true;
  }

  async recount(query, filter) {
    const { counts } = await api(at(this.data, `captions/rows?${new URLSearchParams({ q: query, filter })}`));
    this.counts = counts;
  }

  // A picture; while it is read anew, as it was before.
  get(index) {
    const row = this.rows[index];
    return this.known.get(row) ?? this.before.get(row);
  }

  isKnown(index) {
    return this.known.has(this.rows[index]);
  }

  // Ask for the rows of a window that are not known yet.
  async want(first, end) {
    const { data } = this;
    const wanted = this.rows.slice(Math.max(0, first - AHEAD), end + AHEAD).filter((row) => !this.known.has(row) && !this.asked.has(row));
    for (const row of wanted) this.asked.add(row);
    for (let start = 0; start < wanted.length; start += BATCH) {
      const rows = wanted.slice(start, start + BATCH);
      try {
        const { pictures } = await api(at(data, `captions?rows=${rows.join(",")}`));
        if (data !== this.data) return;
        for (const picture of pictures) this.known.set(picture.row, picture);
        this.onArrive();
      } finally {
        for (const row of rows) this.asked.delete(row);
      }
    }
  }

  // Captions changed at the server: all of them are read anew where they are looked at.
  forget() {
    this.before = this.known;
    this.known = new Map();
  }
}
