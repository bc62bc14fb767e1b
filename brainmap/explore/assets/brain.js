// The brain: a map to press, the scores of all layers there, RDMs side by side, and what a region is predicted to want.

import { ask, askBytes } from "./api.js";
import { fileName, fill, h, option, saveTable, write } from "./dom.js";
import { findVertex } from "./mesh.js";
import { hasPanel, paintProfile, paintRdm, profileHeight } from "./profiles.js";
import { Cortex, Slices } from "./stages.js";
import { View } from "./view.js";
import { WantedCard } from "./wanted.js";

const known = new Map(); // what the study holds of the group and of each participant
const backgrounds = new Map();

export class BrainView extends View {
  constructor(given) {
    super(given);
    this.profileFigures = [];
    this.rdmFigures = [];
    this.place = h("p", { class: "caption", "aria-live": "polite" });
    this.mapNote = h("p", { class: "caption" });
    this.mapCard = h("article", { class: "card wide" });
    this.scoreCard = h("article", { class: "card wide" });
    this.rdmCard = h("article", { class: "card wide" });
    this.wanted = new WantedCard(this);
    this.cards.append(this.mapCard, this.scoreCard, this.rdmCard, this.wanted.element);
    this.open();
  }

  remove() {
    super.remove();
    this.stage?.remove();
  }

  /** Open what the study holds of the chosen participant, or of the group. */
  async open() {
    this.version += 1;
    this.stage?.remove();
    this.stage = null;
    fill(this.mapCard, h("p", { class: "caption" }, "Opening the results …"));
    const person = this.choice.person ?? "";
    if (!known.has(person)) {
      const found = await this.load(() => ask("brain", { person }, this.slot("brain")));
      if (!found) return;
      known.set(person, found);
    }
    const { choice } = this;
    this.brain = known.get(person);
    const networks = this.listNetworks();
    if (!networks.includes(choice.network)) choice.network = networks[0];
    this.fixLayer();
    if (!(choice.stat in this.brain.stats)) choice.stat = Object.keys(this.brain.stats)[0];
    if (!this.chosenPlace && !this.brain.regions.includes(choice.region)) choice.region = this.brain.regions[0];
    this.drawControls();
    this.buildCards();
    this.openScores();
    this.keep();
    if (!this.brain.why) await this.openStage();
  }

  get person() { return this.choice.person ?? ""; }

  /** The chosen voxel [mm] or vertex, by what the maps are. */
  get chosenPlace() { return this.brain.surface ? this.choice.vertex : this.choice.mm; }

  set chosenPlace(place) {
    this.choice.mm = this.brain.surface ? "" : place;
    this.choice.vertex = this.brain.surface ? place : "";
  }

  listNetworks() { return [...new Set(this.brain.rdm_layers.map((one) => one.network))]; }

  layersOf(network) { return this.brain.rdm_layers.filter((one) => one.network === network).map((one) => one.layer); }

  fixLayer() {
    const layers = this.layersOf(this.choice.network);
    if (!layers.includes(this.choice.layer)) this.choice.layer = layers[0];
  }

  get hasMap() { return this.brain.maps.some((one) => one.network === this.choice.network && one.layer === this.choice.layer); }

  drawControls() {
    const { brain, choice } = this;
    const options = (names, chosen) => names.map((name) => option(name, name, name === chosen));
    const people = [option("", `mean of ${brain.people.length}`, !choice.person), ...brain.people.map((name) => option(name, `participant ${name}`, name === choice.person))];
    this.fillControls(
      this.field("Network", this.select("network", options(this.listNetworks(), choice.network), this.changeNetwork)),
      this.field("Layer", this.select("layer", options(this.layersOf(choice.network), choice.layer), this.changeLayer)),
      this.field("Whose", this.select("person", people, this.changePerson)),
      brain.why || choice.person ? null : this.field("Map", this.select("stat", Object.entries(brain.stats).map(([key, words]) => option(key, words, key === choice.stat)), this.openMap)),
      brain.why ? null : this.placeField(),
      this.field("Region", this.select("region", [option("", "choose a region", !choice.region), ...options(brain.regions, choice.region)], this.chooseRegion)),
    );
  }

