// Drawings on canvases: sounds with maps over them, strips of activations, bars, profiles, RDMs.

import { fileName, h, save, saveTable, write } from "./dom.js";
import { SvgContext } from "./svg.js";

export const LEFT = 46; // px for the labels of the vertical axis
export const RIGHT = 10;
export const MARKS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32]; // kHz
let colors = {};
const drawn = new Set();

export function setColors(found) {
  colors = Object.fromEntries(Object.entries(found).map(([name, map]) => [name, map.data]));
}

export function listColors() {
  return Object.keys(colors).filter((name) => !["sound", "score", "activation"].includes(name));
}

const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => drawn.forEach((figure) => figure.draw()));

export function tone(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The color map of a quantity in 0..1; shades of sound run the other way where the page is dark. */
export function shade(name) {
  const turned = name === "sound" && dark.matches;
  const map = colors[name === "score" && dark.matches ? "activation" : name];
  return (value) => {
    const at = Math.max(0, Math.min(255, Math.round((turned ? 1 - value : value) * 255))) * 3;
    return [map[at], map[at + 1], map[at + 2]];
  };
}

/** A color map as NiiVue takes it; what is below its lowest value is not drawn. */
export function colorMap(name, from = 0) {
  const map = colors[name];
  const channel = (at) => Array.from({ length: 256 }, (_, k) => map[3 * Math.round(255 * (from + (1 - from) * (k / 255))) + at]);
  return { R: channel(0), G: channel(1), B: channel(2), A: Array.from({ length: 256 }, (_, k) => (k ? 255 : 0)), I: Array.from({ length: 256 }, (_, k) => k) };
}

/** A canvas that is drawn again when its width, its content or the theme changes, and that can be saved.
 * Its height is a number, or a function of its width. */
export class Figure {
  constructor({ name, height, label = "A figure that is not drawn yet" }) {
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.frame = h("div", { class: "frame" }, this.canvas);
    this.name = name;
    this.height = height;
    this.paint = null;
    this.table = null;
    this.width = 0;
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width !== this.width) { this.width = width; this.draw(); }
    });
    this.observer.observe(this.frame);
    drawn.add(this);
  }

  remove() {
    this.observer.disconnect();
    drawn.delete(this);
  }

  /** Show a drawing: `paint(context, width, height)`, and the rows behind it for a table. */
  show(paint, { label, table = null, height = this.height } = {}) {
    this.paint = paint;
    this.table = table;
    this.height = height;
    if (label) this.canvas.setAttribute("aria-label", label);
    this.draw();
  }

  get tall() { return typeof this.height === "function" ? this.height(this.width) : this.height; }

  draw(scale = window.devicePixelRatio || 1) {
    if (!this.paint || !this.width) return;
    const { canvas, width, tall: height } = this;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = letters();
    this.paint(context, width, height);
    this.allowSaves();
  }

  /** Nothing can be saved before it is drawn, and no numbers where there are none. */
  allowSaves() {
    const [png, svg, tsv] = this.saves ?? [];
    if (!png) return;
    png.disabled = svg.disabled = !this.paint || !this.width;
    tsv.disabled = !this.table;
  }

  /** Buttons that save the drawing (as pixels at twice its size, or as shapes and text) and its numbers. */
  downloads() {
    const png = h("button", { type: "button", class: "quiet", title: "Save the picture", onclick: () => this.savePicture() }, "PNG");
    const svg = h("button", { type: "button", class: "quiet", title: "Save the drawing", onclick: () => this.saveDrawing() }, "SVG");
    const tsv = h("button", { type: "button", class: "quiet", title: "Save the numbers", onclick: () => this.table && saveTable(...this.table(), this.fileName()) }, "TSV");
    this.saves = [png, svg, tsv];
    this.allowSaves();
    return h("span", { class: "downloads" }, png, svg, tsv);
  }

  fileName() { return fileName(typeof this.name === "function" ? this.name() : this.name); }

  savePicture() {
    this.draw(2);
    const copy = h("canvas", { width: this.canvas.width, height: this.canvas.height });
    const context = copy.getContext("2d");
    context.fillStyle = tone("card");
    context.fillRect(0, 0, copy.width, copy.height);
    context.drawImage(this.canvas, 0, 0);
    copy.toBlob((blob) => save(blob, `${this.fileName()}.png`));
    this.draw();
  }

  saveDrawing() {
    if (!this.paint || !this.width) return;
    const context = new SvgContext(this.width, this.tall);
    context.font = letters();
    this.paint(context, this.width, this.tall);
    save(new Blob([context.write(tone("card"), this.canvas.getAttribute("aria-label"))], { type: "image/svg+xml" }), `${this.fileName()}.svg`);
  }
}

