// Step 3 of the studio: how long or how good, how large, and what to expect of it.
import { $, api, duration, element, toast } from "./api.js";
import { at, bytes, dataset, many, remember, studio } from "./studio-state.js";

const MEMORY = "tintype-studio-plan";
const EVERY_MS = 700;
const LEAST = 10000; // images of a training that is worth the name, however few pictures there are
const LABELS = { lr: "Learning rate", no_caption: "Pictures without a caption", stream: "Read the pictures while training", dedupe: "Leave out exact copies" };
const QUALITIES = { sketch: "A sketch", good: "Good", fine: "As good as these pictures allow" };
let changed = () => {};
let choices = null;
let number = 0; // of the newest plan
let named = ""; // data set that the name in the form comes from

export function start(onChange) {
  changed = onChange;
  $("plan-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(begin); });
  $("plan-form").addEventListener("input", () => { keep(); forget(); });
  $("plan-look").addEventListener("click", () => attempt(look));
  $("plan-copy").addEventListener("click", () => navigator.clipboard.writeText($("plan-command").textContent).then(() => toast("Copied"), () => toast("Select the line and copy it")));
}

async function attempt(work) {
  try {
    $("plan-status").textContent = "";
    $("plan-status").classList.remove("bad");
    await work();
  } catch (error) {
    $("plan-status").textContent = error.message;
    $("plan-status").classList.add("bad");
  }
}

export async function enter() {
  await attempt(async () => {
    if (!choices) build(choices = await api("api/studio/choices"));
    update();
  });
}

export function update() {
  const one = dataset();
  $("plan-go").disabled = $("plan-look").disabled = !one?.scanned || one.pictures === 0;
  $("plan-of").textContent = one ? `Trained on ${one.name}: ${many(one.pictures - one.left_out, "picture")}${one.empty ? `, ${one.empty.toLocaleString("en")} of them without a caption, which are left out unless the advanced settings say otherwise` : ""}.` : "Choose pictures first.";
  if (one) qualities(one);
  if (one && named !== one.id) {
    named = one.id;
    const taken = new Set(studio.overview.runs.map(({ name }) => name));
    let name = one.id;
    for (let i = 2; taken.has(name); i++) name = `${one.id}-${i}`;
    $("plan-name").value = name;
    forget();
  }
}

// How many images the pictures of a data set allow. A quality that asks for more than that is none.
function qualities({ images_of: of }) {
  for (const [id, images] of Object.entries(of ?? {})) {
    const input = $("plan-times").querySelector(`input[value="quality:${id}"]`);
    if (!input) continue;
    const why = images > LEAST ? "until it would begin to learn them by heart: " : "these are few, and it may learn some by heart: ";
    input.parentElement.querySelector("small").textContent = `${id === "fine" ? why : ""}${seenText(images)}`;
    input.parentElement.hidden = id !== "fine" && images >= of.fine;
    if (input.parentElement.hidden && input.checked) $("plan-times").querySelector('input[value="quality:fine"]').checked = true;
  }
}

const radio = (group, value, ...text) => {
  const input = element("input", { type: "radio", name: group, value });
  return element("label", { className: "choice" }, input, element("span", {}, ...text));
};

const span = (id) => id.replace(/^(\d+)m$/, "$1 minutes").replace(/^(\d+)h$/, (_, hours) => (hours === "1" ? "1 hour" : `${hours} hours`));

function build({ times, qualities, sizes, starts, advanced }) {
  $("plan-times").replaceChildren(...times.map(({ id, label }) => radio("goal", `time:${id}`, element("b", { textContent: span(id) }), ...(label ? [element("small", { textContent: label })] : []))),
    ...qualities.map(({ id, images }) => radio("goal", `quality:${id}`, element("b", { textContent: QUALITIES[id] ?? id }), element("small", { textContent: seenText(images) }))),
    radio("goal", "other", element("b", { textContent: "Another length" }), element("small", { textContent: "such as 45m, 3h or 5000 images" })));
  $("plan-sizes").replaceChildren(...sizes.map((size) => radio("size", String(size), element("b", { textContent: size === "auto" ? "Automatic" : `${size} px` }),
    ...(size === "auto" ? [element("small", { textContent: "the largest that the pictures have and the time allows" })] : []))));
  $("plan-from").replaceChildren(element("option", { value: "", textContent: "nothing: it learns everything from these pictures" }), ...starts.map((name) => element("option", { value: name, textContent: name })));
  $("plan-advanced").replaceChildren(...advanced.map(field));
  recall();
}

const seenText = (images) => `${short(images)} images seen, however long it takes`;

const short = (images) => (images >= 1e6 ? `${images / 1e6} million` : images.toLocaleString("en"));

function field({ name, type, minimum, maximum, choices: options, help }) {
  const label = LABELS[name] ?? `${name[0].toUpperCase()}${name.slice(1).replaceAll("_", " ")}`;
  let input;
  if (type === "choice") input = element("select", {}, element("option", { value: "", textContent: "as usual" }), ...options.map((value) => element("option", { value, textContent: String(value) })));
  else if (type === "switch") input = element("select", {}, ...[["", "as usual"], ["true", "yes"], ["false", "no"]].map(([value, textContent]) => element("option", { value, textContent })));
  else if (type === "time") input = element("input", { placeholder: "as usual", size: 8 });
  else input = element("input", { type: "number", step: type === "integer" ? 1 : "any", min: minimum ?? "", max: maximum ?? "", placeholder: "as usual" });
  Object.assign(input.dataset, { setting: name, type });
  return element("label", { title: help ?? "" }, `${label} `, input);
}

// The settings of the form, as the server takes them.
function settings() {
  const goal = chosen("goal");
  const [kind, value] = goal === "other" ? length($("plan-other").value.trim()) : goal.split(":");
  const size = chosen("size");
  const all = { [kind]: value, size: size === "auto" ? size : Number(size) };
  if ($("plan-from").value) all.from = $("plan-from").value;
  for (const input of $("plan-advanced").querySelectorAll("[data-setting]")) {
    const { setting, type } = input.dataset;
    if (input.validity.badInput) throw new Error(`${input.parentElement.firstChild.textContent.trim()} must be a number`);
    if (input.value === "") continue;
    all[setting] = type === "switch" ? input.value === "true" : ["integer", "number"].includes(type) ? Number(input.value) : input.value;
  }
  return all;
}

// A time such as 45m, or a number of images.
function length(text) {
  const images = /^([\d,. ]+) images?$/.exec(text);
  if (images) return ["images", Number(images[1].replace(/\D/g, ""))];
  if (!/^(\d+h)?(\d+m)?(\d+s)?$/.test(text) || !text) throw new Error("say how long: a time such as 45m or 3h, or a number of images such as 5000 images");
  return ["time", text];
}

const chosen = (group) => $("plan-form").elements[group].value;

function keep() {
  $("plan-other-box").hidden = chosen("goal") !== "other";
  const advanced = [...$("plan-advanced").querySelectorAll("[data-setting]")].map((input) => [input.dataset.setting, input.value]);
  const all = { goal: chosen("goal"), size: chosen("size"), other: $("plan-other").value, from: $("plan-from").value, advanced: Object.fromEntries(advanced) };
  try { localStorage.setItem(MEMORY, JSON.stringify(all)); } catch { /* storage may be forbidden */ }
}

function recall() {
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(MEMORY) ?? "{}"); } catch { /* as above */ }
  const select = (group, value, otherwise) => {
    const all = [...$("plan-form").elements[group]];
    (all.find((input) => input.value === value) ?? all.find((input) => input.value === otherwise) ?? all[0]).checked = true;
  };
  select("goal", kept.goal, "time:30m");
  select("size", kept.size, "auto");
  $("plan-other").value = kept.other ?? "";
  $("plan-other-box").hidden = chosen("goal") !== "other";
  if ([...$("plan-from").options].some(({ value }) => value === kept.from)) $("plan-from").value = kept.from;
  for (const input of $("plan-advanced").querySelectorAll("[data-setting]")) input.value = kept.advanced?.[input.dataset.setting] ?? "";
}