  /** Any place by its name: so it can be chosen without a pointer. */
  placeField() {
    const [name, example] = this.brain.surface ? ["Vertex", "left:0"] : ["Voxel at [mm]", "x, y, z"];
    const value = this.brain.surface ? this.chosenPlace : (this.chosenPlace ?? "").replaceAll(",", ", ");
    return this.field(name, h("input", { type: "text", value: value ?? "", placeholder: example, autocomplete: "off", onchange: (event) => this.typePlace(event.target.value) }));
  }

  typePlace(text) {
    const place = text.replaceAll("−", "-").replace(/\s+/g, "");
    const { surface } = this.brain;
    const known = surface ? !this.stage?.mesh || findVertex(this.stage.mesh, place) !== null : /^(-?\d+(\.\d+)?,){2}-?\d+(\.\d+)?$/.test(place);
    if (!known) {
      this.fail(new Error(surface ? `Expected a vertex of this mesh, such as left:0, got ${text}.` : `Expected x, y, z in mm, got ${text}.`));
      return;
    }
    this.choosePlace(place);
    this.stage?.moveTo(place);
  }

  buildCards() {
    const { brain } = this;
    if (brain.why) {
      fill(this.mapCard, h("div", { class: "card-head" }, h("h3", {}, "Map")), h("p", { class: "caption" }, `There is no map to click, because ${brain.why}. Regions can be chosen by name.`));
    } else {
      const given = { tell: (words) => { this.place.textContent = words; }, choose: (place) => this.choosePlace(place), name: () => fileName(this.choice.network, this.choice.layer, this.choice.person, this.choice.stat) };
      this.stage = brain.surface ? new Cortex({ ...given, figure: (about) => this.figure(about), choice: this.choice, keep: this.keep }) : new Slices(given);
      this.mapTitle = h("h3", {}, "Map");
      this.place.textContent = "";
      this.mapNote.textContent = "";
      fill(this.mapCard, h("div", { class: "card-head" }, this.mapTitle, h("span", { class: "downloads" }, ...this.stage.buttons)), this.stage.element, this.place, this.mapNote);
    }
    fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, "Scores")), h("p", { class: "caption" }, "Click the map, or choose a region: the scores of every layer there appear here."));
    fill(this.rdmCard, h("div", { class: "card-head" }, h("h3", {}, "RDMs")), h("p", { class: "caption" }, "Of a region and the chosen layer, side by side."));
  }

  // --- the map

  async openStage() {
    const { stage } = this;
    try {
      await stage.open();
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.stage !== stage) return;
    const start = this.chosenPlace || this.brain.places[this.choice.region];
    if (this.brain.surface && start) stage.moveTo(start);
    await this.openMap();
    if (this.stage === stage && !this.brain.surface && start) stage.moveTo(start);
  }

  async openMap() {
    const { stage, brain } = this;
    if (!stage) return;
    const { network, layer, stat } = this.choice;
    const person = this.person;
    const title = `${brain.stats[stat]}${person ? ` ${person}` : ""}: ${layer} of ${network}`;
    this.mapTitle.textContent = title[0].toUpperCase() + title.slice(1);
    const version = this.mapVersion = (this.mapVersion ?? 0) + 1;
    const background = await this.loadBackground();
    const ask_ = brain.surface ? ask : askBytes;
    const map = this.hasMap ? await this.load(() => ask_("brainmap", { network, layer, stat, person }, this.slot("brainmap"))) : null;
    if (version !== this.mapVersion || stage !== this.stage || (this.hasMap && !map) || (brain.surface && !background)) return;
    let words = "";
    try {
      words = await stage.show({ map, background, backgroundIs: brain.background, stat, title });
    } catch (error) {
      this.fail(error);
    }
    const lacks = this.hasMap ? "" : `There is no map of ${layer} of ${network}${person ? "" : " over the group (controls are mapped for each participant only: choose whose)"}; its scores are in the profile below. `;
    const gray = { mask: `the mask of participant ${person || brain.people[0]}`, scored: "the voxels that have a score" }[brain.background];
    const why = brain.ground ? `. ${brain.ground}` : `; no template of ${brain.space} is at hand.`;
    const ground = gray ? ` Gray: ${gray}${why}` : "";
    this.mapNote.textContent = `${lacks}${words}${ground}`;
  }

  async loadBackground() {
    const { brain } = this;
    const key = brain.background === "template" ? "template" : this.person;
    if (!brain.surface && !brain.background) return null;
    if (!backgrounds.has(key)) {
      const found = await this.load(() => (brain.surface ? ask("mesh", { person: this.person }) : askBytes("background", { person: this.person })));
      if (!found) return null;
      backgrounds.set(key, brain.surface ? { ...found, points: found.points.data, triangles: found.triangles.data } : found);
    }
    return backgrounds.get(key);
  }

  choosePlace(place) {
    if (!place || place === this.chosenPlace) return;
    this.chosenPlace = place;
    this.choice.region = "";
    this.drawControls();
    this.openScores();
    this.keep();
  }

  // --- scores and RDMs

  changeNetwork() {
    this.fixLayer();
    this.drawControls();
    this.changeLayer();
  }

  changeLayer() {
    this.problem.hidden = true;
    this.openMap();
    this.drawScores();
    this.openRdms();
  }

  changePerson() {
    this.chosenPlace = ""; // a place of one brain is no place of another
    this.choice.region ||= this.found?.region ?? "";
    this.open();
  }

  chooseRegion() {
    this.chosenPlace = "";
    this.choice.wanted = "";
    this.drawControls();
    const place = this.brain.places[this.choice.region];
    if (place) this.stage?.moveTo(place);
    this.openScores();
  }

  async openScores() {
    this.problem.hidden = true;
    const { choice, person } = this;
    const region = choice.region;
    const place = this.chosenPlace;
    if (!region && !place) return;
    const [command, given] = region ? ["region", { region }] : this.brain.surface ? ["vertex", { vertex: place }] : ["voxel", { mm: place }];
    const found = await this.load(() => ask(command, { ...given, person }, this.slot("score")));
    if (!found) return;
    this.found = found;
    this.drawScores();
    this.openRdms();
    this.wanted.open();
  }

  get where() {
    const { found } = this;
    const inside = found.region ? `, in ${found.region}` : "";
    const mm = found.mm?.map((one) => write(one)).join(", ");
    if (found.what === "voxel") return `Voxel at ${mm} mm${inside}`;
    return found.what === "vertex" ? `Vertex ${found.vertex} at ${mm} mm${inside}` : `Region ${found.region}`;
  }

  drawScores() {
    const { found } = this;
    if (!found) return;
    this.profileFigures = this.drop(this.profileFigures);
    const { where } = this;
    const notes = (found.notes ?? []).map((note) => h("p", { class: "caption" }, note));
    const columns = ["network", "layer", "kind", "mean", "standard_error", "n", "p_corrected"];
    const rows = found.rows.map((row) => [row.network, row.layer, row.kind, row.mean, row.error, row.n, row.p]);
    const save = h("button", { type: "button", class: "quiet", onclick: () => saveTable(columns, rows, fileName(where, this.person)) }, "TSV");
    if (!found.rows.length) {
      fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, where)), ...notes);
      return;
    }
    const families = [...new Set(found.rows.filter((row) => hasPanel(row.kind)).map((row) => row.of))];
    const panels = families.map((name) => {
      const figure = this.figure({ name: () => fileName(where, name, this.person, "profile"), height: profileHeight });
      this.profileFigures.push(figure);
      const mine = found.rows.filter((row) => row.of === name && hasPanel(row.kind) && row.mean !== null);
      const best = mine.reduce((one, other) => (one && one.mean >= other.mean ? one : other), null);
      figure.show(paintProfile(found, name, this.choice), {
        label: best ? `${found.measure} of ${name} in ${where}: highest at ${best.layer}, ${write(best.mean)}` : `${name}: no score here`,
        table: () => [columns, rows],
      });
      return h("figure", {}, h("figcaption", {}, h("b", {}, name), figure.downloads()), figure.frame);
    });
    const of = this.person ? `${found.measure} of participant ${this.person}` : `${found.measure}, mean of ${found.participants} participants and its standard error`;
    const band = found.ceiling ? ` Band: noise ceiling (${write(found.ceiling[0])} to ${write(found.ceiling[1])}).` : "";
    const has = (what) => found.rows.some(({ kind }) => (what === "control" ? !["network", "baseline", "hypothesis"].includes(kind) : kind === what));
    const tested = found.rows.some((row) => row.p !== null) ? " Filled: corrected p below .05." : " Nothing is tested here.";
    fill(this.scoreCard, h("div", { class: "card-head" }, h("h3", {}, where), h("span", { class: "downloads" }, save)),
      h("p", { class: "caption" }, `${of}.${has("control") ? " Gray: controls." : ""}${has("baseline") ? " Dashed: acoustic models." : ""}${band}${tested}`),
      h("div", { class: families.length > 1 ? "pair" : "" }, ...panels), ...notes);
  }

  async openRdms() {
    const region = this.choice.region || this.found?.region;
    const head = (...more) => h("div", { class: "card-head" }, h("h3", {}, "RDMs"), ...more);
    if (!region) { fill(this.rdmCard, head(), h("p", { class: "caption" }, "This place lies in no region of the study, so there is no RDM beside that of the layer.")); return; }
    const { network, layer } = this.choice;
    const found = await this.load(() => ask("rdms", { region, network, layer, person: this.person }, this.slot("rdms")));
    if (!found) return;
    this.rdmFigures = this.drop(this.rdmFigures);
    const n = found.labels.length;
    const panel = (what, values, words) => {
      const figure = this.figure({ name: () => fileName(network, layer, region, this.person, what), height: 300 });
      this.rdmFigures.push(figure);
      figure.show(paintRdm(values), {
        label: `RDM of ${words} over ${n} items`,
        table: () => [["item", ...found.labels], found.labels.map((label, k) => [label, ...values.data.slice(k * n, (k + 1) * n)])],
      });
      return { figure, element: h("figure", {}, h("figcaption", {}, h("b", {}, words), figure.downloads()), figure.frame) };
    };
    const whose = this.person ? `participant ${this.person}` : `mean of ${found.participants} participants`;
    const parts = [panel("layer", found.layer, `${layer} of ${network}`), panel("region", found.region, `${region}, ${whose}`)];
    const tip = h("p", { class: "caption tip" }, "Point at a pair to read it.");
    parts.forEach(({ figure }) => {
      const read = (event) => {
        const at = figure.paint.find(event.offsetX, event.offsetY);
        if (!at) return;
        const value = (values) => write(values.data[at[0] * n + at[1]]);
        fill(tip, `${found.labels[at[0]]} and ${found.labels[at[1]]}: ${value(found.layer)} in ${layer}, ${value(found.region)} in ${region}`);
      };
      figure.canvas.addEventListener("pointermove", read);
      figure.canvas.addEventListener("click", read);
    });
    fill(this.rdmCard, head(), h("p", { class: "caption" }, `Dissimilarities as ranks, with strong colors where two ${this.brain.level === "condition" ? "conditions" : "sounds"} are alike (${layer}: ${found.dissimilarity[0]}; ${region}: ${found.dissimilarity[1]}).`, ...(found.notes ?? []).map((note) => ` ${note}.`)),
      h("div", { class: "pair" }, ...parts.map((part) => part.element)), tip);
  }
}