function letters() { return `12px ${getComputedStyle(document.body).fontFamily}`; }

/** A picture `(rows, columns)` of 0..1 as a canvas, the first row at the bottom. */
export function makePicture(values, shape, color) {
  const [rows, columns] = shape;
  const picture = h("canvas", { width: columns, height: rows });
  const context = picture.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [r, g, b, a] = color(values[row * columns + column]);
      pixels.data.set([r, g, b, a ?? 255], ((rows - 1 - row) * columns + column) * 4);
    }
  }
  context.putImageData(pixels, 0, 0);
  return picture;
}

/** Color and opacity of a signed map: both grow with the size of a value. */
function overlay(name, limit) {
  const color = shade(name);
  return (value) => {
    const part = Math.max(-1, Math.min(1, value / limit));
    return [...color((part + 1) / 2), Math.round(255 * 0.85 * Math.abs(part) ** 0.6)];
  };
}

export function drawTimeAxis(context, left, right, y, seconds) {
  context.fillStyle = tone("muted");
  context.strokeStyle = tone("line");
  context.textAlign = "center";
  context.textBaseline = "top";
  const unit = seconds < 0.05 ? 1000 : 1;
  const step = [0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20].find((one) => seconds / one <= Math.max(2, (right - left) / 70)) ?? 60;
  for (let time = 0; time <= seconds + 1e-9; time += step) {
    const x = left + (time / seconds) * (right - left);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y + 4);
    context.stroke();
    const last = time + step > seconds + 1e-9;
    context.fillText(last ? `${write(time * unit)} ${unit > 1 ? "ms" : "s"}` : write(time * unit), Math.min(x, right - (last ? 8 : 0)), y + 6);
  }
}

function drawHertz(context, hertz, top, height, x) {
  context.fillStyle = tone("muted");
  context.textAlign = "right";
  context.textBaseline = "middle";
  if (!hertz) {
    context.fillText("bands", x, top + height / 2);
    return;
  }
  let before = Infinity;
  for (const mark of MARKS) {
    const at = hertz.data.findIndex((one) => one >= mark * 1000);
    if (at <= 0) continue;
    const [low, high] = [hertz.data[at - 1], hertz.data[at]];
    const place = at - 1 + (mark * 1000 - low) / (high - low);
    const y = top + height * (1 - (place + 0.5) / hertz.data.length);
    if (before - y < 16 || y < top + 5) continue;
    before = y;
    context.fillText(`${mark} k`, x, y);
  }
}

function drawEnvelope(context, low, high, box, most, fillOf) {
  const { left, top, width, height } = box;
  const middle = top + height / 2;
  const n = low.length;
  for (let k = 0; k < n; k += 1) {
    const [x, next] = [left + (k / n) * width, left + ((k + 1) / n) * width];
    const before = Math.max(0, k - 1); // a wave of fewer samples than points stays one line
    const [above, below] = [Math.max(high[k], low[before]), Math.min(low[k], high[before])];
    const [up, down] = [middle - (above / most) * height * 0.48, middle - (below / most) * height * 0.48];
    context.fillStyle = fillOf(k);
    context.fillRect(x, up, Math.max(next - x, 0.6), Math.max(down - up, 1));
  }
}

export const SOUND = { wave: 52, gap: 8, picture: 176, course: 62, axis: 24 };

export function heightOfSound(map) {
  return SOUND.wave + SOUND.gap + SOUND.picture + (map?.values && map.kind !== "picture" ? SOUND.gap + SOUND.course : 0) + SOUND.axis;
}

