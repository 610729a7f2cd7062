// A heap on the graphics card, with the methods of `Heap` that a network asks for. Operations are noted, and sent
// together once their numbers are read. Weights stand in a buffer of their own, as vectors of four.

const THREADS = 64;
const MAX_KEYS = 2048; // of an attention
const CALL = 64; // numbers from one call to the next in the buffer of calls: what every card allows

// Fields of a call, and the code for them; every field is an integer, in this order.
const OPERATIONS = {
  // `product` of kernel.wat for several lines. A thread has four rows of four columns.
  product: ["a row segments segment depth weights bias add out stride rows columns lines line_in line_out", "8, 8", `
    let column = 4 * i32(id.x);
    let first = 4 * i32(id.y);
    let total = call.lines * call.rows;
    if (column >= call.columns || first >= total) { return; }
    var at = vec4i();
    for (var r = 0; r < 4; r++) {
      let i = min(first + r, total - 1);
      at[r] = call.a + i / call.rows * call.line_in + i % call.rows * call.row;
    }
    let start = weights[call.bias + column / 4];
    var sums = array<vec4f, 4>(start, start, start, start);
    var w = call.weights + column / 8 * 2 * call.segments * call.depth + column / 4 % 2;
    for (var s = 0; s < call.segments; s++) {
      for (var k = 0; k < call.depth; k++) {
        let weight = weights[w];
        w += 2;
        sums[0] = fma(vec4f(heap[at.x + k]), weight, sums[0]);
        sums[1] = fma(vec4f(heap[at.y + k]), weight, sums[1]);
        sums[2] = fma(vec4f(heap[at.z + k]), weight, sums[2]);
        sums[3] = fma(vec4f(heap[at.w + k]), weight, sums[3]);
      }
      at += vec4i(call.segment);
    }
    for (var r = 0; r < 4 && first + r < total; r++) {
      let i = first + r;
      let to = i / call.rows * call.line_out + i % call.rows * call.stride + column;
      for (var c = 0; c < 4 && column + c < call.columns; c++) {
        var sum = sums[r][c];
        if (call.add != 0) { sum += heap[call.add + to + c]; }
        heap[call.out + to + c] = sum;
      }
    }`],
  activate: ["x out height width channels scale shift", "THREADS", `
    let i = i32(id.x);
    if (i >= call.height * call.width * call.channels) { return; }
    let c = i % call.channels;
    let pixel = i / call.channels;
    let to = (pixel / call.width + 1) * (call.width + 2) + pixel % call.width + 1;
    heap[call.out + to * call.channels + c] = silu(heap[call.x + i] * heap[call.scale + c] + heap[call.shift + c]);`],
  group_norm: ["x pixels channels size signal scale shift", "THREADS", `
    let first = i32(group.x) * call.size;
    let num = call.pixels * call.size;
    var sum = 0.0;
    for (var i = i32(thread); i < num; i += THREADS) { sum += heap[call.x + i / call.size * call.channels + first + i % call.size]; }
    let mean = total(thread, sum) / f32(num);
    sum = 0.0;
    for (var i = i32(thread); i < num; i += THREADS) {
      let difference = heap[call.x + i / call.size * call.channels + first + i % call.size] - mean;
      sum += difference * difference;
    }
    let deviation = sqrt(total(thread, sum) / f32(num) + 1e-5);
    for (var c = first + i32(thread); c < first + call.size; c += THREADS) {
      let factor = (1 + heap[call.signal + c]) / deviation;
      heap[call.scale + c] = factor;
      heap[call.shift + c] = heap[call.signal + call.channels + c] - mean * factor;
    }`],
  rms_norm: ["x out columns shift scale", "THREADS", `
    let start = i32(group.x) * call.columns;
    var sum = 0.0;
    for (var k = i32(thread); k < call.columns; k += THREADS) { sum += heap[call.x + start + k] * heap[call.x + start + k]; }
    let inverse = 1 / sqrt(total(thread, sum) / f32(call.columns) + 1e-6);
    for (var k = i32(thread); k < call.columns; k += THREADS) {
      heap[call.out + start + k] = heap[call.x + start + k] * inverse * (1 + heap[call.scale + k]) + heap[call.shift + k];
    }`],
  add_gated: ["x y num columns gate", "THREADS", `
    let i = i32(id.x);
    if (i >= call.num) { return; }
    heap[call.x + i] += heap[call.gate + i % call.columns] * heap[call.y + i];`],
  add: ["a b out num", "THREADS", `
    let i = i32(id.x);
    if (i >= call.num) { return; }
    heap[call.out + i] = heap[call.a + i] + heap[call.b + i];`],
  silu_all: ["x num", "THREADS", `
    let i = i32(id.x);
    if (i >= call.num) { return; }
    heap[call.x + i] = silu(heap[call.x + i]);`],
  swiglu: ["x out num columns", "THREADS", `
    let i = i32(id.x);
    if (i >= call.num) { return; }
    let gate = call.x + i + i / call.columns * call.columns;
    heap[call.out + i] = silu(heap[gate]) * heap[gate + call.columns];`],
  // A thread has one head of the queries or keys of a row.
  normalize: ["qkv rows heads head factors cosines sines", "THREADS", `
    let i = i32(id.x);
    if (i >= 2 * call.heads * call.rows) { return; }
    let row = i / (2 * call.heads);
    let h = i % (2 * call.heads);
    let at = call.qkv + (row * 3 * call.heads + h) * call.head;
    var sum = 0.0;
    for (var k = at; k < at + call.head; k++) { sum += heap[k] * heap[k]; }
    let factor = heap[call.factors + h] / sqrt(sum / f32(call.head) + 1e-6);
    for (var k = 0; k < call.head / 2; k++) {
      let cosine = heap[call.cosines + row * call.head / 2 + k];
      let sine = heap[call.sines + row * call.head / 2 + k];
      let a = heap[at + 2 * k] * factor;
      let b = heap[at + 2 * k + 1] * factor;
      heap[at + 2 * k] = a * cosine - b * sine;
      heap[at + 2 * k + 1] = a * sine + b * cosine;
    }`],
  // A group of threads has one head of a row; the keys of the text stand before those of x.
  attend: ["qkv out rows heads head keys values num_text", "THREADS", `
    let width = call.heads * call.head;
    let place = i32(group.y) * call.head;
    let query = call.qkv + i32(group.x) * 3 * width + place;
    let num = call.num_text + call.rows;
    var highest = -1e30;
    for (var j = i32(thread); j < num; j += THREADS) {
      var key = call.keys + j * width + place;
      if (j >= call.num_text) { key = call.qkv + (3 * (j - call.num_text) + 1) * width + place; }
      var sum = 0.0;
      for (var k = 0; k < call.head; k++) { sum += heap[query + k] * heap[key + k]; }
      scores[j] = sum;
      highest = max(highest, sum);
    }
    highest = largest(thread, highest);
    var sum = 0.0;
    for (var j = i32(thread); j < num; j += THREADS) {
      scores[j] = exp(scores[j] - highest);
      sum += scores[j];
    }
    sum = total(thread, sum);
    for (var k = i32(thread); k < call.head; k += THREADS) {
      var mixed = 0.0;
      for (var j = 0; j < num; j++) {
        var value = call.values + j * width + place;
        if (j >= call.num_text) { value = call.qkv + (3 * (j - call.num_text) + 2) * width + place; }
        mixed += scores[j] * heap[value + k];
      }
      heap[call.out + i32(group.x) * width + place + k] = mixed / sum;
    }`],
  shuffle: ["squares out columns side channels add num", "THREADS", `
    let i = i32(id.x);
    if (i >= call.num) { return; }
    let line = call.side * call.channels;
    let x = i / line % call.columns;
    let y = i / line / call.columns;
    let square = ((y / call.side * call.columns + x) * call.side + y % call.side) * line + i % line;
    heap[call.out + i] = heap[call.squares + square] + heap[call.add + i];`],
};

