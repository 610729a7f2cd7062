// Sampling: the plan of a picture, computed when the page was made, and the model that answers it.

// A stage of a plan, in the order of its numbers (export/plans.py).
const STAGE = ["sigma", "window", "skip", "out", "in", "noise", "correctorKeep", "keep", "numCorrect", "numPredict"];
const MAX_CORRECT = 3;
const STAGE_NUMBERS = STAGE.length + MAX_CORRECT + 4;

function stagesOf(plan) {
  return Array.from({ length: plan.length / STAGE_NUMBERS }, (_, number) => {
    const row = plan.subarray(number * STAGE_NUMBERS, (number + 1) * STAGE_NUMBERS);
    const stage = Object.fromEntries(STAGE.map((name, k) => [name, row[k]]));
    stage.correct = row.subarray(STAGE.length, STAGE.length + stage.numCorrect);
    stage.predict = row.subarray(STAGE.length + MAX_CORRECT, STAGE.length + MAX_CORRECT + stage.numPredict);
    return stage;
  });
}

// keep * x + sum of weights * terms.
function combined(x, keep, weights, terms) {
  const total = x.map((value) => value * keep);
  weights.forEach((weight, number) => {
    const term = terms[number];
    for (let i = 0; i < total.length; i++) total[i] += weight * term[i];
  });
  return total;
}

// Steps of a multistep sampler from x on, as in diffusion/ode.py: { x, denoised, sigma } each; the last guess is the picture.
async function* steps(x, plan, denoise) {
  let before = x;
  let predictions = [];
  for (const stage of stagesOf(plan)) {
    const denoised = await denoise(x, stage);
    yield { x, denoised, sigma: stage.sigma };
    predictions = [denoised, ...predictions.slice(0, 3)];
    if (stage.keep === 0) return;
    if (stage.numCorrect) x = combined(before, stage.correctorKeep, stage.correct, predictions);
    [before, x] = [x, combined(x, stage.keep, stage.predict, predictions)];
  }
}

// A model: text encoder, network and plans. model: the description of the page (export/page.py), weights: `Weights`.
class Model {
  constructor(model, weights, kernels) {
    requireKnown(model);
    const { net, text } = model.config;
    Object.assign(this, { model, weights, heap: new Heap(kernels), captions: new Map(), gpu: null, isGpuUsed: false });
    [this.width, this.height] = model.size;
    this.tokenizer = text.encoder === "learned" ? new LearnedTokenizer(model.tokenizer, text.max_tokens) : new WordPiece(weights.words("vocabulary"), text.max_tokens);
    this.encoder = text.encoder === "learned" ? null : new MiniLM(this.heap, weights, model.encoder);
    this.refiner = new TextRefiner(this.heap, weights, net, text);
    this.network = new Network(this.heap, weights, net, this.height, this.width);
  }

  // What the network reads of a caption, computed once.
  caption(text) {
    const known = this.captions.get(text);
    if (known) return known;
    const { ids } = this.tokenizer.read(text);
    const mark = this.heap.used;
    const { tokens, rows } = this.refiner.run(this.encoder && ids.length ? this.encoder.run(ids) : this.encoder ? new Float32Array(0) : ids);
    const read = this.network.caption(tokens, rows);
    this.heap.release(mark);
    if (this.captions.size > 8) this.captions.clear();
    this.captions.set(text, read);
    return read;
  }

  // What of a caption the model does not read, as sentences.
  notes(text) {
    const words = this.tokenizer.illegible(text);
    const notes = words.length ? [this.model.words.illegible.replace("{}", named(words))] : [];
    if (this.tokenizer.read(text).isCut) notes.push(this.model.words.cut);
    return notes;
  }

  async evaluate(x, stage, text) {
    const output = await this.answer(x.map((value) => value * stage.in), stage.noise, this.caption(text));
    return output.map((value, i) => stage.skip * x[i] + stage.out * value);
  }

  // The network's output; a graphics card that fails is not asked again.
  async answer(x, noise, caption) {
    if (this.isGpuUsed) {
      try {
        const output = await this.gpu.run(x, noise, caption);
        if (output.every(Number.isFinite)) return output;
      } catch { /* its device is lost: the processor goes on */ }
      Object.assign(this, { gpu: null, isGpuUsed: false });
    }
    return this.network.run(x, noise, caption);
  }

  // What the network runs on, for receipts.
  get engine() {
    if (this.isGpuUsed) return "webgpu";
    return this.heap.isFast ? "wasm" : "javascript";
  }

  // Steps of a picture; seed: decimal digits.
  draw({ caption, seed, numSteps, guidance }) {
    const text = cleanText(caption);
    const isStrong = guidance > this.model.sampler.above;
    const plan = this.weights.tensor(isStrong && this.weights.has(`strong.${numSteps}`) ? `strong.${numSteps}` : `plan.${numSteps}`);
    const noise = normal(seed, START, 0, 3 * this.height * this.width);
    const denoise = async (x, stage) => {
      const isGuided = guidance !== 1 && stage.window !== 0;
      const [denoised, base] = await Promise.all((isGuided ? [text, ""] : [text]).map((caption) => this.evaluate(x, stage, caption)));
      if (!isGuided) return denoised;
      const scale = 1 + (guidance - 1) * stage.window;
      return base.map((value, i) => value + scale * (denoised[i] - value));
    };
    return steps(noise.map((value) => value * plan[0]), plan, denoise);
  }
}

// Raise an error for a model that this page cannot draw with.
function requireKnown({ config }) {
  const { net, text } = config;
  const wrong = [
    [![1, 2].includes(config.format), `the format ${config.format}`],
    [net.architecture !== "dit", `the network ${net.architecture}`],
    [net.codec !== "pixels" || net.channels !== 3, `the codec ${net.codec}`],
    [!["learned", "minilm"].includes(text.encoder), `the text encoder ${text.encoder}`],
  ].find(([isWrong]) => isWrong);
  if (wrong) throw new Error(`this page does not know ${wrong[1]} of the model`);
}

// Pixels [height][width][4] of a picture in model space [3][height][width], scaled by `factor`.
function pixelsOf(x, factor = 1) {
  const num = x.length / 3;
  const pixels = new Uint8ClampedArray(4 * num).fill(255);
  for (let c = 0; c < 3; c++) for (let i = 0; i < num; i++) pixels[4 * i + c] = fround(fround(x[c * num + i] * factor + 1) * 127.5);
  return pixels;
}
