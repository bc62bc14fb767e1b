// The chosen unit (its answer, filter, favorite sounds) and the nearest sounds.

import { ask } from "./api.js";
import { fileName, fill, h, saveTable, write } from "./dom.js";
import { paintLine, paintPlane } from "./figures.js";
import { playOnce } from "./sounds.js";

export function makeExtras(view) {
  const unitCard = h("article", { class: "card" });
  const nearCard = h("article", { class: "card" });
  const planeCard = h("article", { class: "card wide" });
  let figures = [];
  let planeFigure = null;

  function figure(given) {
    const made = view.figure(given);
    figures.push(made);
    return made;
  }

  const player = (label, command, given) => h("button", {
    type: "button", class: "play tiny", "aria-label": `Play ${label}`, onclick: () => playOnce(command, given).catch((error) => view.fail(error)),
  }, "▶");

  function soundButton(id, condition) {
    const words = condition === id ? id : `${id} (${condition})`;
    return h("button", { type: "button", class: "text", title: "Look at this sound", onclick: () => { view.choice.sound = id; view.drawControls(); view.openSound(); } }, words);
  }

  async function openNeighbors() {
    const { network, sound, layer } = view.choice;
    const head = (save) => h("div", { class: "card-head" }, h("h3", {}, "Nearest sounds"), save);
    fill(nearCard, head(null), h("p", { class: "caption" }, "…"));
    const found = await view.load(() => ask("neighbors", { network, sound, layer }, view.slot("neighbors")));
    if (!found) { fill(nearCard, head(null), h("p", { class: "caption" }, "No neighbors to show.")); return; }
    const list = (rows) => h("ol", { class: "sounds" }, ...rows.map((row) => h("li", {},
      player(row.id, "audio", { network, sound: row.id }), soundButton(row.id, row.condition),
      row.same ? h("span", { class: "same", title: "of the same condition" }, "●") : null, h("span", { class: "value" }, write(row.distance)))));
    const rows = [...found.layer.map((row, k) => [layer, k + 1, row.id, row.condition, row.distance]), ...found.waveform.map((row, k) => ["waveform", k + 1, row.id, row.condition, row.distance])];
    const save = h("button", { type: "button", class: "quiet", onclick: () => saveTable(["space", "rank", "sound", "condition", "distance"], rows, fileName(network, view.soundName, "neighbors")) }, "TSV");
    fill(nearCard, head(h("span", { class: "downloads" }, save)),
      h("p", { class: "caption" }, `By 1 − correlation; activations are taken by "${found.pooling}" over time. A dot: same condition.`),
      h("div", { class: "pair" },
        h("div", {}, h("h4", {}, `In ${layer}`), list(found.layer)),
        h("div", {}, h("h4", {}, "As waveforms"), found.waveform.length ? list(found.waveform) : h("p", { class: "caption" }, ...(found.notes ?? [])))));
  }

  async function openPlane() {
    planeFigure?.remove();
    if (planeFigure) view.figures.splice(view.figures.indexOf(planeFigure), 1);
    planeFigure = null;
    const { network, layer, plane } = view.choice;
    const menu = h("select", { "aria-label": "Plane", onchange: (event) => { view.choice.plane = event.target.value; view.keep(); openPlane(); } },
      ...[["", "not shown"], ["pca", "principal components"], ["tsne", "t-SNE"]].map(([value, words]) => h("option", { value, selected: value === (plane ?? "") }, words)));
    const head = (save) => h("div", { class: "card-head" }, h("h3", {}, "All sounds in a plane"), menu, save);
    if (!plane) {
      fill(planeCard, head(null), h("p", { class: "caption" }, `By their activations in ${layer}; a point plays its sound.`));
      return;
    }
    fill(planeCard, head(null), h("p", { class: "caption" }, "…"));
    const found = await view.load(() => ask("embedding", { network, layer, method: plane }, view.slot("embedding")));
    if (!found) { fill(planeCard, head(null), h("p", { class: "caption" }, "There is no plane to show.")); return; }
    const made = view.figure({ name: () => fileName(network, layer, plane), height: 420 });
    planeFigure = made;
    const rows = found.items.map((item, k) => [item, found.conditions[k], found.points.data[2 * k], found.points.data[2 * k + 1]]);
    const show = () => made.show(paintPlane(found, view.choice.sound), {
      label: `${found.items.length} sounds in a plane by their activations in ${layer}: ${found.axes.join(", ")}`,
      table: () => [["sound", "condition", "x1", "x2"], rows],
    });
    show();
    const tip = h("p", { class: "caption tip" }, "Point at a sound to read its name; press to hear it.");
    const find = (event) => made.paint.find(event.offsetX, event.offsetY);
    made.canvas.addEventListener("pointermove", (event) => {
      const at = find(event);
      made.canvas.style.cursor = at === null ? "" : "pointer";
      if (at !== null) fill(tip, `${found.items[at]} (${found.conditions[at]})`);
    });
    made.canvas.addEventListener("click", (event) => {
      const at = find(event);
      if (at === null) return;
      fill(tip, soundButton(found.items[at], found.conditions[at]));
      playOnce("audio", { network, sound: found.items[at] }).catch((error) => view.fail(error));
    });
    const extra = found.perplexity ? `, perplexity ${write(found.perplexity)}` : "";
    const mine = found.items.includes(view.choice.sound) ? " The ring is the chosen sound." : " A dropped or recorded sound is not among them.";
    fill(planeCard, head(made.downloads()), made.frame, tip,
      h("p", { class: "caption" }, `Activations of ${layer} ("${found.pooling}" over time), z-scored over sounds${extra}. Trustworthiness ${write(found.trustworthiness)}: 1 where all ${found.n_neighbors} neighbors in the plane are neighbors in the layer.${mine}`, ...(found.notes ?? []).map((note) => ` Note: ${note}.`)));
  }

  async function openUnit() {
    figures.forEach((one) => { one.remove(); view.figures.splice(view.figures.indexOf(one), 1); });
    figures = [];
    const { network, sound, layer, unit } = view.choice;
    if (unit === undefined || unit === "") {
      fill(unitCard, h("div", { class: "card-head" }, h("h3", {}, "Unit")), h("p", { class: "caption" }, "Choose a unit of the layer above, or press a row of a strip: its answer to this sound, its filter and its favorite sounds appear here."));
      return;
    }
    const title = `Unit ${unit} of ${layer}`;
    fill(unitCard, h("div", { class: "card-head" }, h("h3", {}, title)), h("p", { class: "caption" }, "…"));
    const answer = await view.load(() => ask("unit", { network, sound, layer, unit }, view.slot("unit")));
    if (!answer) return;
    const parts = [drawAnswer(answer, title)];
    fill(unitCard, h("div", { class: "card-head" }, h("h3", {}, title)), ...parts, h("p", { class: "caption" }, "Looking for its favorite sounds …"));
    const found = await view.load(() => ask("favorites", { network, layer, unit }, view.slot("favorites")));
    if (!found || view.choice.unit !== unit || view.choice.layer !== layer) return;
    fill(unitCard, h("div", { class: "card-head" }, h("h3", {}, title)), ...parts, ...drawFilter(found.filter), ...drawFavorites(found));
  }

  function drawAnswer(answer, title) {
    const values = [...answer.values.data];
    if (values.length === 1) return h("p", {}, `Its activation is ${write(values[0])}; it has no time.`);
    const made = figure({ name: () => fileName(view.choice.network, view.soundName, view.choice.layer, view.choice.unit), height: 110 });
    const [least, most] = [Math.min(0, ...values), Math.max(...values)];
    const at = (k) => (answer.step === null ? null : answer.start + k * answer.step);
    made.show(paintLine(values, { ...answer, seconds: view.sound.seconds, least, most }), {
      label: `${title}: activation to ${view.soundName}, at most ${write(answer.largest)}`,
      table: () => [["second", "activation"], values.map((value, k) => [at(k), value])],
    });
    return h("figure", {}, h("figcaption", {}, `Activation to ${view.soundName}`, made.downloads()), made.frame);
  }

  function drawFilter(filter) {
    if (!filter) return [];
    const kernel = [...filter.kernel.data];
    const size = Math.max(...kernel.map(Math.abs)) || 1;
    const made = figure({ name: () => fileName(view.choice.network, view.choice.layer, view.choice.unit, "filter"), height: 100 });
    const seconds = kernel.length / filter.rate;
    made.show(paintLine(kernel, { start: 0, step: 1 / filter.rate, seconds, least: -size, most: size }), {
      label: `Filter: ${filter.shape}, best at ${write(filter.best)} Hz`,
      table: () => [["second", "weight"], kernel.map((value, k) => [k / filter.rate, value])],
    });
    return [h("figure", {}, h("figcaption", {}, `Filter: ${filter.shape}, best at ${write(filter.best)} Hz`, made.downloads()), made.frame)];
  }

  function drawFavorites({ exemplars, plays, pattern }) {
    const { network, layer, unit } = view.choice;
    const made = [];
    if (pattern) made.push(h("p", { class: "row" }, player("the maximizing sound", "pattern", { network, layer, unit }), h("span", {}, `A sound that the study made to maximize it (${pattern})`)));
    if (!exemplars.length) return [...made, h("p", { class: "caption" }, "No sound drives this unit.")];
    const rows = exemplars.map((row, rank) => h("li", {},
      plays ? player(`favorite ${rank + 1}`, "crop", { network, layer, unit, rank }) : player(row.id, "audio", { network, sound: row.id }),
      soundButton(row.id, row.condition), h("small", {}, Number.isFinite(row.start) && row.start !== null ? `${write(Math.max(0, row.start), 4)} to ${write(row.end, 4)} s` : ""), h("span", { class: "value" }, write(row.value))));
    const save = h("button", { type: "button", class: "quiet", onclick: () => saveTable(["rank", "sound", "condition", "start_s", "end_s", "activation"], exemplars.map((row, k) => [k + 1, row.id, row.condition, row.start, row.end, row.value]), fileName(network, layer, unit, "favorites")) }, "TSV");
    return [...made, h("h4", {}, "Favorite sounds ", h("span", { class: "downloads" }, save)), h("ol", { class: "sounds" }, ...rows),
      h("p", { class: "caption" }, plays ? "The receptive field where it is most active; a short one is repeated when it plays." : "The sounds where it is most active.")];
  }

  return {
    elements: [unitCard, nearCard, planeCard],
    async open() {
      if (!view.network) return;
      await openUnit();
      await openNeighbors();
      await openPlane();
    },
  };
}
