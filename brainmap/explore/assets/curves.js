// Curves: over time, and over frequency.

import { write } from "./dom.js";
import { LEFT, MARKS, RIGHT, SOUND, drawTimeAxis, tone } from "./figures.js";

/** A line over time. */
export function paintLine(values, { start, step, seconds, least, most }) {
  return (context, width, height) => {
    const [left, right, bottom] = [LEFT, width - RIGHT, height - SOUND.axis];
    const y = (value) => 4 + (bottom - 8) * (1 - (value - least) / (most - least || 1));
    context.fillStyle = tone("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(write(most, 2), left - 6, y(most) + 4);
    context.fillText(write(least, 2), left - 6, y(least) - 2);
    context.fillStyle = tone("line");
    context.fillRect(left, y(Math.max(0, least)), right - left, 1);
    context.strokeStyle = tone("accent");
    context.lineWidth = 1.5;
    context.beginPath();
    values.forEach((value, k) => {
      const x = step === null ? left + ((k + 0.5) / values.length) * (right - left) : left + ((start + k * step) / seconds) * (right - left);
      if (k) context.lineTo(x, y(value)); else context.moveTo(x, y(value));
    });
    context.stroke();
    drawTimeAxis(context, left, right, bottom, seconds);
  };
}

const SHADES = ["line", "muted", "accent"]; // of several curves, the last one strongest

/** Curves over frequency on a logarithmic axis; the frequency of the highest point is marked. */
export function paintCurves(hertz, curves, { best }) {
  const every = curves.flatMap(({ values }) => values);
  const [least, most] = [Math.min(0, ...every), Math.max(...every, 1e-12)];
  const [low, high] = [Math.log(hertz[0]), Math.log(hertz.at(-1))];
  return (context, width, height) => {
    const [left, right, bottom] = [LEFT, width - RIGHT, height - SOUND.axis];
    const x = (one) => left + ((Math.log(one) - low) / (high - low || 1)) * (right - left);
    const y = (value) => 6 + (bottom - 10) * (1 - (value - least) / (most - least));
    context.fillStyle = tone("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(write(most, 2), left - 6, y(most) + 3);
    if (y(0) - y(most) > 14) context.fillText("0", left - 6, y(0));
    if (least < 0 && y(least) - y(0) > 14) context.fillText(write(least, 2), left - 6, y(least) - 3);
    context.fillStyle = tone("line");
    context.fillRect(left, y(0), right - left, 1);
    if (best !== null && Number.isFinite(best)) context.fillRect(x(best), 4, 1, bottom - 4);
    curves.forEach(({ values }, k) => {
      context.strokeStyle = tone(SHADES.at(k - curves.length));
      context.lineWidth = k === curves.length - 1 ? 1.8 : 1.2;
      context.beginPath();
      values.forEach((value, at) => (at ? context.lineTo(x(hertz[at]), y(value)) : context.moveTo(x(hertz[at]), y(value))));
      context.stroke();
    });
    drawFrequencyAxis(context, x, [hertz[0], hertz.at(-1)], bottom, right);
  };
}

function drawFrequencyAxis(context, x, [lowest, highest], bottom, right) {
  context.fillStyle = tone("muted");
  context.strokeStyle = tone("line");
  context.textAlign = "center";
  context.textBaseline = "top";
  let before = -Infinity;
  const marks = MARKS.filter((mark) => mark * 1000 >= lowest && mark * 1000 <= highest);
  marks.forEach((mark, k) => {
    const at = x(mark * 1000);
    if (at - before < 34) return;
    before = at;
    context.beginPath();
    context.moveTo(at, bottom);
    context.lineTo(at, bottom + 4);
    context.stroke();
    context.fillText(k === marks.length - 1 ? `${mark} kHz` : `${mark}`, Math.min(at, right - 12), bottom + 6);
  });
}
