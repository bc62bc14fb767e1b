// Profiles of layers with ceilings and controls, and RDMs.

import { write } from "./dom.js";
import { makePicture, shade, tone } from "./figures.js";

export const profileHeight = 250;
const PAD = { left: 52, right: 14, top: 12, bottom: 30, turned: 64 };
const STEPS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10];

function line(context, points, color, { width = 2, dash = [] } = {}) {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  context.setLineDash([]);
}

/** Whether models of a kind have a panel of their own: networks, and hypotheses, which no line joins as they have no depth. */
export const hasPanel = (kind) => kind === "network" || kind === "hypothesis";

/** The scores of a network's layers, with its controls, the acoustic models and the noise ceiling. */
export function paintProfile(found, family, choice) {
  const rows = found.rows.filter((row) => row.of === family && row.mean !== null);
  const kinds = [...new Set(rows.map((row) => row.kind))].sort((one) => (hasPanel(one) ? 1 : -1));
  const layers = [...new Set(rows.map((row) => row.layer))];
  const baselines = found.rows.filter((row) => row.kind === "baseline" && row.mean !== null);
  const every = found.rows.filter((row) => row.mean !== null);
  const ends = [0, ...(found.ceiling ?? []), ...every.flatMap((row) => [row.mean - (row.error ?? 0), row.mean + (row.error ?? 0)])];
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  return (context, width, height) => {
    const right = width - PAD.right;
    const turned = Math.max(...layers.map((name) => context.measureText(name).width)) > (right - PAD.left) / layers.length - 6;
    const bottom = height - (turned ? PAD.turned : PAD.bottom);
    const x = (layer) => PAD.left + ((layers.indexOf(layer) + 0.5) / layers.length) * (right - PAD.left);
    const y = (value) => bottom - ((value - least) / (most - least || 1)) * (bottom - PAD.top);
    if (found.ceiling) {
      context.fillStyle = tone("paper");
      context.fillRect(PAD.left, y(found.ceiling[1]), right - PAD.left, Math.max(1, y(found.ceiling[0]) - y(found.ceiling[1])));
      context.fillStyle = tone("line");
      context.fillRect(PAD.left, y(found.ceiling[0]), right - PAD.left, 1);
    }
    context.fillStyle = tone("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    const step = STEPS.find((one) => (most - least) / one <= 5) ?? 20;
    for (let k = Math.ceil(least / step); k * step <= most + 1e-9; k += 1) {
      context.fillText(write(k * step, 2), PAD.left - 8, y(k * step));
      line(context, [[PAD.left, y(k * step)], [right, y(k * step)]], tone("line"), { width: k === 0 ? 1.5 : 0.6 });
    }
    baselines.forEach((row) => line(context, [[PAD.left, y(row.mean)], [right, y(row.mean)]], tone("warm"), { width: 1, dash: [5, 4] }));
    for (const kind of kinds) {
      const mine = rows.filter((row) => row.kind === kind);
      const color = hasPanel(kind) ? tone("accent") : tone("muted");
      if (kind !== "hypothesis") line(context, mine.map((row) => [x(row.layer), y(row.mean)]), color, { width: kind === "network" ? 2 : 1.2 });
      for (const row of mine) {
        if (row.error !== null && hasPanel(kind)) line(context, [[x(row.layer), y(row.mean - row.error)], [x(row.layer), y(row.mean + row.error)]], color, { width: 1 });
        context.beginPath();
        context.arc(x(row.layer), y(row.mean), hasPanel(kind) ? 4.5 : 2.5, 0, 2 * Math.PI);
        context.fillStyle = row.p !== null && row.p < 0.05 ? color : tone("card");
        context.fill();
        context.strokeStyle = color;
        context.lineWidth = 1.5;
        context.stroke();
      }
    }
    drawNames(context, layers, x, bottom, { choice, family, turned });
  };
}

function drawNames(context, layers, x, bottom, { choice, family, turned }) {
  for (const name of layers) {
    const chosen = name === choice.layer && family === choice.network;
    context.fillStyle = chosen ? tone("accent") : tone("soft");
    context.save();
    context.translate(x(name), bottom + 10);
    if (turned) context.rotate(-Math.PI / 4);
    context.textAlign = turned ? "right" : "center";
    context.textBaseline = turned ? "middle" : "top";
    context.fillText(name.length > 16 ? `…${name.slice(-15)}` : name, 0, 0);
    context.restore();
  }
}

function rank(values, n) {
  const pairs = [];
  for (let i = 1; i < n; i += 1) for (let j = 0; j < i; j += 1) pairs.push([values[i * n + j], i, j]);
  const known = pairs.filter(([value]) => Number.isFinite(value)).sort((one, other) => one[0] - other[0]);
  const ranks = new Float32Array(n * n).fill(NaN);
  let from = 0;
  while (from < known.length) {
    let to = from;
    while (to + 1 < known.length && known[to + 1][0] === known[from][0]) to += 1;
    const share = (from + to) / 2 / Math.max(1, known.length - 1);
    for (let k = from; k <= to; k += 1) ranks[known[k][1] * n + known[k][2]] = ranks[known[k][2] * n + known[k][1]] = share;
    from = to + 1;
  }
  return ranks;
}

/** An RDM as ranks of its dissimilarities; pairs without a value, and the diagonal, stay empty. */
export function paintRdm(values) {
  const n = values.shape[0];
  const ranks = rank(values.data, n);
  let box = null;
  const paint = (context, width, height) => {
    const size = Math.min(width, height - 4);
    box = { left: (width - size) / 2, top: 2, size };
    const upward = (k) => ranks[(n - 1 - Math.floor(k / n)) * n + (k % n)]; // pictures begin at the bottom
    const color = shade("sound");
    const picture = makePicture(Float32Array.from(ranks, (_, k) => upward(k)), values.shape, (share) => (Number.isNaN(share) ? [0, 0, 0, 0] : color(1 - share)));
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, box.left, box.top, size, size);
    context.strokeStyle = tone("line");
    context.lineWidth = 1;
    context.strokeRect(box.left, box.top, size, size);
  };
  paint.find = (x, y) => {
    if (!box) return null;
    const [i, j] = [Math.floor(((y - box.top) / box.size) * n), Math.floor(((x - box.left) / box.size) * n)];
    return i >= 0 && j >= 0 && i < n && j < n && i !== j ? [i, j] : null;
  };
  return paint;
}