/** A waveform, its spectrogram with a map over it, and the course of the map. */
export function paintSound(sound, map, colorName) {
  const gray = shade("sound");
  let base, cover;
  return (context, width) => {
    const [left, right] = [LEFT, width - RIGHT];
    const box = { left, top: 0, width: right - left, height: SOUND.wave };
    drawEnvelope(context, sound.low.data, sound.high.data, box, sound.peak || 1, () => tone("soft"));
    const top = SOUND.wave + SOUND.gap;
    base ??= makePicture(sound.picture.data, sound.picture.shape, (value) => gray((value / 255) * (map?.values ? 0.55 : 1)));
    context.imageSmoothingEnabled = false;
    context.drawImage(base, left, top, right - left, SOUND.picture);
    if (map?.values && map.kind !== "positions") {
      const shape = map.values.shape.length === 1 ? [1, map.values.shape[0]] : map.values.shape;
      cover ??= makePicture(map.values.data, shape, overlay(colorName, map.limit));
      context.drawImage(cover, left, top, right - left, SOUND.picture);
    }
    drawHertz(context, sound.hertz, top, SOUND.picture, left - 6);
    let bottom = top + SOUND.picture;
    if (map?.values && map.kind !== "picture") {
      const course = { left, top: bottom + SOUND.gap, width: right - left, height: SOUND.course };
      paintCourse(context, map, course, colorName);
      bottom += SOUND.gap + SOUND.course;
    }
    drawTimeAxis(context, left, right, bottom, sound.seconds);
  };
}

function paintCourse(context, map, box, colorName) {
  const color = shade(colorName);
  const middle = box.top + box.height / 2;
  context.fillStyle = tone("line");
  context.fillRect(box.left, middle, box.width, 1);
  context.fillStyle = tone("muted");
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(write(map.limit, 2), box.left - 6, box.top + 7);
  context.fillText("0", box.left - 6, middle);
  context.fillText(write(-map.limit, 2), box.left - 6, box.top + box.height - 7);
  if (map.values.shape.length > 1) return;
  const [low, high] = [(map.low ?? map.values).data, (map.high ?? map.values).data];
  const above = `rgb(${color(0.88).join(",")})`;
  const below = `rgb(${color(0.12).join(",")})`;
  const n = low.length;
  for (let k = 0; k < n; k += 1) {
    const x = box.left + (k / n) * box.width;
    const size = box.width / n + 0.5;
    for (const [value, fill] of [[Math.max(high[k], 0), above], [Math.min(low[k], 0), below]]) {
      const tall = (Math.abs(value) / map.limit) * box.height * 0.5;
      context.fillStyle = fill;
      context.fillRect(x, value > 0 ? middle - tall : middle, size, tall);
    }
  }
}

/** A small waveform whose color is the map. */
export function paintColoredWave(sound, map, colorName) {
  const color = shade(colorName);
  return (context, width, height) => {
    if (map.kind === "picture") {
      const gray = shade("sound");
      context.imageSmoothingEnabled = false;
      context.drawImage(makePicture(sound.picture.data, sound.picture.shape, (value) => gray((value / 255) * 0.5)), 0, 0, width, height);
      context.drawImage(makePicture(map.values.data, map.values.shape, overlay(colorName, map.limit)), 0, 0, width, height);
      return;
    }
    if (map.values.shape.length > 1) return;
    const values = map.values.data;
    const n = sound.low.data.length;
    drawEnvelope(context, sound.low.data, sound.high.data, { left: 0, top: 0, width, height }, sound.peak || 1, () => tone("line"));
    drawEnvelope(context, sound.low.data, sound.high.data, { left: 0, top: 0, width, height }, sound.peak || 1, (k) => {
      const part = values[Math.min(values.length - 1, Math.floor((k / n) * values.length))] / map.limit;
      const size = Math.min(1, Math.abs(part));
      return `rgba(${color((Math.max(-1, Math.min(1, part)) + 1) / 2).join(",")},${size ** 0.5})`;
    });
  };
}

/** A strip of activations `(rows, columns)`: frames where they lie in time, or else spread over the width. */
export function paintStrip(strip, seconds, chosenRow) {
  const color = shade("score");
  let picture;
  return (context, width, height) => {
    const [rows, columns] = strip.picture.shape;
    const [left, right] = [LEFT, width - RIGHT];
    picture ??= makePicture(strip.picture.data, strip.picture.shape, (value) => color(value / 255));
    context.imageSmoothingEnabled = false;
    context.fillStyle = tone("paper");
    context.fillRect(left, 0, right - left, height);
    const each = (strip.step ?? 0) * strip.columns_of;
    const perSecond = (right - left) / seconds;
    if (strip.step !== null) {
      const from = left + (strip.start - strip.step / 2) * perSecond;
      context.save();
      context.beginPath();
      context.rect(left, 0, right - left, height);
      context.clip();
      context.drawImage(picture, from, 0, columns * each * perSecond, height);
      context.restore();
    } else {
      context.drawImage(picture, left, 0, right - left, height);
    }
    if (chosenRow !== null && chosenRow < rows) {
      const tall = height / rows;
      context.strokeStyle = tone("accent");
      context.lineWidth = 1.5;
      context.strokeRect(left, height - (chosenRow + 1) * tall, right - left, tall);
    }
  };
}

