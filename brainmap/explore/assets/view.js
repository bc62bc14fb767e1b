// What all views share: controls, cards, figures, and words where something fails.

import { fill, h } from "./dom.js";
import { Figure } from "./figures.js";

export class View {
  constructor({ about, choice, number, names, keep }) {
    Object.assign(this, { about, choice, number, keep });
    this.figures = [];
    this.version = 0;
    this.element = h("section", { class: "view", "aria-label": names || "View" }, h("h2", { class: names ? "which" : "unseen" }, names || "View"));
    this.controls = h("div", { class: "controls" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.cards = h("div", { class: "cards" });
    this.element.append(this.controls, this.problem, this.cards);
  }

  remove() {
    this.version += 1;
    this.figures.forEach((figure) => figure.remove());
  }

  slot(name) { return `${this.number}.${name}`; }

  figure(given) {
    const figure = new Figure(given);
    this.figures.push(figure);
    return figure;
  }

  drop(figures) {
    figures.forEach((figure) => figure.remove());
    this.figures = this.figures.filter((figure) => !figures.includes(figure));
    return [];
  }

  fail(error) {
    if (error.isStale || error.status === 0) return;
    this.problem.textContent = error.message;
    this.problem.hidden = false;
  }

  /** Load a part; what an older choice gives is thrown away. */
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

  /** Draw the controls again; the one that had the focus keeps it. */
  fillControls(...fields) {
    const { activeElement } = document;
    const name = this.controls.contains(activeElement) ? activeElement.getAttribute("aria-label") : null;
    fill(this.controls, ...fields);
    if (name) [...this.controls.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === name)?.focus();
  }

  field(name, element) {
    element.setAttribute("aria-label", name);
    return h("label", {}, h("span", {}, name), element);
  }

  /** Set a choice by its control, and do what follows. */
  change(key, then) {
    return (event) => { this.choice[key] = event.target.value; then.call(this); this.keep(); };
  }

  select(key, options, then) { return h("select", { onchange: this.change(key, then) }, ...options); }
}
