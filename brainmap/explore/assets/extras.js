// The nearest sounds, and all sounds in a plane; the card of the chosen unit stands before them.

import { ask } from "./api.js";
import { fileName, fill, h, saveTable, write } from "./dom.js";
import { paintPlane } from "./figures.js";
import { makePlayer, makeSoundButton, playOnce } from "./sounds.js";
import { UnitCard } from "./unit.js";

export function makeExtras(view) {
  const unit = new UnitCard(view);
  const nearCard = h("article", { class: "card" });
  const planeCard = h("article", { class: "card wide" });
  const player = (label, command, given) => makePlayer(view, label, command, given);
  const soundButton = (id, condition) => makeSoundButton(view, id, condition);
  let planeFigures = [];

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
    planeFigures = view.drop(planeFigures);
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
    planeFigures = [made];
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

  return {
    elements: [unit.element, nearCard, planeCard],
    async open() {
      if (!view.network) return;
      await unit.open();
      await openNeighbors();
      await openPlane();
      await unit.openRest();
    },
  };
}
