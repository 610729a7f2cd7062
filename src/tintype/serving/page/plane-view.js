// Drawing of the plane: data, arrows, points and their paths. Places run from -REACH to REACH, upwards.
export const REACH = 2;
const GRID = 15; // arrows along a side

const colors = (canvas) => {
  const style = getComputedStyle(canvas);
  return Object.fromEntries(["ink", "soft", "accent", "line", "line-2"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
};

const toPixel = (canvas, [x, y]) => [((x / REACH + 1) * canvas.width) / 2, ((1 - y / REACH) * canvas.height) / 2];

// The place under a pointer.
export function placeOf(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * 2 * REACH - REACH, REACH - ((event.clientY - box.top) / box.height) * 2 * REACH];
}

export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function dots(canvas, places, color, radius) {
  const context = canvas.getContext("2d");
  context.fillStyle = colors(canvas)[color];
  for (const place of places) {
    context.beginPath();
    context.arc(...toPixel(canvas, place), radius, 0, 7);
    context.fill();
  }
}

// Arrows on a grid, each from its place a part of the way to the guess there; long ones are cut to their square.
export function arrows(canvas, guessAt, color = "soft", grid = GRID) {
  const context = canvas.getContext("2d");
  const longest = (2 * REACH) / grid;
  Object.assign(context, { strokeStyle: colors(canvas)[color], lineWidth: 1.5 });
  for (let row = 0; row < grid; row++) {
    for (let column = 0; column < grid; column++) {
      const from = [column, row].map((i) => ((i + 0.5) / grid) * 2 * REACH - REACH);
      const [dx, dy] = guessAt(from).map((value, i) => value - from[i]);
      const length = Math.hypot(dx, dy);
      const scale = (length > 0 ? Math.min(0.85 * longest, 0.45 * length) : 0) / (length || 1);
      arrow(context, toPixel(canvas, from), toPixel(canvas, [from[0] + scale * dx, from[1] + scale * dy]));
    }
  }
}

function arrow(context, [x, y], [u, v]) {
  const [dx, dy] = [u - x, v - y];
  const length = Math.hypot(dx, dy);
  if (length < 1) return;
  const head = Math.min(6, length / 2) / length;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(u, v);
  for (const side of [-0.5, 0.5]) {
    context.moveTo(u, v);
    context.lineTo(u - head * (dx + side * dy), v - head * (dy - side * dx));
  }
  context.stroke();
}

export function paths(canvas, all) {
  const context = canvas.getContext("2d");
  Object.assign(context, { strokeStyle: colors(canvas)["line-2"], lineWidth: 1, globalAlpha: 0.35 });
  context.beginPath();
  for (const path of all) path.forEach((place, i) => (i ? context.lineTo(...toPixel(canvas, place)) : context.moveTo(...toPixel(canvas, place))));
  context.stroke();
  context.globalAlpha = 1;
}

export function cross(canvas, place) {
  const context = canvas.getContext("2d");
  const [x, y] = toPixel(canvas, place);
  Object.assign(context, { strokeStyle: colors(canvas).ink, lineWidth: 2 });
  context.beginPath();
  for (const [a, b] of [[12, 0], [0, 12]]) {
    context.moveTo(x - a, y - b);
    context.lineTo(x + a, y + b);
  }
  context.stroke();
}
