// What a region is predicted to want to hear, by an encoding model that predicts it, and what others say of it.

import { ask } from "./api.js";
import { fileName, fill, h, write } from "./dom.js";
import { heightOfSound, paintSound } from "./figures.js";
import { makePlayer } from "./sounds.js";

export class WantedCard {
  constructor(view) {
    this.view = view;
    this.element = h("article", { class: "card wide", hidden: true });
    this.figures = [];
    this.gates = null;
    this.region = "";
  }

  head(...more) { return h("div", { class: "card-head" }, h("h3", {}, this.region ? `What ${this.region} is predicted to want` : "What a region is predicted to want"), ...more); }

  /** Read which networks predict the chosen region better than chance. */
  async open() {
    const { view } = this;
    this.region = view.choice.region || view.found?.region || "";
    this.gates = null;
    this.figures = view.drop(this.figures);
    this.element.hidden = !view.brain.encodes;
    if (this.element.hidden) return;
    if (!this.region) { fill(this.element, this.head(), h("p", { class: "caption" }, "This place lies in no region of the study; encoding models are of regions.")); return; }
    let found;
    try {
      found = await ask("gates", { region: this.region }, view.slot("gates"));
    } catch (error) {
      if (!error.isStale) fill(this.element, this.head(), h("p", { class: "caption" }, error.message));
      return;
    }
    this.gates = found.gates;
    this.draw();
  }

  draw() {
    const { view, gates } = this;
    if (!gates || this.element.hidden) return;
    this.figures = view.drop(this.figures);
    const rows = gates.map((gate) => h("li", {}, h("b", {}, gate.network), `best at ${gate.layer}, r ${write(gate.r)}, p ${write(gate.p)}`,
      gate.passed
        ? h("button", { type: "button", "aria-pressed": String(view.choice.wanted === gate.network), onclick: () => { view.choice.wanted = gate.network; view.keep(); this.draw(); } }, "Find the sound")
        : h("small", {}, "no better than chance: no sound can be said to drive it")));
    this.place = h("div", {});
    fill(this.element, this.head(),
      h("p", { class: "caption" }, "Encoding models of the study, the best layer of each network; p is by the highest r over all layers and regions. A sound is grown through one of them, fitted on half of the participants, and judged by models of other networks, fitted on the other half."),
      h("ul", { class: "gates" }, ...rows), this.place);
    if (gates.some((gate) => gate.passed && gate.network === view.choice.wanted)) this.find();
  }

  async find() {
    const { view, region, place } = this;
    const network = view.choice.wanted;
    fill(place, h("p", { class: "caption" }, "Fitting the models and growing the sound …"));
    let found;
    try {
      found = await ask("wanted", { region, network }, view.slot("score")); // another region takes its turn
    } catch (error) {
      const words = error.status === 410 ? "Stopped; press Find the sound to begin again." : error.message;
      if (error.status === 410) { view.choice.wanted = ""; view.keep(); this.draw(); }
      if (!error.isStale) fill(this.place, h("p", { class: "caption" }, words));
      return;
    }
    if (place !== this.place) return;
    this.show(found);
  }

  show(found) {
    const { view, region } = this;
    const { network } = found;
    const figure = view.figure({ name: () => fileName(network, region, "predicted"), height: heightOfSound(null) });
    this.figures.push(figure);
    const columns = ["region", "network", "layer", "predicted", "judged", "judges", "judged_on", "best_real", "best_real_sound", "best_random", "distance"];
    figure.show(paintSound(found.sound, null, ""), {
      label: `Waveform and spectrogram of the sound that ${region} is predicted to want, by ${found.layer} of ${network}: judged ${write(found.judged)}`,
      table: () => [columns, [columns.map((name) => (name === "best_real_sound" ? found.real.id : found[name]))]],
    });
    const player = (label, command, given) => makePlayer(view, label, command, given);
    const row = (label, button, judged, words) => h("tr", {}, h("th", { scope: "row" }, button, label), h("td", {}, write(judged)), h("td", {}, words));
    const other = found.judged_on === "other data" ? "fitted on other participants or runs" : "fitted on the same data, so that their judgement is too high";
    fill(this.place,
      h("table", { class: "facts" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Sound"), h("th", { scope: "col" }, "Judged"), h("th", { scope: "col" }, ""))),
        h("tbody", {},
          row("predicted sound", player("the predicted sound", "wantedsound", { region, network }), found.judged, `the climbed model itself predicts ${write(found.predicted)}`),
          row(found.real.id, player(found.real.id, "audio", { network, sound: found.real.id }), found.best_real, "the real sound with the highest prediction"),
          row("random sound", null, found.best_random, `the best of many random sounds, ${found.prior === "decoder" ? "by the decoder of speech" : "with the spectrum of the real ones"}`))),
      h("p", { class: "caption" }, `Judged: what ${found.judges} predict, in standard deviations over the real sounds; these models were not climbed and are ${other}. Distance from the nearest real sound in ${found.layer}: ${write(found.distance)} (1: as between real sounds). Only measurement tells whether the region responds.`),
      h("figure", {}, h("figcaption", {}, "The predicted sound", figure.downloads()), figure.frame));
  }
}