const SHARED = `
const THREADS = ${THREADS};
@group(0) @binding(0) var<storage, read_write> heap: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
var<workgroup> partials: array<f32, THREADS>;
var<workgroup> scores: array<f32, ${MAX_KEYS}>;
fn silu(x: f32) -> f32 { return x / (1 + exp(-x)); }
fn total(thread: u32, value: f32) -> f32 {
  workgroupBarrier();
  partials[thread] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0; i < THREADS; i++) { sum += partials[i]; }
  return sum;
}
fn largest(thread: u32, value: f32) -> f32 {
  workgroupBarrier();
  partials[thread] = value;
  workgroupBarrier();
  var found = partials[0];
  for (var i = 1; i < THREADS; i++) { found = max(found, partials[i]); }
  return found;
}`;

// The code of one operation.
function shaderOf(name) {
  const [fields, size, body] = OPERATIONS[name];
  const struct = fields.split(" ").map((field) => `${field}: i32`).join(", ");
  const inputs = "@builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32";
  return `${SHARED}
struct Call { ${struct} }
@group(0) @binding(2) var<uniform> call: Call;
@compute @workgroup_size(${size}) fn run(${inputs}) {${body}
}`;
}

const fours = (num) => 4 * Math.ceil(num / 4);

class GpuHeap {
  constructor() {
    Object.assign(this, { used: 4, peak: 4, calls: [], staged: [], numStaged: 0, stored: [], panels: [], numPanels: 0, at: 0 });
    this.zeros = this.alloc(1, MAX_ZEROS);
  }