/** Points in a plane, colored by their conditions, whose names stand at their middles; the chosen one has a ring. */
export function paintPlane({ points, conditions, items, axes }, chosen) {
  const words = [...new Set(conditions)];
  const hue = (word) => `hsl(${Math.round((360 * words.indexOf(word)) / words.length)} 62% ${dark.matches ? 64 : 42}%)`;
  const places = [];
  const spans = [0, 1].map((axis) => {
    const along = items.map((_, k) => points.data[2 * k + axis]);
    return [Math.min(...along), Math.max(...along)];
  });
  const paint = (context, width, height) => {
    const [left, right, top, bottom] = [30, width - 30, 14, height - 34];
    const x = (value) => left + ((value - spans[0][0]) / (spans[0][1] - spans[0][0] || 1)) * (right - left);
    const y = (value) => bottom - ((value - spans[1][0]) / (spans[1][1] - spans[1][0] || 1)) * (bottom - top);
    const middles = new Map(words.map((word) => [word, [0, 0, 0]]));
    items.forEach((item, k) => {
      const at = [x(points.data[2 * k]), y(points.data[2 * k + 1])];
      places[k] = at;
      const sum = middles.get(conditions[k]);
      sum[0] += at[0]; sum[1] += at[1]; sum[2] += 1;
      context.beginPath();
      context.arc(...at, item === chosen ? 7 : 4.5, 0, 2 * Math.PI);
      context.fillStyle = hue(conditions[k]);
      context.fill();
      if (item !== chosen) return;
      context.strokeStyle = tone("ink");
      context.lineWidth = 2;
      context.stroke();
    });
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = tone("card");
    if (words.length <= 40 && words.length < items.length) {
      middles.forEach(([sumX, sumY, n], word) => {
        context.strokeText(word, sumX / n, sumY / n - 12);
        context.fillStyle = hue(word);
        context.fillText(word, sumX / n, sumY / n - 12);
      });
    }
    context.fillStyle = tone("muted");
    context.fillText(axes[0], (left + right) / 2, height - 10);
    context.save();
    context.translate(10, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(axes[1], 0, 0);
    context.restore();
  };
  paint.find = (px, py) => {
    const far = places.map(([x, y]) => Math.hypot(x - px, y - py));
    const nearest = far.indexOf(Math.min(...far));
    return far[nearest] < 14 ? nearest : null;
  };
  return paint;
}

/** The color scale of signed maps. */
export function paintScale(colorName, limit) {
  const color = shade(colorName);
  return (context, width) => {
    for (let x = 0; x < width; x += 1) {
      context.fillStyle = `rgb(${color(x / Math.max(1, width - 1)).join(",")})`;
      context.fillRect(x, 0, 1.2, 10);
    }
    context.fillStyle = tone("muted");
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillText(`${write(-limit, 2)} against`, 0, 14);
    context.textAlign = "center";
    context.fillText("0", width / 2, 14);
    context.textAlign = "right";
    context.fillText(`for ${write(limit, 2)}`, width, 14);
  };
}

/** Bars of class scores, for the picture that is saved. */
export function paintBars(rows, chosen) {
  return (context, width) => {
    const [least, most] = [Math.min(0, ...rows.map((row) => row.value)), Math.max(0, ...rows.map((row) => row.value))];
    const x = (value) => 110 + (width - 180) * ((value - least) / (most - least || 1));
    context.textBaseline = "middle";
    rows.forEach((row, k) => {
      const y = 12 + k * 22;
      context.fillStyle = row.name === chosen ? tone("accent") : tone("bar");
      context.fillRect(Math.min(x(0), x(row.value)), y - 7, Math.abs(x(row.value) - x(0)), 14);
      context.fillStyle = tone("ink");
      context.textAlign = "right";
      context.fillText(row.name, 102, y);
      context.textAlign = "left";
      context.fillText(write(row.value), width - 62, y);
    });
  };
}
