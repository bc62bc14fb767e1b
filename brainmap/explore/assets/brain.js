// The brain: a map to click, the scores of all layers there, and RDMs side by side.

import { ask, askBytes } from "./api.js";
import { fileName, fill, h, option, saveTable, write } from "./dom.js";
import { Figure, colorMap } from "./figures.js";
import { paintProfile, paintRdm, profileHeight } from "./profiles.js";

const SHOWN_FROM = 0.1; // share of the largest value of a map
let niivue = null; // the library, loaded once when a map is first wanted
let brain = null; // what the study holds

function loadNiivue() {
  niivue ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "/assets/niivue.js" });
    script.onload = () => resolve(window.niivue);
    script.onerror = () => reject(new Error("NiiVue, which nilearn’s wheel carries, was not found; maps cannot be drawn. Regions can be chosen by name."));
    document.head.append(script);
  });
  return niivue;
}

export class BrainView {
  constructor({ choice, number, names, keep }) {
    Object.assign(this, { choice, number, keep });
    this.figures = [];
    this.version = 0;
    this.element = h("section", { class: "view", "aria-label": names || "View" }, names ? h("h2", { class: "which" }, names) : null);
    this.controls = h("div", { class: "controls" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.canvas = h("canvas", { class: "slices", tabIndex: 0 });
    this.stage = h("div", { class: "stage" }, this.canvas);
    this.place = h("p", { class: "caption" });
    this.mapNote = h("p", { class: "caption" });
    this.mapCard = h("article", { class: "card wide" });
    this.scoreCard = h("article", { class: "card wide" });
    this.rdmCard = h("article", { class: "card wide" });
    this.element.append(this.controls, this.problem, h("div", { class: "cards" }, this.mapCard, this.scoreCard, this.rdmCard));
    this.open();
  }

  remove() {
    this.version += 1;
    this.figures.forEach((figure) => figure.remove());
    this.viewer?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  slot(name) { return `${this.number}.${name}`; }

  fail(error) {
    if (error.isStale || error.status === 0) return;
    this.problem.textContent = error.message;
    this.problem.hidden = false;
  }

  async load(work) {
    const version = this.version;
    try {
      const found = await work();
      return version === this.version ? found : null;
    } catch (error) {
      if (version === this.version) this.fail(error);
      return null;
    }
  }

  async open() {
    fill(this.mapCard, h("p", { class: "caption" }, "Opening the results …"));
    brain ??= await this.load(() => ask("brain"));
    if (!brain) return;
    const networks = [...new Set(brain.rdm_layers.map((one) => one.network))];
    if (!networks.includes(this.choice.network)) this.choice.network = networks[0];
    this.fixLayer();
    this.choice.stat ??= "mean";
    if (!this.choice.mm && !brain.regions.includes(this.choice.region)) this.choice.region = brain.regions[0];
    this.drawControls();
    this.buildCards();
    this.openScores();
    if (!brain.why) await this.openViewer();
  }

  layersOf(network) { return brain.rdm_layers.filter((one) => one.network === network).map((one) => one.layer); }

  fixLayer() {
    const layers = this.layersOf(this.choice.network);
    if (!layers.includes(this.choice.layer)) this.choice.layer = layers[0];
  }

  get hasMap() { return brain.maps.some((one) => one.network === this.choice.network && one.layer === this.choice.layer); }

  drawControls() {
    const { choice } = this;
    const field = (name, element) => { element.setAttribute("aria-label", name); return h("label", {}, h("span", {}, name), element); };
    const select = (key, options, then) => h("select", { onchange: (event) => { choice[key] = event.target.value; then(); this.keep(); } }, ...options);
    const networks = [...new Set(brain.rdm_layers.map((one) => one.network))];
    fill(this.controls,
      field("Network", select("network", networks.map((name) => option(name, name, name === choice.network)), () => { this.fixLayer(); this.drawControls(); this.changeLayer(); })),
      field("Layer", select("layer", this.layersOf(choice.network).map((name) => option(name, name, name === choice.layer)), () => this.changeLayer())),
      brain.why ? null : field("Map", select("stat", Object.entries(brain.stats).map(([key, words]) => option(key, words, key === choice.stat)), () => this.openMap())),
      field("Region", select("region", [option("", "choose a region", !choice.region), ...brain.regions.map((name) => option(name, name, name === choice.region))], () => this.chooseRegion())),
    );
  }

  buildCards() {
    if (brain.why) {
      fill(this.mapCard, h("div", { class: "card-head" }, h("h3", {}, "Map")), h("p", { class: "caption" }, `There is no map to click, because ${brain.why}. Regions can be chosen by name.`));
    } else {
      const save = h("span", { class: "downloads" }, h("button", { type: "button", class: "quiet", onclick: () => this.saveMap() }, "PNG"), h("button", { type: "button", class: "quiet", onclick: () => this.saveVolume() }, "NIfTI"));
      this.mapTitle = h("h3", {}, "Map");
      fill(this.mapCard, h("div", { class: "card-head" }, this.mapTitle, save), this.stage, this.place, this.mapNote);
    }
    fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, "Scores")), h("p", { class: "caption" }, "Click a voxel of the map, or choose a region: the scores of every layer there appear here."));
    fill(this.rdmCard, h("div", { class: "card-head" }, h("h3", {}, "RDMs")), h("p", { class: "caption" }, "Of a region and the chosen layer, side by side."));
  }

