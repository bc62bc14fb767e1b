// The chosen unit: its answer to the sound, its filter, its tuning, its favorite sounds, and what drives it most.

import { ask } from "./api.js";
import { fileName, fill, h, option, saveTable, write } from "./dom.js";
import { heightOfSound, paintSound } from "./figures.js";
import { paintCurves, paintLine } from "./curves.js";
import { makePlayer, makeSoundButton } from "./sounds.js";

const STIMULI = { "": "not measured", tone: "with tones", noise: "with bands of noise" };
const FRAMES = {
  inside: "frames whose receptive field lies within the stimulus", centered: "frames centered in the stimulus", whole: "the whole stimulus (this layer has no frames in time)",
};

export class UnitCard {
  constructor(view) {
    this.view = view;
    this.element = h("article", { class: "card" });
    this.figures = [];
  }

  get given() {
    const { network, layer, unit } = this.view.choice;
    return { network, layer, unit };
  }

  get isChosen() { return this.view.choice.unit !== undefined && this.view.choice.unit !== ""; }

  head() { return h("div", { class: "card-head" }, h("h3", {}, this.isChosen ? `Unit ${this.given.unit} of ${this.given.layer}` : "Unit")); }

  figure(given) {
    const made = this.view.figure(given);
    this.figures.push(made);
    return made;
  }

  nameOf(...what) { return () => fileName(...Object.values(this.given), ...what); }

  async open() {
    const { view } = this;
    this.figures = view.drop(this.figures);
    if (!this.isChosen) {
      fill(this.element, this.head(), h("p", { class: "caption" }, "Choose a unit of the layer above, or press a row of a strip: its answer to this sound, its filter, its tuning and the sounds that drive it appear here."));
      return;
    }
    fill(this.element, this.head(), h("p", { class: "caption" }, "…"));
    const asked = JSON.stringify(this.given);
    const answer = await view.load(() => ask("unit", { ...this.given, sound: view.choice.sound }, view.slot("unit")));
    if (!answer) { fill(this.element, this.head(), h("p", { class: "caption" }, "There is no answer of this unit to show.")); return; }
    const parts = [this.drawAnswer(answer)];
    fill(this.element, this.head(), ...parts, h("p", { class: "caption" }, "Looking for its favorite sounds …"));
    const found = await view.load(() => ask("favorites", this.given, view.slot("favorites")));
    if (!found || asked !== JSON.stringify(this.given)) return;
    this.tuning = h("div", {});
    this.pattern = h("div", {});
    fill(this.element, this.head(), ...parts, ...this.drawFilter(found.filter), this.tuning, ...this.drawFavorites(found), this.pattern);
    this.hasPattern = Boolean(found.pattern);
    this.drawTuningMenu();
    if (!this.hasPattern) this.offerPattern();
  }

  /** What takes longer: the tuning, where it is asked for, and the sound that drives the unit. */
  async openRest() {
    if (!this.isChosen || !this.tuning?.isConnected) return;
    if (this.view.choice.tuning) await this.openTuning();
    if (this.hasPattern || this.view.choice.grown) await this.openPattern();
  }

  drawAnswer(answer) {
    const { view } = this;
    const values = [...answer.values.data];
    if (values.length === 1) return h("p", {}, `Its activation is ${write(values[0])}; it has no time.`);
    const made = this.figure({ name: () => fileName(view.choice.network, view.soundName, view.choice.layer, view.choice.unit), height: 110 });
    const [least, most] = [Math.min(0, ...values), Math.max(...values)];
    const at = (k) => (answer.step === null ? null : answer.start + k * answer.step);
    made.show(paintLine(values, { ...answer, seconds: view.sound.seconds, least, most }), {
      label: `Unit ${this.given.unit} of ${this.given.layer}: activation to ${view.soundName}, at most ${write(answer.largest)}`,
      table: () => [["second", "activation"], values.map((value, k) => [at(k), value])],
    });
    return h("figure", {}, h("figcaption", {}, `Activation to ${view.soundName}`, made.downloads()), made.frame);
  }

  drawFilter(filter) {
    if (!filter) return [];
    const kernel = [...filter.kernel.data];
    const size = Math.max(...kernel.map(Math.abs)) || 1;
    const seconds = kernel.length / filter.rate;
    const words = `Filter: ${filter.shape}, best at ${write(filter.best)} Hz`;
    const wave = this.figure({ name: this.nameOf("filter"), height: 100 });
    wave.show(paintLine(kernel, { start: 0, step: 1 / filter.rate, seconds, least: -size, most: size }), {
      label: words,
      table: () => [["second", "weight"], kernel.map((value, k) => [k / filter.rate, value])],
    });
    const gain = this.figure({ name: this.nameOf("gain"), height: 130 });
    gain.show(paintCurves([...filter.hertz.data], [{ values: [...filter.gain.data] }], { best: filter.best }), {
      label: `Gain of the filter over frequency, highest at ${write(filter.best)} Hz`,
      table: () => [["hertz", "gain"], [...filter.hertz.data].map((hertz, k) => [hertz, filter.gain.data[k]])],
    });
    return [h("figure", {}, h("figcaption", {}, words, wave.downloads()), wave.frame), h("figure", {}, h("figcaption", {}, "Its gain over frequency", gain.downloads()), gain.frame)];
  }

