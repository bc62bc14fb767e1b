// Where a map is drawn and pressed: slices of a volume (by NiiVue), or the cortex from several sides.

import { heightOfCortex, paintCortex } from "./cortex.js";
import { h, option, save, write } from "./dom.js";
import { colorMap } from "./figures.js";
import { SIDES, findVertex, nameVertex } from "./mesh.js";

const SHOWN_FROM = 0.1; // share of the largest value of a map
let niivue = null; // the library, loaded once when a map is first wanted

/** From where to where a map is drawn: what is positive, t above 0, and corrected p below .05. */
export function findScale(values, stat) {
  if (stat === "pfwe") return { from: 0.95, most: 1, words: "Drawn where corrected p is below .05." };
  let most = 0;
  for (const value of values) if (value > most) most = value;
  if (most === 0) return { from: 0, most: 1, words: "No value is above 0, so that nothing is drawn." };
  return { from: SHOWN_FROM * most, most, words: `Drawn where it is above ${100 * SHOWN_FROM} % of its largest value, ${write(most)}.` };
}

function loadNiivue() {
  niivue ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "/assets/niivue.js" });
    script.onload = () => resolve(window.niivue);
    script.onerror = () => reject(new Error("NiiVue, which nilearn’s wheel carries, was not found; maps cannot be drawn. Regions can be chosen by name."));
    document.head.append(script);
  });
  return niivue;
}

/** Slices of a volume; `tell(place)` hears where the cross is, `choose(place)` where it was set, in mm. */
export class Slices {
  constructor({ tell, choose, name }) {
    Object.assign(this, { tell, choose, name });
    this.canvas = h("canvas", { class: "slices", tabIndex: 0 });
    this.element = h("div", { class: "stage" }, this.canvas);
    this.buttons = [
      h("button", { type: "button", class: "quiet", onclick: () => this.savePicture() }, "PNG"),
      h("button", { type: "button", class: "quiet", onclick: () => this.map && save(this.map, `${this.name()}.nii.gz`) }, "NIfTI"),
    ];
    this.here = null;
  }

  remove() { this.viewer?.gl?.getExtension("WEBGL_lose_context")?.loseContext(); }

  async open() {
    const library = await loadNiivue();
    this.viewer = new library.Niivue({
      show3Dcrosshair: true, crosshairWidth: 0.5, crosshairColor: [0.36, 0.75, 0.83, 1], isColorbar: true, dragAndDropEnabled: false, loadingText: "", logLevel: "silent",
      backColor: [0, 0, 0, 1], fontSizeScaling: 0.4, isRadiologicalConvention: false, isNearestInterpolation: true, sagittalNoseLeft: false,
      onLocationChange: (place) => this.hear(place),
    });
    try {
      await this.viewer.attachToCanvas(this.canvas);
    } catch (error) {
      this.viewer = null;
      throw new Error(`This browser cannot draw the map (WebGL 2 is needed: ${error.message}). Regions can be chosen by name.`);
    }
    this.viewer.opts.multiplanarForceRender = true;
    this.viewer.setSliceType(this.viewer.sliceTypeMultiplanar);
    const set = () => { if (this.here) this.choose(this.here.join(",")); };
    this.canvas.addEventListener("pointerup", set);
    this.canvas.addEventListener("keyup", set);
  }

  /** Draw a map (gzipped NIfTI) over its background; either may be missing. Returns the words on its scale. */
  async show({ map, background, backgroundIs, stat, title }) {
    const { viewer } = this;
    if (!viewer) return "";
    this.map = map;
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    viewer.addColormap("score", colorMap("activation", 0.3));
    let scale = null;
    if (background) {
      const added = await this.add(background, "background.nii.gz", 1);
      added.colorbarVisible = false;
      [added.cal_min, added.cal_max] = backgroundIs === "template" ? [40, 255] : [0, 255];
    }
    if (map) {
      const added = await this.add(map, "map.nii.gz", 0.9);
      scale = findScale(added.img, stat);
      added.colormap = "score"; // this sets the limits, which are then set again
      [added.cal_min, added.cal_max] = [scale.from, scale.most];
    }
    viewer.updateGLVolume();
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", scale ? `${title}, from ${write(scale.from)} to ${write(scale.most)}; slices through the chosen voxel` : title);
    return scale?.words ?? "";
  }

