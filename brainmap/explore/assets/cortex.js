// The cortex as a picture: both hemispheres from several sides, colored by a map; a press finds the vertex there.

import { LEFT, colorMap, tone } from "./figures.js";
import { write } from "./dom.js";

// Where one looks from: to the right of the picture, up, and away from the eye, in mm (right, front, up).
const EYES = {
  left: { right: [0, -1, 0], up: [0, 0, 1], away: [1, 0, 0] },
  right: { right: [0, 1, 0], up: [0, 0, 1], away: [-1, 0, 0] },
  above: { right: [1, 0, 0], up: [0, 1, 0], away: [0, 0, -1] },
  below: { right: [-1, 0, 0], up: [0, 1, 0], away: [0, 0, 1] },
  front: { right: [-1, 0, 0], up: [0, 0, 1], away: [0, -1, 0] },
  back: { right: [1, 0, 0], up: [0, 0, 1], away: [0, 1, 0] },
};
export const SIDES = { sides: "the sides", heights: "above and below", ends: "front and back" };
const PANELS = {
  sides: [["left", "left", "left, outer side"], ["right", "right", "right, outer side"], ["left", "right", "left, inner side"], ["right", "left", "right, inner side"]],
  heights: [["left", "above", "left, from above"], ["right", "above", "right, from above"], ["left", "below", "left, from below"], ["right", "below", "right, from below"]],
  ends: [["left", "front", "left, from the front"], ["right", "front", "right, from the front"], ["left", "back", "left, from behind"], ["right", "back", "right, from behind"]],
};
const [NAME, SCALE, GAP] = [20, 44, 10];

export function heightOfCortex(width) { return 2 * (Math.min(260, Math.round(width * 0.36)) + NAME + GAP) + SCALE; }

const dot = (points, k, [x, y, z]) => points[3 * k] * x + points[3 * k + 1] * y + points[3 * k + 2] * z;

/** The vertex seen at each pixel of a panel (-1: none), how much light falls on it, and where vertices lie. */
function look(mesh, side, eye, width, height) {
  const first = side === "left" ? 0 : mesh.sizes[0];
  const n = mesh.sizes[side === "left" ? 0 : 1];
  const points = mesh.points.data;
  const { right, up, away } = EYES[eye];
  const [across, along, deep] = [new Float32Array(n), new Float32Array(n), new Float32Array(n)];
  let [left, top, far, low] = [Infinity, -Infinity, -Infinity, Infinity];
  for (let k = 0; k < n; k += 1) {
    across[k] = dot(points, first + k, right);
    along[k] = dot(points, first + k, up);
    deep[k] = dot(points, first + k, away);
    left = Math.min(left, across[k]); far = Math.max(far, across[k]);
    low = Math.min(low, along[k]); top = Math.max(top, along[k]);
  }
  const scale = 0.96 * Math.min(width / (far - left || 1), height / (top - low || 1));
  for (let k = 0; k < n; k += 1) {
    across[k] = width / 2 + (across[k] - (left + far) / 2) * scale;
    along[k] = height / 2 - (along[k] - (low + top) / 2) * scale;
  }
  const seen = new Int32Array(width * height).fill(-1);
  const depth = new Float32Array(width * height).fill(Infinity);
  const light = new Float32Array(width * height);
  const triangles = mesh.triangles.data;
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = [triangles[t] - first, triangles[t + 1] - first, triangles[t + 2] - first];
    if (a < 0 || a >= n || b < 0 || b >= n || c < 0 || c >= n) continue;
    fillTriangle([a, b, c], { across, along, deep, scale, width, height, seen, depth, light, first });
  }
  return { seen, depth, light, across, along, deep, first, n, width, height };
}

function fillTriangle([a, b, c], { across, along, deep, scale, width, height, seen, depth, light, first }) {
  const area = (across[b] - across[a]) * (along[c] - along[a]) - (across[c] - across[a]) * (along[b] - along[a]);
  if (area === 0) return;
  const [x0, x1] = [Math.max(0, Math.ceil(Math.min(across[a], across[b], across[c]) - 0.5)), Math.min(width - 1, Math.floor(Math.max(across[a], across[b], across[c]) + 0.5))];
  const [y0, y1] = [Math.max(0, Math.ceil(Math.min(along[a], along[b], along[c]) - 0.5)), Math.min(height - 1, Math.floor(Math.max(along[a], along[b], along[c]) + 0.5))];
  // the slope of the triangle against the direction of sight
  const [u, v] = [[across[b] - across[a], along[b] - along[a], (deep[b] - deep[a]) * scale], [across[c] - across[a], along[c] - along[a], (deep[c] - deep[a]) * scale]];
  const normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const bright = Math.abs(normal[2]) / (Math.hypot(...normal) || 1);
  for (let y = y0; y <= y1; y += 1) {
    for (let x = x0; x <= x1; x += 1) {
      const wb = ((x - across[a]) * (along[c] - along[a]) - (across[c] - across[a]) * (y - along[a])) / area;
      const wc = ((across[b] - across[a]) * (y - along[a]) - (x - across[a]) * (along[b] - along[a])) / area;
      const wa = 1 - wb - wc;
      if (wa < -1e-6 || wb < -1e-6 || wc < -1e-6) continue;
      const at = y * width + x;
      const z = wa * deep[a] + wb * deep[b] + wc * deep[c];
      if (z >= depth[at]) continue;
      depth[at] = z;
      light[at] = bright;
      seen[at] = first + (wa >= wb && wa >= wc ? a : wb >= wc ? b : c);
    }
  }
}

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
  if (!own.has(key)) own.set(key, look(mesh, side, eye, width, height));
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
  /** Where a vertex is seen [px], by the name of its panel; panels that do not show it are left out. */
  paint.places = (vertex) => views.map((view) => ({ name: view.name, at: placeOf(view, vertex) })).filter(({ at }) => at);
  return paint;
}

function placeOf(view, vertex) {
  const k = vertex - view.first;
  if (k < 0 || k >= view.n) return null;
  const [x, y] = [Math.round(view.across[k]), Math.round(view.along[k])];
  const at = y * view.width + x;
  if (x < 0 || y < 0 || x >= view.width || y >= view.height || view.deep[k] > view.depth[at] + 2) return null;
  return [view.left + view.across[k], view.top + view.along[k]];
}

function ring(context, view, chosen) {
  const at = chosen === null ? null : placeOf(view, chosen);
  if (!at) return;
  for (const [color, width] of [["#000000", 4], ["#ffffff", 2]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.arc(...at, 6, 0, 2 * Math.PI);
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
