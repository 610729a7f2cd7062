// The gallery: pictures made in this browser, with their receipts, in its IndexedDB.
import { $, element } from "./api.js";

const MAX_CARDS = 60;
let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("tintype", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("pictures", { keyPath: "id", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function query(mode, operation) {
  const store = (await database()).transaction("pictures", mode).objectStore("pictures");
  const request = operation(store);
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let urls = [];
let use = {};

export function start(actions) {
  use = actions;
  $("empty").addEventListener("click", async () => {
    if (confirm("Remove all pictures from this browser?")) {
      await query("readwrite", (store) => store.clear());
      await show();
    }
  });
  return show();
}

// pictures: [{ blob, receipt }]
export async function keep(pictures) {
  for (const { blob, receipt } of pictures) {
    await query("readwrite", (store) => store.add({ blob, receipt, time: Date.now() })).catch(() => {});
  }
  await show();
}

export async function newest() {
  const all = await query("readonly", (store) => store.getAll()).catch(() => []);
  return all.at(-1);
}

async function show() {
  const all = await query("readonly", (store) => store.getAll()).catch(() => []);
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  $("gallery-empty").hidden = all.length > 0;
  $("empty").hidden = all.length === 0;
  $("gallery").replaceChildren(...all.slice(-MAX_CARDS).reverse().map(card));
}

function card(entry) {
  const { receipt, blob } = entry;
  const url = URL.createObjectURL(blob);
  urls.push(url);
  const name = receipt.caption || "without a caption";
  const image = element("img", { src: url, alt: name });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 160));
  const act = (label, action, title) => {
    const button = element("button", { type: "button", textContent: label, title });
    button.setAttribute("aria-label", `${title}: ${name}`);
    button.addEventListener("click", action);
    return button;
  };
  const remove = async () => {
    await query("readwrite", (store) => store.delete(entry.id));
    await show();
  };
  const save = element("a", { href: url, download: fileName(receipt), textContent: "Save" });
  save.setAttribute("aria-label", `Download: ${name}`);
  return element("li", {}, image, element("p", { textContent: name }), element("small", { textContent: settings(receipt) }),
    element("div", { className: "row" },
      act("Redo", () => use.redo(receipt), "Make the same picture"),
      act("Use", () => use.settings(receipt), "Use these settings"),
      act("Start", () => use.from(image, receipt.caption), "Start from this picture"),
      save, act("✕", remove, "Remove")));
}

export const fileName = (receipt) => {
  const words = receipt.caption.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
  return `${words || "picture"}-s${receipt.seed}${receipt.index ? `-${receipt.index}` : ""}.png`;
};

export const settings = (receipt) =>
  `seed ${receipt.seed}${receipt.index ? `.${receipt.index}` : ""} · ${receipt.steps} steps · guidance ${receipt.guidance}`;