  async add(blob, name, opacity) {
    const image = await window.niivue.NVImage.loadFromFile({ file: new File([blob], name), name, colormap: "gray", opacity });
    this.viewer.addVolume(image);
    return this.viewer.volumes.at(-1);
  }

  hear(place) {
    this.here = Array.from(place.mm).slice(0, 3).map((one) => Math.round(one * 10) / 10);
    this.tell(`At ${this.here.map((one) => write(one)).join(", ")} mm (x, y, z; right, front and up are positive).`);
  }

  moveTo(place) {
    if (!this.viewer) return;
    const mm = typeof place === "string" ? place.split(",").map(Number) : place;
    this.viewer.scene.crosshairPos = this.viewer.mm2frac(mm);
    this.viewer.drawScene();
    this.hear({ mm });
  }

  savePicture() {
    if (!this.viewer) return;
    this.viewer.drawScene();
    this.canvas.toBlob((blob) => save(blob, `${this.name()}.png`));
  }
}

/** The cortex from several sides; `choose(vertex)` hears which vertex was pressed, as "left:12". */
export class Cortex {
  constructor({ tell, choose, name, figure, choice, keep }) {
    Object.assign(this, { tell, choose, choice, keep });
    this.figure = figure({ name, height: heightOfCortex });
    this.state = { from: "", chosen: null, shown: null };
    const menu = h("select", { "aria-label": "Seen from", onchange: (event) => { choice.seen = event.target.value; this.draw(); this.keep(); } },
      ...Object.entries(SIDES).map(([key, words]) => option(key, words, key === choice.seen)));
    this.buttons = [h("label", { class: "inline" }, "Seen from ", menu), this.figure.downloads()];
    this.element = this.figure.frame;
    this.element.classList.add("cortex");
    this.chosen = null;
    this.figure.canvas.addEventListener("pointermove", (event) => {
      this.figure.canvas.style.cursor = this.figure.paint?.find(event.offsetX, event.offsetY) == null ? "" : "crosshair";
    });
    this.figure.canvas.addEventListener("click", (event) => {
      const row = this.figure.paint?.find(event.offsetX, event.offsetY);
      if (row !== null && row !== undefined) this.press(row);
    });
    this.figure.canvas.tabIndex = 0;
    this.figure.canvas.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow") || !this.paint?.step) return;
      event.preventDefault();
      const row = this.paint.step(this.chosen, event.key);
      if (row !== null) this.press(row);
    });
  }

  remove() { this.figure.remove(); }

  async open() { /* nothing to load */ }

  press(row) {
    this.chosen = row;
    this.draw();
    this.choose(nameVertex(this.mesh, row));
  }

  async show({ map, background, stat, title }) {
    this.mesh = background;
    const scale = map ? findScale(map.values.data, stat) : { from: 0, most: 1, words: "" };
    this.shown = { values: map?.values.data ?? null, ...scale };
    this.title = title;
    if (this.wanted) this.chosen = findVertex(this.mesh, this.wanted);
    this.draw();
    return `${scale.words} Drawn on ${this.mesh.what}. Press a vertex to see its scores; arrow keys step to the next one, and a vertex can be named above.`;
  }

  draw() {
    if (!this.mesh) return;
    const { state, chosen } = this;
    state.chosen = chosen;
    const from = this.choice.seen in SIDES ? this.choice.seen : "sides";
    if (state.from !== from || state.shown !== this.shown) this.paint = paintCortex(this.mesh, this.shown, Object.assign(state, { from, shown: this.shown }));
    this.figure.show(this.paint, {
      label: `${this.title}, on the cortex seen from ${SIDES[from]}${chosen === null ? "" : `; vertex ${nameVertex(this.mesh, chosen)} is chosen`}`,
      table: () => [["hemisphere", "vertex", "value"], Array.from({ length: this.mesh.sizes[0] + this.mesh.sizes[1] }, (_, row) => [...nameVertex(this.mesh, row).split(":"), this.shown.values?.[row]])],
    });
    if (chosen !== null) this.tell(`At vertex ${nameVertex(this.mesh, chosen)}.`);
  }

  moveTo(name) {
    this.wanted = name;
    if (!this.mesh) return;
    this.chosen = findVertex(this.mesh, name);
    this.draw();
  }
}