  // Room for rows of numbers; what was not released is zero at first.
  alloc(rows, columns = 1) {
    const address = this.used;
    this.used += fours(rows * columns);
    this.peak = Math.max(this.peak, this.used);
    return address;
  }

  scratch(rows, columns = 1) {
    return this.alloc(rows, columns);
  }

  release(mark) {
    this.used = mark;
  }

  store(values) {
    const address = this.alloc(1, values.length);
    this.stored.push([address, values]);
    return address;
  }

  // Numbers for the operations up to the next read: they are sent before any of these runs, so each has its own place.
  put(values) {
    const address = this.at + this.numStaged;
    this.staged.push([this.numStaged, values]);
    this.numStaged += fours(values.length);
    return address;
  }

  layer(weights, columns, bias = null) {
    const all = new Float32Array(8 * Math.ceil(columns / 8));
    if (bias !== null) all.set(bias);
    return { columns, depth: weights.length / columns, weights: this.vectors(panelsOf(weights, columns)), bias: this.vectors(all) };
  }

  vectors(values) {
    const address = this.numPanels;
    this.panels.push([address, values]);
    this.numPanels += values.length;
    return address / 4;
  }

  call(name, x, y, fields) {
    this.calls.push({ name, groups: [x, y], fields });
  }

  // An operation of one thread for each of `num` numbers.
  each(name, num, fields) {
    this.call(name, Math.ceil(num / THREADS), 1, fields);
  }

  linear(x, layer, out, rows, add = 0) {
    const { columns, depth, weights, bias } = layer;
    this.call("product", Math.ceil(columns / 32), Math.ceil(rows / 32), [x, depth, 1, 0, depth, weights, bias, add, out, columns, rows, columns, 1, 0, 0]);
  }

  convolve(x, width, inputs, size, step, layer, add, out, rows, columns) {
    const line = width * inputs;
    const { columns: outputs, weights, bias } = layer;
    const fields = [x, step * inputs, size, line, size * inputs, weights, bias, add, out, outputs, columns, outputs, rows, step * line, columns * outputs];
    this.call("product", Math.ceil(outputs / 32), Math.ceil((rows * columns) / 32), fields);
  }

  activate(x, out, height, width, channels, scale, shift) {
    this.each("activate", height * width * channels, [x, out, height, width, channels, scale, shift]);
  }

  groupNorm(x, pixels, channels, groups, signal, scale, shift) {
    this.call("group_norm", groups, 1, [x, pixels, channels, channels / groups, signal, scale, shift]);
  }

  rmsNorm(x, out, rows, columns, shift = this.zeros, scale = this.zeros) {
    this.call("rms_norm", rows, 1, [x, out, columns, shift, scale]);
  }

  addGated(x, y, rows, columns, gate) {
    this.each("add_gated", rows * columns, [x, y, rows * columns, columns, gate]);
  }

  add(a, b, out, num) {
    this.each("add", num, [a, b, out, num]);
  }

  silu(x, num) {
    this.each("silu_all", num, [x, num]);
  }

  swiglu(x, out, rows, columns) {
    this.each("swiglu", rows * columns, [x, out, rows * columns, columns]);
  }

  normalize(qkv, rows, heads, head, factors, rope) {
    this.each("normalize", 2 * heads * rows, [qkv, rows, heads, head, factors, rope.cosines, rope.sines]);
  }

