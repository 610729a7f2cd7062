// The network on the graphics card, for machines whose card is right and faster than WebAssembly.

const TOLERANCE = 1e-3; // of a picture in model space, whose pixels go from -1 to 1
const GAIN = 0.8; // share of the time of WebAssembly that a graphics card may take to be chosen
const NUM_RUNS = 4; // evaluations that are timed; the fastest counts
const MAX_MS = 500; // after which no further one is

// A network on the graphics card, ready to run. Throws an error where there is none.
async function networkOnGpu(model) {
  if (!globalThis.navigator?.gpu) throw new Error("this browser has no WebGPU");
  const { net, text } = model.model.config;
  const heap = new GpuHeap();
  try {
    const network = new Network(heap, model.weights, net, model.height, model.width);
    const nothing = new Float32Array((1 + text.max_tokens) * net.width);
    const longest = { pooled: nothing.subarray(0, net.width), blocks: network.blocks.map(() => ({ keys: nothing, values: nothing })) };
    await heap.open(() => network.compute(new Float32Array(net.channels * model.height * model.width), 0, longest));
    return network;
  } catch (error) {
    heap.close();
    throw error;
  }
}

// Milliseconds of one evaluation by WebAssembly and by the graphics card. Throws an error where their numbers differ.
async function timesOf(model, network) {
  const [stage] = stagesOf(model.weights.tensor(`plan.${model.model.config.sample.steps}`)).slice(-2);
  const x = normal("0", START, 0, 3 * model.height * model.width).map((value) => value * stage.sigma * stage.in);
  const caption = model.caption("");
  const outputs = [];
  const milliseconds = [];
  for (const each of [model.network, network]) {
    const start = performance.now();
    let fastest = Infinity;
    for (let run = 0; run < NUM_RUNS && performance.now() - start < MAX_MS; run++) {
      const before = performance.now();
      outputs[milliseconds.length] = await each.run(x, stage.noise, caption);
      fastest = Math.min(fastest, performance.now() - before);
    }
    milliseconds.push(fastest);
  }
  const difference = largestDifference(...outputs);
  if (difference < TOLERANCE) return milliseconds;
  network.heap.close();
  throw new Error(`the graphics card computes other numbers: they differ by ${difference}`);
}

// NaN where one of the numbers is none.
function largestDifference(one, other) {
  return one.reduce((largest, value, i) => Math.max(largest, Math.abs(value - other[i])), 0);
}