  // --- the map

  async openViewer() {
    const library = await this.load(loadNiivue);
    if (!library) return;
    this.viewer = new library.Niivue({
      show3Dcrosshair: true, crosshairWidth: 0.5, crosshairColor: [0.36, 0.75, 0.83, 1], isColorbar: true, dragAndDropEnabled: false, loadingText: "", logLevel: "silent",
      backColor: [0, 0, 0, 1], fontSizeScaling: 0.4, isRadiologicalConvention: false, isNearestInterpolation: true, sagittalNoseLeft: false,
      onLocationChange: (place) => this.hear(place),
    });
    try {
      await this.viewer.attachToCanvas(this.canvas);
    } catch (error) {
      this.fail(new Error(`This browser cannot draw the map (WebGL 2 is needed: ${error.message}). Regions can be chosen by name.`));
      return;
    }
    this.viewer.opts.multiplanarForceRender = true;
    this.viewer.setSliceType(this.viewer.sliceTypeMultiplanar);
    this.canvas.addEventListener("pointerup", () => this.choosePlace());
    this.canvas.addEventListener("keyup", () => this.choosePlace());
    await this.openMap();
    const start = this.choice.mm ? this.choice.mm.split(",").map(Number) : brain.places[this.choice.region];
    if (start) this.moveTo(start);
  }

  async openMap() {
    if (!this.viewer) return;
    const { network, layer, stat } = this.choice;
    this.mapTitle.textContent = `${brain.stats[stat]}: ${layer} of ${network}`;
    const version = this.mapVersion = (this.mapVersion ?? 0) + 1;
    const volumes = [];
    if (brain.template) {
      this.template ??= await this.load(() => askBytes("background"));
      if (this.template) volumes.push({ blob: this.template, name: "template.nii.gz", colormap: "gray", opacity: 1, show: false });
    }
    if (this.hasMap) {
      const found = await this.load(() => askBytes("brainmap", { network, layer, stat }, this.slot("brainmap")));
      if (!found || version !== this.mapVersion) return;
      this.volume = found;
      volumes.push({ blob: found, name: "map.nii.gz", colormap: "score", opacity: 0.9, show: true });
    } else {
      this.volume = null;
    }
    this.mapNote.textContent = this.hasMap ? "" : `The study maps no ${layer} of ${network} over the group (controls and baselines are mapped for each participant only); its scores are in the profile below.`;
    try {
      await this.showVolumes(volumes);
    } catch (error) {
      this.fail(error);
    }
  }

