// Files on their way to the server: small ones whole, large ones in parts that go on where they were cut.
import { api } from "./api.js";
import { at } from "./studio-state.js";

const HIDDEN = /(^|\/)(\.|__MACOSX(\/|$)|Thumbs\.db$|desktop\.ini$)/i; // of operating systems; the server passes over them, too
const LANES = 4; // small files on their way at the same time
const WAIT_MS = [500, 1000, 2000, 4000, 8000]; // before another try when nobody answers
const FINAL = ["name_not_allowed", "unsupported_file", "file_too_large"]; // of one file: the others go on

// The files of a drop as [{ path, file }], those of folders in any depth too. The entries are taken at once: the browser
// forgets them later.
export async function dropped(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files.filter(({ path }) => !HIDDEN.test(path));
}

// The files of an <input type=file>, which has paths if it chooses folders.
export const chosen = (input) => [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })).filter(({ path }) => !HIDDEN.test(path));

async function walk(entry, files) {
  if (entry instanceof File) return void files.push({ path: entry.name, file: entry });
  if (entry?.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    files.push({ path: entry.fullPath.replace(/^\//, ""), file });
  } else if (entry?.isDirectory) {
    const reader = entry.createReader();
    for (;;) { // a reader gives at most 100 entries at a time
      const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
      if (!some.length) break;
      for (const each of some) await walk(each, files);
    }
  }
}

// The files that a data set may have: a picture of the wrong kind is not sent at all.
export function sortOut(files, { suffixes, file_bytes: fileBytes, archive_bytes: archiveBytes }) {
  const kept = [], refused = [];
  for (const each of files) {
    const name = each.path.split("/").at(-1).toLowerCase();
    const isArchive = /\.(zip|tar)$/.test(name);
    if (!suffixes.some((suffix) => (suffix.startsWith(".") ? name.endsWith(suffix) : name === suffix))) refused.push({ ...each, reason: "neither a picture nor a caption" });
    else if (each.file.size > (isArchive ? archiveBytes : fileBytes)) refused.push({ ...each, reason: "too large" });
    else kept.push(each);
  }
  return { kept, refused };
}

async function sha256(blob) {
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return [...new Uint8Array(digest)].map((value) => value.toString(16).padStart(2, "0")).join("");
}

// Files to a data set. Yields { done, total, bytes, of, waiting } as they arrive; returns the files that were refused.
export class Sending {
  constructor(data, files, chunkBytes) {
    Object.assign(this, { data, files, chunkBytes, refused: [], stopped: false, number: 0, bytes: 0, message: "" });
    this.total = files.reduce((sum, { file }) => sum + file.size, 0);
  }

  stop() {
    this.stopped = true;
  }

  // onProgress() is called whenever something arrived, or nobody answers.
  async run(onProgress) {
    const queue = [...this.files];
    const lane = async () => {
      for (let next = queue.shift(); next && !this.stopped; next = queue.shift()) {
        try {
          await (next.file.size > this.chunkBytes ? this.sendParts(next, onProgress) : this.sendWhole(next));
        } catch (error) {
          if (!FINAL.includes(error.code)) { this.stop(); throw error; }
          this.refused.push({ ...next, reason: error.message });
        }
        this.number++;
        onProgress(this);
      }
    };
    this.onProgress = onProgress;
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  async sendWhole({ path, file }) {
    const query = new URLSearchParams({ path, sha256: await sha256(file) });
    await this.patiently(() => put(at(this.data, `files?${query}`), file));
    this.bytes += file.size;
  }

  async sendParts({ path, file }, onProgress) {
    const upload = await this.patiently(() => api(at(this.data, "uploads"), { path, size: file.size }));
    const place = `api/studio/uploads/${encodeURIComponent(upload.id)}`;
    let { offset } = upload;
    this.bytes += offset;
    while (offset < file.size && !this.stopped) {
      const part = file.slice(offset, offset + upload.chunk_bytes);
      const query = new URLSearchParams({ offset, sha256: await sha256(part) });
      const before = offset;
      ({ offset } = await this.patiently(() => put(`${place}?${query}`, part).catch((error) => {
        if (error.code !== "wrong_offset") throw error; // the part had arrived, but not the answer
        return error.content;
      })));
      this.bytes += offset - before;
      onProgress(this);
    }
    if (!this.stopped) await this.patiently(() => api(`${place}/finish`, { sha256: null }));
  }

  // A request that is tried again while nobody answers.
  async patiently(request) {
    for (let i = 0; ; i++) {
      try {
        const answer = await request();
        this.message = "";
        return answer;
      } catch (error) {
        if (error.status !== undefined && error.status < 500) throw error;
        if (error.status === 507 || this.stopped) throw error;
        this.message = `${error.message}; it goes on by itself`;
        this.onProgress(this);
        await new Promise((resolve) => { setTimeout(resolve, WAIT_MS[Math.min(i, WAIT_MS.length - 1)]); });
      }
    }
  }
}

async function put(path, body) {
  const options = { method: "PUT", body, headers: { "Content-Type": "application/octet-stream" } };
  const response = await fetch(path, options).catch(() => { throw new Error("cannot reach the server"); });
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  throw Object.assign(new Error(content.error?.message ?? `the server responded with status ${response.status}`), { status: response.status, code: content.error?.code, content });
}
