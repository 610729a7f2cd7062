// Painting a mask: with a finger, a pen, a mouse or the keyboard.
import { element } from "./api.js";

const SIDE = 512; // pixels of the canvas that stores the strokes

export class Painter {
  constructor(canvas, brush) {
    this.canvas = canvas;
    this.brush = brush; // percent of the picture's width
    this.at = [0.5, 0.5];
    this.strokes = element("canvas", { width: SIDE, height: SIDE });
    this.touched = false;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.stroke(this.position(event), null);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.at;
      this.at = this.position(event);
      if (event.buttons) this.stroke(this.at, before);
      else this.show();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  start(width, height) {
    Object.assign(this.strokes, { width: width >= height ? SIDE : Math.round((SIDE * width) / height), height: width >= height ? Math.round((SIDE * height) / width) : SIDE });
    Object.assign(this.canvas, { width: this.strokes.width, height: this.strokes.height });
    this.touched = false;
    this.show();
  }

  clear() {
    this.strokes.getContext("2d").clearRect(0, 0, this.strokes.width, this.strokes.height);
    this.touched = false;
    this.show();
  }

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  radius() {
    return (Number(this.brush.value) / 200) * this.strokes.width;
  }

  stroke(to, from) {
    const context = this.strokes.getContext("2d");
    const [width, height] = [this.strokes.width, this.strokes.height];
    context.lineCap = "round";
    context.strokeStyle = "white";
    context.lineWidth = 2 * this.radius();
    context.beginPath();
    context.moveTo((from ?? to)[0] * width, (from ?? to)[1] * height);
    context.lineTo(to[0] * width, to[1] * height);
    context.stroke();
    this.at = to;
    this.touched = true;
    this.show();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      const [dx, dy] = moves[event.key];
      const before = this.at;
      this.at = [Math.min(1, Math.max(0, before[0] + dx / 40)), Math.min(1, Math.max(0, before[1] + dy / 40))];
      if (event.shiftKey) this.stroke(this.at, before);
      else this.show();
    } else if (event.key === " ") this.stroke(this.at, null);
    else return;
    event.preventDefault();
  }

  show() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    context.globalAlpha = 0.6;
    context.drawImage(this.strokes, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = getComputedStyle(this.canvas).getPropertyValue("--accent");
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    for (const [color, size] of [["black", 3], ["white", 1.5]]) {
      context.strokeStyle = color;
      context.lineWidth = size;
      context.beginPath();
      context.arc(this.at[0] * width, this.at[1] * height, this.radius(), 0, 7);
      context.stroke();
    }
  }

  // White where painted, black elsewhere: a data: URL of a PNG.
  mask(width, height) {
    const canvas = element("canvas", { width, height });
    const context = canvas.getContext("2d");
    context.fillRect(0, 0, width, height);
    context.drawImage(this.strokes, 0, 0, width, height);
    return canvas.toDataURL("image/png");
  }
}