  async showVolumes(volumes) {
    const viewer = this.viewer;
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    const NVImage = window.niivue.NVImage;
    viewer.addColormap("score", colorMap("activation", 0.3));
    for (const { blob, name, colormap, opacity, show } of volumes) {
      const image = await NVImage.loadFromFile({ file: new File([blob], name), name, colormap: "gray", opacity });
      image.colorbarVisible = show;
      viewer.addVolume(image);
      const added = viewer.volumes.at(-1);
      if (show) this.setScale(added, colormap); else [added.cal_min, added.cal_max] = [40, 255];
    }
    viewer.updateGLVolume();
    this.canvas.setAttribute("aria-label", `${this.mapTitle.textContent}, from ${write(this.scale?.[0])} to ${write(this.scale?.[1])}; slices through the chosen voxel`);
    this.canvas.setAttribute("role", "img");
  }

  /** Only what is above a threshold is drawn: all that is positive, t above 0, and corrected p below .05. */
  setScale(image, colormap) {
    const { stat } = this.choice;
    const values = image.img;
    let most = 0;
    for (const value of values) if (value > most) most = value;
    this.scale = stat === "pfwe" ? [0.95, 1] : [0, most || 1];
    image.colormap = colormap; // this sets the limits, which are then set again
    [image.cal_min, image.cal_max] = stat === "pfwe" ? this.scale : [this.scale[1] * SHOWN_FROM, this.scale[1]];
    this.mapNote.textContent = stat === "pfwe" ? "Drawn where corrected p is below .05." : `Drawn where it is above ${100 * SHOWN_FROM} % of its largest value, ${write(most)}.`;
  }

  hear(place) {
    this.here = Array.from(place.mm).slice(0, 3).map((one) => Math.round(one * 10) / 10);
    this.place.textContent = `At ${this.here.map((one) => write(one)).join(", ")} mm (x, y, z; right, front and up are positive).`;
  }

  moveTo(mm) {
    const viewer = this.viewer;
    viewer.scene.crosshairPos = viewer.mm2frac(mm);
    viewer.drawScene();
    this.hear({ mm });
  }

  choosePlace() {
    if (!this.here) return;
    const text = this.here.join(",");
    if (text === this.choice.mm) return;
    this.choice.mm = text;
    this.choice.region = "";
    this.drawControls();
    this.openScores();
    this.keep();
  }

  saveMap() {
    if (!this.viewer) return;
    this.viewer.drawScene();
    this.canvas.toBlob((blob) => this.saveBlob(blob, ".png"));
  }

  saveVolume() { if (this.volume) this.saveBlob(this.volume, ".nii.gz"); }

