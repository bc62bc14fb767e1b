// The cortex as a picture: both hemispheres from several sides, colored by a map; a press finds the vertex there.

import { LEFT, colorMap, tone } from "./figures.js";
import { write } from "./dom.js";
import { PANELS, lookAt, placeOf, stepTo } from "./mesh.js";

const [NAME, SCALE, GAP] = [20, 44, 10];

export function heightOfCortex(width) { return 2 * (Math.min(260, Math.round(width * 0.36)) + NAME + GAP) + SCALE; }

/** The color of each pixel of a panel: the map where it is above its lowest shown value, else gyri and sulci. */
function colorPanel(view, mesh, { values, from, most }, dark) {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [view.width, view.height];
  const context = picture.getContext("2d");
  const pixels = context.createImageData(view.width, view.height);
  const map = colorMap("activation", 0.3);
  for (let at = 0; at < view.seen.length; at += 1) {
    const vertex = view.seen[at];
    if (vertex < 0) continue;
    const shade = 0.45 + 0.55 * view.light[at];
    const value = values ? values[vertex] : NaN;
    let color;
    if (value > from) {
      const k = Math.max(1, Math.min(255, Math.round((255 * (value - from)) / (most - from || 1))));
      color = [map.R[k], map.G[k], map.B[k]];
    } else {
      const gray = mesh.gyri ? (mesh.gyri.data[vertex] ? 205 : 150) : 190;
      color = Array(3).fill(dark ? gray * 0.62 : gray);
    }
    pixels.data.set([color[0] * shade, color[1] * shade, color[2] * shade, 255], 4 * at);
  }
  context.putImageData(pixels, 0, 0);
  return picture;
}

const looks = new WeakMap(); // what is seen of a mesh, by size and side

function lookOnce(mesh, side, eye, width, height) {
  if (!looks.has(mesh)) looks.set(mesh, new Map());
  const own = looks.get(mesh);
  const key = `${side} ${eye} ${width} ${height}`;
  if (own.size > 24) own.clear();
  if (!own.has(key)) own.set(key, lookAt(mesh, side, eye, width, height));
  return own.get(key);
}

/** A drawing of a map on a mesh: `shown` holds values by vertex, and the lowest and highest value that is drawn. */
export function paintCortex(mesh, shown, state) {
  const { from } = state;
  let views = [];
  let drawnFor = "";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (context, width, height) => {
    const each = Math.floor((width - GAP) / 2);
    const tall = Math.floor((height - SCALE) / 2 - NAME - GAP);
    const size = `${each} ${tall} ${dark.matches}`;
    if (drawnFor !== size) {
      views = PANELS[from].filter(([side]) => mesh.sizes[side === "left" ? 0 : 1]).map(([side, eye, name], k) => {
        const view = lookOnce(mesh, side, eye, each, tall);
        return { ...view, name, picture: colorPanel(view, mesh, shown, dark.matches), left: (k % 2) * (each + GAP), top: NAME + Math.floor(k / 2) * (tall + NAME + GAP) };
      });
      drawnFor = size;
    }
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const view of views) {
      context.fillStyle = tone("muted");
      context.fillText(view.name, view.left + view.width / 2, view.top - NAME / 2);
      context.drawImage(view.picture, view.left, view.top, view.width, view.height);
      ring(context, view, state.chosen);
    }
    drawScale(context, width, height, shown);
  };
  paint.find = (x, y) => {
    for (const view of views) {
      const [column, row] = [Math.floor(x - view.left), Math.floor(y - view.top)];
      if (column < 0 || row < 0 || column >= view.width || row >= view.height) continue;
      const vertex = view.seen[row * view.width + column];
      return vertex < 0 ? null : vertex;
    }
    return null;
  };
  /** The vertex that an arrow key leads to, in the first panel that shows the chosen one. */
  paint.step = (vertex, key) => {
    const view = views.find((one) => vertex !== null && placeOf(one, vertex)) ?? views[0];
    return view ? stepTo(mesh, view, vertex, key) : null;
  };
  return paint;
}

function ring(context, view, chosen) {
  const at = chosen === null ? null : placeOf(view, chosen);
  if (!at) return;
  for (const [color, width] of [["#000000", 4], ["#ffffff", 2]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.arc(view.left + at[0], view.top + at[1], 6, 0, 2 * Math.PI);
    context.stroke();
  }
}

function drawScale(context, width, height, { from, most, values }) {
  if (!values) return;
  const map = colorMap("activation", 0.3);
  const [left, long, top] = [LEFT, Math.min(260, width - 2 * LEFT), height - 30];
  for (let x = 0; x < long; x += 1) {
    const k = Math.max(1, Math.round((255 * x) / long));
    context.fillStyle = `rgb(${map.R[k]},${map.G[k]},${map.B[k]})`;
    context.fillRect(left + x, top, 1.2, 10);
  }
  context.fillStyle = tone("muted");
  context.textBaseline = "top";
  context.textAlign = "center";
  context.fillText(write(from, 2), left, top + 14);
  context.fillText(write(most, 2), left + long, top + 14);
}
