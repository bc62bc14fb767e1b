// A mesh of the cortex from several sides: which vertex is seen at each pixel, where a vertex is seen, and which one
// lies next to it. The explorer has this file as a module; the page takes it without the word export.

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
/** Hemisphere, eye and name of the four pictures from each side. */
export const PANELS = {
  sides: [["left", "left", "left, outer side"], ["right", "right", "right, outer side"], ["left", "right", "left, inner side"], ["right", "left", "right, inner side"]],
  heights: [["left", "above", "left, from above"], ["right", "above", "right, from above"], ["left", "below", "left, from below"], ["right", "below", "right, from below"]],
  ends: [["left", "front", "left, from the front"], ["right", "front", "right, from the front"], ["left", "back", "left, from behind"], ["right", "back", "right, from behind"]],
};
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STRAIGHT = 0.3; // cosine of the largest angle between an arrow and the way to the next vertex

/** The name of a vertex, its hemisphere and its number there, as "left:12". */
export function nameVertex(mesh, row) { return row < mesh.sizes[0] ? `left:${row}` : `right:${row - mesh.sizes[0]}`; }

/** The row of a vertex by its name; null where it names none. */
export function findVertex(mesh, name) {
  const [, side, number] = /^\s*(left|right)\s*:\s*(\d+)\s*$/.exec(name) ?? [];
  if (!side || Number(number) >= mesh.sizes[side === "left" ? 0 : 1]) return null;
  return Number(number) + (side === "right" ? mesh.sizes[0] : 0);
}

const dot = (points, k, [x, y, z]) => points[3 * k] * x + points[3 * k + 1] * y + points[3 * k + 2] * z;

/** The vertex seen at each pixel of a picture (-1: none), how much light falls on it, and where vertices lie.
 * A mesh holds `points` (3 numbers a vertex, mm), `triangles` (3 rows each) and `sizes`, the left hemisphere first. */
export function lookAt(mesh, side, eye, width, height) {
  const first = side === "left" ? 0 : mesh.sizes[0];
  const n = mesh.sizes[side === "left" ? 0 : 1];
  const { right, up, away } = EYES[eye];
  const [across, along, deep] = [new Float32Array(n), new Float32Array(n), new Float32Array(n)];
  let [left, top, far, low] = [Infinity, -Infinity, -Infinity, Infinity];
  for (let k = 0; k < n; k += 1) {
    across[k] = dot(mesh.points, first + k, right);
    along[k] = dot(mesh.points, first + k, up);
    deep[k] = dot(mesh.points, first + k, away);
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
  const { triangles } = mesh;
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

/** Where a vertex is seen in a picture [px]; null where it is not. */
export function placeOf(view, vertex) {
  const k = vertex - view.first;
  if (k < 0 || k >= view.n) return null;
  const [x, y] = [Math.round(view.across[k]), Math.round(view.along[k])];
  const at = y * view.width + x;
  if (x < 0 || y < 0 || x >= view.width || y >= view.height || view.deep[k] > view.depth[at] + 2) return null;
  return [view.across[k], view.along[k]];
}

const neighborhoods = new WeakMap(); // of each mesh: where the neighbors of each vertex begin, and these

function listNeighbors(mesh) {
  if (!neighborhoods.has(mesh)) {
    const n = mesh.sizes[0] + mesh.sizes[1];
    const starts = new Int32Array(n + 1);
    const { triangles } = mesh;
    for (const vertex of triangles) starts[vertex + 1] += 2;
    for (let k = 0; k < n; k += 1) starts[k + 1] += starts[k];
    const [filled, next] = [starts.slice(), new Int32Array(starts[n])];
    for (let t = 0; t < triangles.length; t += 1) {
      const corner = t - (t % 3);
      for (const other of [1, 2]) next[filled[triangles[t]]++] = triangles[corner + ((t + other) % 3)]; // twice, mostly
    }
    neighborhoods.set(mesh, { starts, next });
  }
  return neighborhoods.get(mesh);
}

/** The vertex that an arrow key leads to in a picture: the neighbor that lies straightest ahead among those seen.
 * From a vertex that the picture does not show, it is the one seen nearest to the middle. */
export function stepTo(mesh, view, vertex, key) {
  const step = STEPS[key];
  if (!step) return null;
  if (vertex === null || !placeOf(view, vertex)) return findNearest(view, view.width / 2, view.height / 2);
  const { starts, next } = listNeighbors(mesh);
  const k = vertex - view.first;
  let [best, straightest] = [null, STRAIGHT];
  for (let at = starts[vertex]; at < starts[vertex + 1]; at += 1) {
    const other = next[at] - view.first;
    const [x, y] = [view.across[other] - view.across[k], view.along[other] - view.along[k]];
    const straight = (x * step[0] + y * step[1]) / (Math.hypot(x, y) || 1);
    if (straight > straightest && placeOf(view, next[at])) [best, straightest] = [next[at], straight];
  }
  return best;
}

/** The vertex that is seen nearest to a pixel. */
function findNearest(view, x, y) {
  let [best, least] = [null, Infinity];
  view.seen.forEach((vertex, at) => {
    const far = vertex < 0 ? Infinity : Math.hypot((at % view.width) - x, Math.floor(at / view.width) - y);
    if (far < least) [best, least] = [vertex, far];
  });
  return best;
}