  saveBlob(blob, ending) {
    const link = h("a", { href: URL.createObjectURL(blob), download: fileName(this.choice.network, this.choice.layer, this.choice.stat) + ending });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // --- scores and RDMs

  changeLayer() {
    this.problem.hidden = true;
    this.openMap();
    this.drawScores();
    this.openRdms();
  }

  chooseRegion() {
    this.choice.mm = "";
    const place = brain.places[this.choice.region];
    if (place && this.viewer) this.moveTo(place);
    this.openScores();
  }

  async openScores() {
    this.problem.hidden = true;
    const { region, mm } = this.choice;
    if (!region && !mm) return;
    const found = await this.load(() => (region ? ask("region", { region }, this.slot("score")) : ask("voxel", { mm }, this.slot("score"))));
    if (!found) return;
    this.found = found;
    this.drawScores();
    this.openRdms();
  }

  drawScores() {
    const { found } = this;
    if (!found) return;
    this.dropFigures();
    const where = found.what === "voxel" ? `Voxel at ${found.mm.map((one) => write(one)).join(", ")} mm${found.region ? `, in ${found.region}` : ""}` : `Region ${found.region}`;
    const notes = (found.notes ?? []).map((note) => h("p", { class: "caption" }, note));
    const rows = found.rows.map((row) => [row.network, row.layer, row.kind, row.mean, row.error, row.n, row.p]);
    const save = h("button", { type: "button", class: "quiet", onclick: () => saveTable(["network", "layer", "kind", "mean", "standard_error", "n", "p_corrected"], rows, fileName(where)) }, "TSV");
    if (!found.rows.length) {
      fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, where)), ...notes);
      return;
    }
    const families = [...new Set(found.rows.filter((row) => row.kind === "network").map((row) => row.of))];
    const panels = families.map((name) => {
      const figure = new Figure({ name: () => fileName(where, name, "profile"), height: profileHeight });
      this.figures.push(figure);
      const mine = found.rows.filter((row) => row.of === name && row.kind === "network" && row.mean !== null);
      const best = mine.reduce((one, other) => (one && one.mean >= other.mean ? one : other), null);
      figure.show(paintProfile(found, name, this.choice), {
        label: best ? `${found.measure} of ${name} in ${where}: highest at ${best.layer}, ${write(best.mean)}` : `${name}: no score here`,
        table: () => [["network", "layer", "kind", "mean", "standard_error", "n", "p_corrected"], rows],
      });
      return h("figure", {}, h("figcaption", {}, h("b", {}, name), figure.downloads()), figure.frame);
    });
    fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, where), h("span", { class: "downloads" }, save)),
      h("p", { class: "caption" }, `${found.measure}, mean of ${found.participants} participants and its standard error. Gray: controls. Dashed: acoustic models. Band: noise ceiling${found.ceiling ? ` (${write(found.ceiling[0])} to ${write(found.ceiling[1])})` : " (none here)"}. Filled: corrected p below .05.`),
      h("div", { class: families.length > 1 ? "pair" : "" }, ...panels), ...notes);
  }

  dropFigures() {
    this.figures.forEach((figure) => figure.remove());
    this.figures = [];
    this.rdmFigures = [];
  }

  async openRdms() {
    const region = this.choice.region || this.found?.region;
    const head = (...more) => h("div", { class: "card-head" }, h("h3", {}, "RDMs"), ...more);
    if (!region) { fill(this.rdmCard, head(), h("p", { class: "caption" }, "This voxel lies in no region of the study, so there is no RDM beside that of the layer.")); return; }
    const { network, layer } = this.choice;
    const found = await this.load(() => ask("rdms", { region, network, layer }, this.slot("rdms")));
    if (!found) return;
    (this.rdmFigures ?? []).forEach((figure) => { figure.remove(); this.figures.splice(this.figures.indexOf(figure), 1); });
    this.rdmFigures = [];
    const panel = (what, values, words) => {
      const figure = new Figure({ name: () => fileName(network, layer, region, what), height: 300 });
      this.figures.push(figure);
      this.rdmFigures.push(figure);
      figure.show(paintRdm(values), {
        label: `RDM of ${words} over ${found.labels.length} items`,
        table: () => [["item", ...found.labels], found.labels.map((label, k) => [label, ...values.data.slice(k * found.labels.length, (k + 1) * found.labels.length)])],
      });
      const tip = h("p", { class: "caption tip" }, "Point at a pair to read it.");
      figure.canvas.addEventListener("pointermove", (event) => {
        const at = figure.paint.find?.(event.offsetX, event.offsetY);
        tip.textContent = at ? `${found.labels[at[0]]} and ${found.labels[at[1]]}: ${write(values.data[at[0] * found.labels.length + at[1]])}` : "Point at a pair to read it.";
      });
      return h("figure", {}, h("figcaption", {}, h("b", {}, words), figure.downloads()), figure.frame, tip);
    };
    fill(this.rdmCard, head(),
      h("p", { class: "caption" }, `Dissimilarities as ranks, with strong colors where two ${brain.level === "condition" ? "conditions" : "sounds"} are alike. ${layer}: ${found.dissimilarity[0]}. ${region}: ${found.dissimilarity[1]}, mean of ${found.participants} participants.`),
      h("div", { class: "pair" }, panel("layer", found.layer, `${layer} of ${network}`), panel("region", found.region, region)),
      ...(found.notes ?? []).map((note) => h("p", { class: "caption" }, note)));
  }
}
