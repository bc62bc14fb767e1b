// A drawing as SVG: takes what figures draw on a canvas, and writes it as shapes and text.

const probe = document.createElement("canvas").getContext("2d");
const BASELINE = { top: 0.8, middle: 0.36, bottom: -0.2, alphabetic: 0 }; // of the size of the letters, downwards
const ANCHOR = { left: "start", start: "start", center: "middle", right: "end", end: "end" };

const escape = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const round = (number) => Number(number.toFixed(2));

/** The attributes of a color, with its opacity apart, as all programs read it. */
function colorAttributes(what, color) {
  probe.fillStyle = "#000";
  probe.fillStyle = color;
  const parts = /^rgba\((\d+), (\d+), (\d+), ([\d.]+)\)$/.exec(probe.fillStyle);
  if (!parts) return `${what}="${probe.fillStyle}"`;
  return `${what}="rgb(${parts[1]},${parts[2]},${parts[3]})" ${what}-opacity="${parts[4]}"`;
}

const START = {
  fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, font: "12px sans-serif", textAlign: "start", textBaseline: "alphabetic",
  imageSmoothingEnabled: true, dash: [], matrix: [1, 0, 0, 1, 0, 0], clipped: "",
};

/** What figures use of CanvasRenderingContext2D. */
export class SvgContext {
  constructor(width, height) {
    Object.assign(this, structuredClone(START), { width, height });
    this.parts = [];
    this.saved = [];
    this.clips = 0;
    this.path = "";
  }

  save() { this.saved.push(structuredClone(Object.fromEntries(Object.keys(START).map((key) => [key, this[key]])))); }

  restore() { Object.assign(this, this.saved.pop() ?? {}); }

  multiply([a, b, c, d, e, f]) {
    const [p, q, r, s, t, u] = this.matrix;
    this.matrix = [p * a + r * b, q * a + s * b, p * c + r * d, q * c + s * d, p * e + r * f + t, q * e + s * f + u];
  }

  translate(x, y) { this.multiply([1, 0, 0, 1, x, y]); }

  scale(x, y) { this.multiply([x, 0, 0, y, 0, 0]); }

  rotate(angle) { this.multiply([Math.cos(angle), Math.sin(angle), -Math.sin(angle), Math.cos(angle), 0, 0]); }

  setLineDash(dash) { this.dash = [...dash]; }

  beginPath() { this.path = ""; }

  moveTo(x, y) { this.path += `M${round(x)} ${round(y)}`; }

  lineTo(x, y) { this.path += `${this.path ? "L" : "M"}${round(x)} ${round(y)}`; }

  closePath() { this.path += "Z"; }

  rect(x, y, width, height) { this.path += `M${round(x)} ${round(y)}h${round(width)}v${round(height)}h${round(-width)}Z`; }

  /** A whole circle, the only arc that figures draw. */
  arc(x, y, radius) {
    const [left, right, r] = [round(x - radius), round(x + radius), round(radius)];
    this.path += `M${right} ${round(y)}A${r} ${r} 0 1 1 ${left} ${round(y)}A${r} ${r} 0 1 1 ${right} ${round(y)}Z`;
  }

  clip() {
    this.clips += 1;
    this.parts.push(`<clipPath id="clip${this.clips}"><path d="${this.path}"${this.placed()}/></clipPath>`);
    this.clipped = `clip${this.clips}`;
  }

  placed() {
    const moved = this.matrix.some((one, k) => one !== START.matrix[k]);
    return moved ? ` transform="matrix(${this.matrix.map((one) => Number(one.toFixed(5))).join(" ")})"` : "";
  }

  add(element) { this.parts.push(this.clipped ? `<g clip-path="url(#${this.clipped})">${element}</g>` : element); }

  get line() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    return `${colorAttributes("stroke", this.strokeStyle)} stroke-width="${this.lineWidth}"${dash}`;
  }

  stroke() { this.add(`<path d="${this.path}" fill="none" ${this.line}${this.placed()}/>`); }

  fill() { this.add(`<path d="${this.path}" ${colorAttributes("fill", this.fillStyle)}${this.placed()}/>`); }

  fillRect(x, y, width, height) {
    this.add(`<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" ${colorAttributes("fill", this.fillStyle)}${this.placed()}/>`);
  }

  strokeRect(x, y, width, height) {
    this.add(`<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" fill="none" ${this.line}${this.placed()}/>`);
  }

  measureText(text) {
    probe.font = this.font;
    return probe.measureText(text);
  }

  addText(text, x, y, look) {
    const size = Number.parseFloat(/([\d.]+)px/.exec(this.font)?.[1] ?? "12");
    const family = escape(this.font.replace(/^.*?px\s*/, ""));
    const down = round(y + size * (BASELINE[this.textBaseline] ?? 0));
    this.add(`<text x="${round(x)}" y="${down}" font-size="${size}" font-family="${family}" text-anchor="${ANCHOR[this.textAlign]}" ${look}${this.placed()}>${escape(text)}</text>`);
  }

  fillText(text, x, y) { this.addText(text, x, y, colorAttributes("fill", this.fillStyle)); }

  strokeText(text, x, y) { this.addText(text, x, y, `fill="none" ${this.line}`); }

  drawImage(canvas, x, y, width = canvas.width, height = canvas.height) {
    const sharp = this.imageSmoothingEnabled ? "" : ' style="image-rendering:pixelated"';
    this.add(`<image x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" preserveAspectRatio="none"${sharp} href="${canvas.toDataURL()}"${this.placed()}/>`);
  }

  /** The whole drawing on a ground of one color, as text; the title is what a reader hears of it. */
  write(ground, title) {
    const size = `width="${this.width}" height="${this.height}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${this.width} ${this.height}" role="img"><title>${escape(title)}</title><rect ${size} ${colorAttributes("fill", ground)}/>${this.parts.join("\n")}</svg>\n`;
  }
}
