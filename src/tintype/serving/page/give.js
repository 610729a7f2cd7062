// Giving a model away: an export that the server makes, and its file.
import { $, api, element } from "./api.js";

const EVERY_MS = 500;
const FORMS = {
  page: ["a page", "One HTML file that opens from a disk, without a network, and draws by itself."],
  site: ["a website (.zip)", "A folder for a static web server, whose page draws in the visitor's browser."],
  folder: ["a model for Tintype (.zip)", "A folder of half the size, for other people who have Tintype."],
  diffusers: ["a model for diffusers (.zip)", "The same, which Hugging Face's diffusers runs too, with its own schedulers."],
  onnx: ["ONNX graphs (.zip)", "Graphs for other languages and runtimes, compared with the model first: this takes about a minute."],
};
const CONTENTS = "It holds the weights, the settings and a card; no pictures, captions, paths, logs or other traces of the training, except pieces of words where the vocabulary was learned from the captions. Without a license nobody else may use it.";
let current = null; // the number of the export that is being made

export async function start() {
  const { allowed, forms } = await api("api/exports");
  $("give").hidden = !allowed;
  if (!allowed) return;
  $("give-as").replaceChildren(...Object.keys(FORMS).filter((form) => forms.includes(form)).map((form) => element("option", { value: form, textContent: FORMS[form][0] })));
  $("give-as").addEventListener("change", describe);
  $("give-form").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
  $("give-cancel").addEventListener("click", cancel);
  useModel();
  describe();
}

export function useModel() {
  $("give-name").value = $("model").value;
}

function describe() {
  $("give-says").textContent = `${FORMS[$("give-as").value][1]} ${CONTENTS}`;
}

function say(text, isBad = false) {
  $("give-status").textContent = text;
  $("give-status").classList.toggle("bad", isBad);
}

function setBusy(isBusy) {
  $("give-go").disabled = isBusy;
  $("give-cancel").hidden = $("give-progress").hidden = !isBusy;
}

async function begin() {
  if ($("give-go").disabled) return;
  setBusy(true);
  $("give-file").hidden = true;
  say("exporting");
  try {
    const body = { model: $("model").value, to: $("give-as").value, name: $("give-name").value.trim() || null, license: $("give-license").value.trim() || null };
    const export_ = await api("api/exports", body);
    current = export_.id;
    await follow(current);
  } catch (error) {
    say(error.message, true);
  } finally {
    current = null;
    setBusy(false);
  }
}

// Until the export is over, or cancelled.
async function follow(id) {
  for (;;) {
    const { status, seconds, error, file, bytes } = await api(`api/exports/${id}`);
    if (current !== id) return;
    if (status === "done") {
      say("done");
      const size = bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
      Object.assign($("give-file"), { href: `api/exports/${id}/file`, download: file, textContent: `Save ${file} (${size})`, hidden: false });
      $("give-file").focus();
      return;
    }
    if (status !== "running") throw new Error(error ?? "the export was cancelled");
    say(`exporting: ${Math.round(seconds)} s`);
    await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
    if (current !== id) return;
  }
}

async function cancel() {
  const id = current;
  if (id === null) return;
  current = null;
  say("cancelled");
  await api(`api/exports/${id}`, undefined, "DELETE").catch(() => {});
}