// The plan on display no longer is that of the form.
function forget() {
  number++;
  $("plan-result").hidden = $("plan-busy").hidden = true;
}

async function look() {
  forget();
  const mine = number;
  $("plan-busy").hidden = false;
  try {
    let task = await api(at(studio.data, "plan"), { settings: settings() });
    while (["waiting", "running"].includes(task.state) && mine === number) {
      $("plan-says").textContent = task.state === "waiting" ? "Waits for other work to end" : "Some steps of training are measured on this machine";
      await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
      task = await api(`api/studio/tasks/${task.id}`);
    }
    if (mine !== number) return void api(`api/studio/tasks/${task.id}/cancel`, {}).catch(() => {});
    if (task.state !== "done") throw new Error(task.error ?? "the plan was cancelled");
    show(task.result);
  } finally {
    if (mine === number) $("plan-busy").hidden = true;
  }
}

function show(plan) {
  const end = new Date(Date.now() + 1000 * plan.seconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const day = plan.seconds > 43200 ? `, ${new Date(Date.now() + 1000 * plan.seconds).toLocaleDateString()}` : "";
  const times = plan.times_each < 10 ? plan.times_each.toFixed(1) : Math.round(plan.times_each).toLocaleString("en");
  const words = [
    `It takes about ${duration(plan.seconds)} and would end at ${end}${day}.`,
    `It draws pictures of ${plan.resolution} × ${plan.resolution} pixels, and their shapes.`,
    `It learns from ${many(plan.pictures, "picture")}, each seen about ${times} times; ${plan.held_out.toLocaleString("en")} more are kept aside and measure how well it does.`,
    `It needs ${bytes(plan.memory_bytes)} of memory and ${bytes(plan.disk_bytes)} on the disk.`,
  ];
  if (plan.forecast) words.push(`${plan.forecast[0].toUpperCase()}${plan.forecast.slice(1)}.`);
  $("plan-words").replaceChildren(...words.map((text, i) => element("li", { textContent: text, className: plan.few_pictures && i === 4 ? "warning" : "" })));
  $("plan-lines").textContent = plan.lines.join("\n");
  $("plan-command").textContent = plan.command;
  $("plan-result").hidden = false;
}

async function begin() {
  $("plan-go").disabled = true;
  try {
    const run = await api("api/studio/runs", { name: $("plan-name").value.trim() || studio.data, dataset: studio.data, settings: settings() });
    studio.run = run.name;
    named = "";
    remember();
    await changed();
    location.hash = "#studio/training";
  } finally {
    $("plan-go").disabled = false;
  }
}