  attend(qkv, out, rows, heads, head, text) {
    const numText = text.keys.length / (heads * head);
    if (numText + rows > MAX_KEYS) throw new Error("this picture is too large for the graphics card");
    this.call("attend", rows, heads, [qkv, out, rows, heads, head, this.put(text.keys), this.put(text.values), numText]);
  }

  shuffle(squares, out, rows, columns, side, channels, add) {
    const num = rows * columns * side * side * channels;
    this.each("shuffle", num, [squares, out, columns, side, channels, add, num]);
  }

  // Take the buffers from a graphics card, once all layers are there. `evaluate` notes the largest evaluation.
  async open(evaluate) {
    const prepared = this.calls;
    this.calls = [];
    evaluate();
    this.at = this.peak;
    const sizes = [4 * (this.peak + this.numStaged), 4 * this.numPanels];
    this.device = await deviceFor(Math.max(...sizes));
    this.device.pushErrorScope("validation");
    const { COPY_DST, COPY_SRC, STORAGE, UNIFORM } = GPUBufferUsage;
    const buffer = (size, usage) => this.device.createBuffer({ size, usage: usage | COPY_DST });
    this.numbers = buffer(sizes[0], STORAGE | COPY_SRC);
    this.weights = buffer(sizes[1], STORAGE);
    this.fields = buffer(4 * CALL * Math.max(this.calls.length, prepared.length), UNIFORM);
    for (const [address, values] of this.stored) this.device.queue.writeBuffer(this.numbers, 4 * address, values);
    for (const [address, values] of this.panels) this.device.queue.writeBuffer(this.weights, 4 * address, values);
    await this.compile();
    Object.assign(this, { stored: [], panels: [], calls: prepared, staged: [], numStaged: 0 });
    await this.read(0, 4);
    const error = await this.device.popErrorScope();
    if (error !== null) throw new Error(error.message);
  }

  async compile() {
    const kinds = [{ type: "storage" }, { type: "read-only-storage" }, { type: "uniform", hasDynamicOffset: true, minBindingSize: 64 }];
    const layout = this.device.createBindGroupLayout({ entries: kinds.map((buffer, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer })) });
    const resources = [{ buffer: this.numbers }, { buffer: this.weights }, { buffer: this.fields, size: 64 }];
    this.binding = this.device.createBindGroup({ layout, entries: resources.map((resource, binding) => ({ binding, resource })) });
    const pipelineLayout = this.device.createPipelineLayout({ bindGroupLayouts: [layout] });
    const pipelines = Object.keys(OPERATIONS).map(async (name) => {
      const module = this.device.createShaderModule({ code: shaderOf(name) });
      return [name, await this.device.createComputePipelineAsync({ layout: pipelineLayout, compute: { module, entryPoint: "run" } })];
    });
    this.pipelines = Object.fromEntries(await Promise.all(pipelines));
  }

  // Run what was noted -> numbers of the result, Float32Array.
  async read(address, num) {
    const { device, calls, staged } = this;
    const fields = new Int32Array(CALL * calls.length);
    calls.forEach((call, number) => fields.set(call.fields, CALL * number));
    const values = new Float32Array(this.numStaged);
    for (const [place, part] of staged) values.set(part, place);
    Object.assign(this, { calls: [], staged: [], numStaged: 0 });
    device.queue.writeBuffer(this.fields, 0, fields);
    if (values.length) device.queue.writeBuffer(this.numbers, 4 * this.at, values);
    const found = device.createBuffer({ size: 4 * num, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    calls.forEach(({ name, groups }, number) => {
      pass.setPipeline(this.pipelines[name]);
      pass.setBindGroup(0, this.binding, [4 * CALL * number]);
      pass.dispatchWorkgroups(...groups);
    });
    pass.end();
    encoder.copyBufferToBuffer(this.numbers, 4 * address, found, 0, 4 * num);
    device.queue.submit([encoder.finish()]);
    await found.mapAsync(GPUMapMode.READ);
    const out = new Float32Array(found.getMappedRange().slice(0));
    found.destroy();
    return out;
  }

  close() {
    this.device?.destroy();
  }
}

async function deviceFor(size) {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("this browser reaches no graphics card");
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  if (size > Math.min(maxStorageBufferBindingSize, maxBufferSize)) throw new Error("the model is too large for the graphics card");
  return adapter.requestDevice({ requiredLimits: { maxStorageBufferBindingSize: Math.max(size, 2 ** 27), maxBufferSize: Math.max(size, 2 ** 28) } });
}