  drawTuningMenu(...more) {
    const { view } = this;
    const menu = h("select", { "aria-label": "Tuning", onchange: (event) => { view.choice.tuning = event.target.value; view.keep(); this.openTuning(); } },
      ...Object.entries(STIMULI).map(([key, words]) => option(key, words, key === (view.choice.tuning ?? ""))));
    return fill(this.tuning, h("h4", { class: "with-menu" }, "Tuning ", menu, ...more));
  }

  /** Tuning; all units of the layer are measured at once. */
  async openTuning() {
    const { view, tuning } = this;
    const stimulus = view.choice.tuning;
    const head = (...more) => this.drawTuningMenu(...more);
    if (!(stimulus in STIMULI) || !stimulus) { head(); return; }
    head().append(h("p", { class: "caption" }, "Playing …"));
    const found = await view.load(() => ask("tuning", { ...this.given, stimulus }, view.slot("tuning")));
    if (tuning !== this.tuning) return;
    if (!found) { head().append(h("p", { class: "caption" }, "There is no tuning to show.")); return; }
    const hertz = [...found.hertz.data];
    const curves = found.levels.map((level, k) => ({ values: [...found.curves.data.slice(k * hertz.length, (k + 1) * hertz.length)], name: `${write(level)} dB` }));
    const best = Number.isFinite(found.best) && found.best !== null ? `, best at ${write(found.best)} Hz` : "";
    const made = this.figure({ name: this.nameOf("tuning", stimulus), height: 160 });
    made.show(paintCurves(hertz, curves, { best: found.best }), {
      label: `Tuning of unit ${this.given.unit} of ${this.given.layer} measured ${STIMULI[stimulus]}: ${found.shape}${best}`,
      table: () => [["hertz", ...found.levels.map((level) => `response_at_${level}_dB`)], hertz.map((one, k) => [one, ...curves.map((curve) => curve.values[k])])],
    });
    head(made.downloads()).append(made.frame, h("p", { class: "caption" }, `${found.shape}${best}. Response less that to silence (${write(found.silence)}), mean over ${FRAMES[found.frames]}, at ${found.levels.map((level) => write(level)).join(", ")} dB of the level of sounds.`));
  }

  offerPattern() {
    const { view } = this;
    const press = () => { view.choice.grown = "1"; view.keep(); this.openPattern(); };
    fill(this.pattern, h("h4", {}, "What drives it most"), h("p", { class: "row" }, h("button", { type: "button", onclick: press }, "Make the sound"), h("small", {}, "by gradient ascent, some seconds")));
  }

  async openPattern() {
    const { view, pattern } = this;
    const head = (...more) => h("h4", { class: "with-menu" }, "What drives it most ", ...more);
    fill(pattern, head(), h("p", { class: "caption" }, "Growing the sound …"));
    let found;
    try {
      found = await ask("pattern", this.given, view.slot("unit")); // another unit takes its turn
    } catch (error) {
      if (error.isStale || pattern !== this.pattern) return;
      view.choice.grown = "";
      view.keep();
      this.offerPattern();
      if (error.status !== 410) pattern.append(h("p", { class: "caption" }, error.message));
      return;
    }
    if (pattern !== this.pattern) return;
    const { layer } = this.given;
    const made = this.figure({ name: this.nameOf("pattern"), height: heightOfSound(null) });
    made.show(paintSound(found, null, ""), {
      label: `Waveform and spectrogram of the sound that drives ${found.label}, ${write(found.gain)} times the best real sound`,
      table: () => [["second", "lowest", "highest"], [...found.low.data].map((low, k) => [(k / found.low.data.length) * found.seconds, low, found.high.data[k]])],
    });
    const how = { audio: "held to the spectrum of the sounds", decoder: "by the decoder of speech", none: "without a prior" }[found.prior];
    fill(pattern, head(made.downloads()), h("p", { class: "row" }, makePlayer(view, "what drives it most", "patternsound", this.given),
      h("span", {}, `${found.label}: reaches ${write(found.objective)}${layer === "output" ? "" : " on average over its frames"}, the best stretch of a real sound of that length ${write(found.best_clip)}`)), made.frame,
    h("p", { class: "caption" }, `${found.stored ? "From the study" : "Made now"}, ${how}; a short one is repeated when it plays.`));
  }

  drawFavorites({ exemplars, plays }) {
    const { view } = this;
    if (!exemplars.length) return [h("p", { class: "caption" }, "No sound drives this unit.")];
    const rows = exemplars.map((row, rank) => h("li", {},
      plays ? makePlayer(view, `favorite ${rank + 1}`, "crop", { ...this.given, rank }) : makePlayer(view, row.id, "audio", { network: this.given.network, sound: row.id }),
      makeSoundButton(view, row.id, row.condition), h("small", {}, Number.isFinite(row.start) && row.start !== null ? `${write(Math.max(0, row.start), 4)} to ${write(row.end, 4)} s` : ""), h("span", { class: "value" }, write(row.value))));
    const save = h("button", { type: "button", class: "quiet", onclick: () => saveTable(["rank", "sound", "condition", "start_s", "end_s", "activation"], exemplars.map((row, k) => [k + 1, row.id, row.condition, row.start, row.end, row.value]), this.nameOf("favorites")()) }, "TSV");
    return [h("h4", {}, "Favorite sounds ", h("span", { class: "downloads" }, save)), h("ol", { class: "sounds" }, ...rows),
      h("p", { class: "caption" }, plays ? "The receptive field where it is most active; a short one is repeated when it plays." : "The sounds where it is most active.")];
  }
}
