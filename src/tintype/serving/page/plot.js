// A line plot as SVG: curves of [x, y], either axis logarithmic, readable at any width.

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [560, 300, 52, 14, 34, 42];

function draw(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const short = (value) => (value >= 1e6 ? `${+(value / 1e6).toPrecision(2)}M` : value >= 1e3 ? `${+(value / 1e3).toPrecision(3)}k` : `${+value.toPrecision(2)}`);

function axis(values, log, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
  const f = log ? Math.log10 : (value) => value;
  const position = (value) => from + ((f(value) - f(low)) / (f(high) - f(low))) * (to - from);
  const ticks = [];
  if (log) {
    const factors = f(high) - f(low) > 2.5 ? [1] : [1, 2, 5];
    for (let power = Math.floor(f(low)); power <= f(high); power++)
      for (const factor of factors) ticks.push(factor * 10 ** power);
  } else {
    const step = [1, 2, 5, 10].map((k) => k * 10 ** Math.floor(Math.log10((high - low) / 4))).find((s) => (high - low) / s <= 5);
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) ticks.push(value);
  }
  return { position, ticks: ticks.filter((value) => value >= low * 0.999 && value <= high * 1.001) };
}

// curves: [{ name, points: [[x, y], ...] }]; here: an x to mark.
export function plot(box, { title, xName, yName, curves, logX = false, logY = false, here }) {
  const usable = ([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!logX || x > 0) && (!logY || y > 0);
  const shown = curves.map((curve) => ({ ...curve, points: curve.points.filter(usable) })).filter((curve) => curve.points.length);
  box.replaceChildren();
  if (!shown.length) return;
  const all = shown.flatMap((curve) => curve.points);
  const x = axis(all.map((point) => point[0]), logX, LEFT, WIDTH - RIGHT);
  const y = axis(all.map((point) => point[1]), logY, HEIGHT - BOTTOM, TOP);
  const label = `${title}. ` + shown.map((curve) => `${curve.name}: from ${short(curve.points[0][1])} to ${short(curve.points.at(-1)[1])}`).join("; ");
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  svg.append(draw("text", { x: LEFT - 40, y: 17, class: "title" }, title));
  for (const tick of x.ticks.filter((tick, i) => !i || short(tick) !== short(x.ticks[i - 1]))) {
    svg.append(draw("text", { x: x.position(tick), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(tick)));
  }
  for (const tick of y.ticks) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y.position(tick), y2: y.position(tick), class: "grid" }));
    svg.append(draw("text", { x: LEFT - 6, y: y.position(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  svg.append(draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, `${xName} →`));
  svg.append(draw("text", { x: WIDTH - RIGHT, y: 17, "text-anchor": "end" }, yName));
  let legend = LEFT + 4;
  shown.forEach((curve, index) => {
    const path = curve.points.map(([a, b], i) => `${i ? "L" : "M"}${x.position(a).toFixed(1)} ${y.position(b).toFixed(1)}`).join("");
    svg.append(draw("path", { d: path, class: `line c${index % 6}` }));
    if (curve.points.length === 1) svg.append(draw("circle", { cx: x.position(curve.points[0][0]), cy: y.position(curve.points[0][1]), r: 2, class: `line c${index % 6}` }));
    if (shown.length > 1) {
      svg.append(draw("line", { x1: legend, x2: legend + 16, y1: HEIGHT - 10, y2: HEIGHT - 10, class: `line c${index % 6}` }));
      svg.append(draw("text", { x: legend + 20, y: HEIGHT - 6 }, curve.name));
      legend += 34 + 7 * curve.name.length;
    }
  });
  if (here !== undefined) {
    svg.append(draw("line", { x1: x.position(here), x2: x.position(here), y1: TOP, y2: HEIGHT - BOTTOM, class: "here" }));
    const nearest = shown[0].points.reduce((a, b) => (Math.abs(b[0] - here) < Math.abs(a[0] - here) ? b : a));
    svg.append(draw("circle", { cx: x.position(nearest[0]), cy: y.position(nearest[1]), r: 5, class: "dot c0" }));
  }
  box.append(svg);
}
