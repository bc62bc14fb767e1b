// What a network does with one sound: scores, maps, activations.

import { ask } from "./api.js";
import { fileName, fill, h, option, saveTable, write } from "./dom.js";
import {
  LEFT, RIGHT, heightOfSound, listColors, paintBars, paintColoredWave, paintScale, paintSound, paintStrip,
} from "./figures.js";
import { Player, limitsOf, record, sendFile } from "./sounds.js";
import { makeExtras } from "./extras.js";
import { View } from "./view.js";

const UPLOADED = new Map(); // sounds of this session that were dropped or recorded: key -> name
const TALL = { strip: 40, plain: 16 };

export class LookView extends View {
  constructor(given) {
    super(given);
    this.network = null;
    this.sound = null;
    this.scores = null;
    this.map = null;
    this.heads = [];
    this.topFigures = [];
    this.stripFigures = [];
    this.player = new Player((seconds, playing) => this.moveHead(seconds, playing));
    this.buildCards();
    this.listenForDrops();
    this.openNetwork();
  }

  remove() {
    super.remove();
    this.player.audio.pause();
  }

  get soundName() {
    return UPLOADED.get(this.choice.sound) ?? this.choice.sound;
  }

  get chosenClass() {
    if (!this.network) return "";
    if (this.network.classes.includes(this.choice.class)) return this.choice.class;
    return this.ranked()[0]?.name ?? "";
  }

  ranked() {
    if (!this.scores) return [];
    const rows = this.scores.classes.map((name, k) => ({ name, value: this.scores.logits.data[k] }));
    return rows.sort((one, other) => other.value - one.value);
  }

  // --- controls

  async openNetwork() {
    const names = this.about.networks;
    if (!names.includes(this.choice.network)) this.choice.network = names[0];
    const known = this.about.sounds.some((one) => one.id === this.choice.sound) || this.choice.sound?.startsWith("upload:");
    if (!known) this.choice.sound = this.about.sounds[0].id;
    this.network = null; // what is chosen meanwhile is opened when the network is there
    this.drawControls();
    this.version += 1;
    this.problem.hidden = true;
    const network = await this.load(() => ask("network", { network: this.choice.network }, this.slot("network")));
    if (!network) return;
    this.network = network;
    const layers = network.layers.map((layer) => layer.name);
    if (!layers.includes(this.choice.layer)) {
      this.choice.layer = network.layers.findLast((layer) => layer.mappable)?.name ?? layers.at(-1);
    }
    this.drawControls();
    this.openSound();
  }

  drawControls() {
    const { about, choice } = this;
    choice.method ??= "grad-cam";
    choice.colors ??= listColors()[0];
    const layers = this.network?.layers ?? [];
    const unit = layers.find((layer) => layer.name === choice.layer)?.units ?? 1;
    const named = (names, chosen) => names.map((name) => option(name, name, name === chosen));
    this.fillControls(
      this.field("Network", this.select("network", named(about.networks, choice.network), this.openNetwork)),
      h("div", { class: "field" }, this.field("Sound", this.soundMenu()), this.soundTools()),
      this.field("Layer", this.select("layer", layers.map((layer) => option(layer.name, `${layer.name} (${layer.units} units)`, layer.name === choice.layer)), this.openLayer)),
      this.field("Unit", h("input", { type: "number", min: 0, max: unit - 1, step: 1, value: choice.unit ?? "", placeholder: `0 to ${unit - 1}`, onchange: this.change("unit", this.openUnit) })),
      this.field("Method", h("select", { onchange: this.change("method", this.changeMethod) },
        h("optgroup", { label: "Class activation maps" }, ...named(about.cams, choice.method)),
        h("optgroup", { label: "Attributions of samples" }, ...named(about.attributions, choice.method)))),
      choice.method === "lrp" ? this.field("LRP rules", this.select("rules", named(about.rules, choice.rules), this.openMap)) : null,
      this.field("Colors", this.select("colors", named(listColors(), choice.colors), this.drawMaps)),
    );
  }

  soundMenu() {
    const groups = new Map();
    for (const { id, condition } of this.about.sounds) groups.set(condition, [...(groups.get(condition) ?? []), id]);
    const alone = [...groups.values()].every((ids) => ids.length === 1);
    const mine = [...UPLOADED].map(([key, name]) => option(key, name, key === this.choice.sound));
    if (this.choice.sound.startsWith("upload:") && !UPLOADED.has(this.choice.sound)) mine.push(option(this.choice.sound, "sound of another session", true));
    const made = (id) => option(id, id, id === this.choice.sound);
    return h("select", { class: "sound", onchange: this.change("sound", this.openSound) },
      mine.length ? h("optgroup", { label: "Dropped or recorded" }, ...mine) : null,
      ...(alone ? this.about.sounds.map(({ id }) => made(id)) : [...groups].map(([word, ids]) => h("optgroup", { label: word }, ...ids.map(made)))));
  }

  soundTools() {
    const picker = h("input", { type: "file", accept: "audio/*,.flac,.wav,.mp3,.ogg,.opus,.aiff,.au", hidden: true, onchange: () => this.send(picker.files[0]) });
    this.recordButton = h("button", { type: "button", onclick: () => this.toggleRecording() }, "Record");
    return h("span", { class: "tools" }, picker,
      h("button", { type: "button", title: "Choose a file, or drop one anywhere on this view", onclick: () => picker.click() }, "Open a file"), this.recordButton);
  }

  listenForDrops() {
    this.element.addEventListener("dragover", (event) => { event.preventDefault(); this.element.classList.add("dropping"); });
    this.element.addEventListener("dragleave", () => this.element.classList.remove("dropping"));
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.element.classList.remove("dropping");
      if (event.dataTransfer.files.length) this.send(event.dataTransfer.files[0]);
    });
  }

  async send(file) {
    if (!file) return;
    this.problem.hidden = true;
    try {
      const found = await sendFile(file, limitsOf(document.body));
      UPLOADED.set(found.sound, found.name);
      this.choice.sound = found.sound;
      this.drawControls();
      this.openSound();
      this.keep();
    } catch (error) {
      this.fail(error);
    }
  }

  async toggleRecording() {
    if (this.recording) { this.recording.stop(); return; }
    this.problem.hidden = true;
    const button = this.recordButton;
    try {
      button.disabled = true;
      this.recording = await record(limitsOf(document.body), (seconds) => { button.textContent = `Stop (${seconds.toFixed(1)} s)`; });
      button.disabled = false;
      button.textContent = "Stop";
      const file = await this.recording.sound;
      this.recording = null;
      await this.send(file);
    } catch (error) {
      this.fail(error);
    } finally {
      this.recording = null;
      button.disabled = false;
      button.textContent = "Record";
    }
  }

  // --- cards

  buildCards() {
    const named = (what) => () => fileName(this.choice.network, this.soundName, what);
    this.soundFigure = this.figure({ name: named("sound"), height: heightOfSound(null) });
    this.play = h("button", { type: "button", class: "play", disabled: true, "aria-label": "Play the sound", onclick: () => this.player.toggle().catch((error) => this.fail(error)) }, "▶");
    this.heading = h("h3", {}, "…");
    this.caption = h("p", { class: "caption" });
    this.notes = h("ul", { class: "notes" });
    this.scale = this.figure({ name: named("scale"), height: 30, label: "Color scale of the map" });
    this.scale.frame.classList.add("scale");
    this.bars = h("div", { class: "bars" });
    this.barFigure = this.figure({ name: named("scores"), height: 200 });
    this.top = h("div", { class: "top-five" });
    this.strips = h("div", { class: "strips" });
    this.stripCaption = h("p", { class: "caption" });
    const bars = h("span", { class: "downloads" },
      h("button", { type: "button", class: "quiet", onclick: () => this.saveBars("savePicture") }, "PNG"),
      h("button", { type: "button", class: "quiet", onclick: () => this.saveBars("saveDrawing") }, "SVG"),
      h("button", { type: "button", class: "quiet", onclick: () => saveTable(["class", "logit"], this.ranked().map((row) => [row.name, row.value]), named("scores")()) }, "TSV"));
    const topSaves = h("span", { class: "downloads" }, h("button", { type: "button", class: "quiet", onclick: () => this.saveTop() }, "TSV"));
    fill(this.cards,
      h("article", { class: "card wide" },
        h("div", { class: "card-head" }, this.play, this.heading, this.soundFigure.downloads()),
        this.withHead(this.soundFigure.frame), this.scale.frame, this.caption, this.notes),
      h("article", { class: "card" }, h("div", { class: "card-head" }, h("h3", {}, "Class scores"), bars),
        h("p", { class: "caption" }, "Logits. Choose a class to see what speaks for it."), this.bars),
      h("article", { class: "card" }, h("div", { class: "card-head" }, h("h3", {}, "Maps of the five highest"), topSaves), this.top),
      h("article", { class: "card wide" }, h("div", { class: "card-head" }, h("h3", {}, "Activations of every layer")), this.stripCaption, this.strips),
    );
    this.extras = makeExtras(this);
    this.cards.append(...this.extras.elements);
  }

  /** A figure with a line that moves over it as the sound plays, and that can be dragged. */
  withHead(frame) {
    const head = h("div", { class: "head", hidden: true });
    frame.append(head);
    this.heads.push({ frame, head });
    const scrub = (event) => {
      const box = frame.getBoundingClientRect();
      const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
      if (this.sound) this.player.seek(Math.max(0, Math.min(1, part)) * this.sound.seconds);
    };
    frame.addEventListener("pointerdown", (event) => { if (event.button === 0) { frame.setPointerCapture(event.pointerId); scrub(event); } });
    frame.addEventListener("pointermove", (event) => { if (frame.hasPointerCapture(event.pointerId)) scrub(event); });
    return frame;
  }

  moveHead(seconds, playing) {
    this.play.textContent = playing ? "❚❚" : "▶";
    this.play.setAttribute("aria-label", playing ? "Pause the sound" : "Play the sound");
    for (const { frame, head } of this.heads) {
      head.hidden = seconds === null || !this.sound;
      if (!head.hidden) head.style.left = `${LEFT + (frame.clientWidth - LEFT - RIGHT) * Math.min(1, seconds / this.sound.seconds)}px`;
    }
  }

  // --- what is loaded, in the order in which it is seen

  async openSound() {
    if (!this.network) return;
    this.version += 1;
    this.problem.hidden = true;
    this.play.disabled = true;
    const { network, sound } = this.choice;
    const asked = { network, sound };
    this.player.load(network, sound).then(() => { this.play.disabled = false; }, (error) => this.fail(error));
    const [found, scores] = await Promise.all([
      this.load(() => ask("sound", asked, this.slot("sound"))),
      this.load(() => ask("scores", asked, this.slot("scores"))),
    ]);
    if (!found || !scores) return;
    this.sound = found;
    this.scores = scores;
    this.map = null;
    this.moveHead(null, false);
    this.drawMaps();
    this.drawBars();
    await this.openMap();
    await this.openStrips();
    this.extras.open();
    this.keep();
  }

  changeMethod() {
    this.drawControls();
    this.openMap();
  }

  openLayer() {
    this.choice.unit = "";
    this.choice.grown = "";
    this.drawControls();
    this.openMap();
    this.drawStrips();
    this.extras.open();
  }

  openUnit() {
    this.choice.grown = "";
    this.drawStrips();
    this.extras.open();
  }

  chooseClass(name) {
    this.choice.class = name;
    this.drawBars();
    this.openMap();
    this.keep();
  }

  mapQuestion(classes) {
    const { network, sound, method } = this.choice;
    const mappable = this.network.layers.find((layer) => layer.name === this.choice.layer)?.mappable;
    const layer = this.about.cams.includes(method) && mappable ? this.choice.layer : "";
    const rules = method === "lrp" ? this.choice.rules ?? this.about.rules[0] : "";
    return { network, sound, method, layer, rules, classes: classes.join("\n") };
  }

  async openMap() {
    if (!this.scores || !this.network) return;
    const name = this.chosenClass;
    const version = this.mapVersion = (this.mapVersion ?? 0) + 1;
    const isCam = this.about.cams.includes(this.choice.method);
    const five = this.ranked().slice(0, 5).map((row) => row.name);
    this.problem.hidden = true;
    this.element.classList.add("mapping");
    const found = await this.load(() => ask("map", this.mapQuestion([name]), this.slot("map")));
    if (version !== this.mapVersion) return;
    this.element.classList.remove("mapping");
    this.map = found;
    this.topMaps = null;
    this.drawMaps();
    const topMethod = isCam ? this.choice.method : "grad-cam";
    const tops = found ? await this.load(() => ask("map", { ...this.mapQuestion(five), method: topMethod, rules: "" }, this.slot("top"))) : null;
    if (version !== this.mapVersion) return;
    this.topMaps = tops;
    this.drawTop();
  }

  shownMap() {
    const map = this.map?.maps[0];
    return map ? { ...map, kind: this.map.kind, limit: this.map.limit } : null;
  }

  drawMaps() {
    const map = this.shownMap();
    const { colors, method } = this.choice;
    const heard = this.ranked()[0];
    fill(this.heading, this.soundName, h("small", {}, heard ? ` highest score: ${heard.name}` : ""));
    if (!this.sound) return;
    this.soundFigure.show(paintSound(this.sound, map, colors), {
      height: heightOfSound(map),
      label: map ? `Waveform and spectrogram of ${this.soundName}, with the ${method} map of class ${map.class}, up to ${write(map.limit)}` : `Waveform and spectrogram of ${this.soundName}`,
      table: () => this.mapTable(map),
    });
    this.scale.show(paintScale(colors, map?.limit ?? 1));
    this.scale.frame.hidden = !map;
    fill(this.caption, ...this.captionOf(map));
    fill(this.notes, ...[...new Set([...(this.sound.notes ?? []), ...(this.map?.notes ?? []), ...(this.scores?.notes ?? [])])].map((note) => h("li", {}, note)));
    this.drawTop();
  }

  mapTable(map) {
    if (!map) return [["second", "lowest", "highest"], [...this.sound.low.data].map((low, k) => [(k / this.sound.low.data.length) * this.sound.seconds, low, this.sound.high.data[k]])];
    const { shape, data } = map.values;
    if (shape.length > 1) return [["row", "column", "value"], [...data].map((value, k) => [Math.floor(k / shape[1]), k % shape[1], value])];
    return [["second", "mean", "lowest", "highest"], [...data].map((value, k) => [(k / data.length) * this.sound.seconds, value, map.low?.data[k] ?? value, map.high?.data[k] ?? value])];
  }

  captionOf(map) {
    const parts = [`Spectrogram: ${this.sound.what}.`];
    if (map) {
      const at = this.map.layer ? ` at ${this.map.layer}` : "";
      parts.push(` Map: ${this.choice.method}${at}, class ${map.class}, whose logit is ${write(map.logit)}. The scale ends at the largest value of ${this.map.scale}.`);
      if (map.samples > map.values.data.length) parts.push(` The curve shows the lowest and highest of ${Math.round(map.samples / map.values.data.length)} samples a point, the colors their mean.`);
      if (map.kind === "positions") parts.push(" The positions of this layer have no place in time, and the map is drawn over them.");
      if (map.delta !== null && map.delta !== undefined) parts.push(` What it explains and the logit differ by ${write(map.delta)}.`);
      if (map.fidelity !== null && map.fidelity !== undefined) parts.push(` Its linear model explains ${write(map.fidelity)} of the variance (weighted R²).`);
    }
    return parts;
  }

  drawBars() {
    const rows = this.ranked();
    const [least, most] = [Math.min(0, ...rows.map((row) => row.value)), Math.max(0, ...rows.map((row) => row.value))];
    const part = (value) => ((value - least) / (most - least || 1)) * 100;
    const chosen = this.chosenClass;
    fill(this.bars, ...rows.map((row) => {
      const bar = h("i", {});
      bar.style.left = `${Math.min(part(0), part(row.value))}%`;
      bar.style.width = `${Math.abs(part(row.value) - part(0))}%`;
      return h("button", { type: "button", class: "bar", "aria-pressed": String(row.name === chosen), onclick: () => this.chooseClass(row.name) },
        h("span", { class: "name" }, row.name), h("span", { class: "track" }, bar), h("span", { class: "value" }, write(row.value)));
    }));
  }

  saveBars(how) {
    const rows = this.ranked();
    const hidden = h("div", { class: "off" }, this.barFigure.frame);
    this.element.append(hidden);
    this.barFigure.width = 640;
    this.barFigure.show(paintBars(rows, this.chosenClass), { height: 12 + 22 * rows.length, label: `Class scores of ${this.soundName}` });
    this.barFigure[how]();
    hidden.remove();
  }

  drawTop() {
    this.topFigures = this.drop(this.topFigures);
    if (!this.topMaps || !this.sound) {
      const words = this.element.classList.contains("mapping") || this.map ? "…" : "There are no maps by this method; choose another.";
      fill(this.top, h("p", { class: "caption" }, words));
      return;
    }
    const { maps, kind, limit, layer } = this.topMaps;
    const method = this.about.cams.includes(this.choice.method) ? this.choice.method : "grad-cam";
    const panels = maps.map((map) => {
      const figure = this.figure({ name: () => fileName(this.choice.network, this.soundName, map.class, method), height: 58 });
      this.topFigures.push(figure);
      figure.show(paintColoredWave(this.sound, { ...map, kind, limit }, this.choice.colors), {
        label: `${method} map of class ${map.class} over ${this.soundName}, sum ${write(map.sum)}`,
        table: () => this.mapTable({ ...map, kind, limit }),
      });
      return h("div", { class: "small" },
        h("button", { type: "button", class: "pick", "aria-pressed": String(map.class === this.chosenClass), onclick: () => this.chooseClass(map.class) },
          figure.frame, h("span", {}, map.class, h("small", {}, ` logit ${write(map.logit)}`))),
        figure.downloads());
    });
    fill(this.top, ...panels, h("p", { class: "caption" }, `${method} at ${layer}; one scale for all: ±${write(limit)}.`));
  }

  saveTop() {
    if (!this.topMaps) return;
    const rows = this.topMaps.maps.flatMap((map) => [...map.values.data].map((value, k) => [map.class, k, value]));
    saveTable(["class", "point", "value"], rows, fileName(this.choice.network, this.soundName, "five"));
  }

  async openStrips() {
    const { network, sound } = this.choice;
    this.layers = await this.load(() => ask("strips", { network, sound }, this.slot("strips")));
    this.drawStrips();
  }

  drawStrips() {
    if (!this.layers) return;
    this.stripFigures = this.drop(this.stripFigures);
    this.heads = this.heads.filter(({ frame }) => !frame.classList.contains("strip"));
    const rows = this.layers.layers.map((strip) => this.drawStrip(strip));
    const words = ["Rows are units, with strong colors where they are active; each layer has its own scale. Press a row to choose its unit, drag to move in the sound."];
    fill(this.stripCaption, ...words, ...(this.layers.notes ?? []).map((note) => ` Note: ${note}.`));
    fill(this.strips, ...rows);
  }

  drawStrip(strip) {
    const timed = strip.step !== null;
    const chosen = strip.name === this.choice.layer;
    const unit = chosen && this.choice.unit !== "" && this.choice.unit !== undefined ? Number(this.choice.unit) : null;
    const figure = this.figure({ name: () => fileName(this.choice.network, this.soundName, strip.name), height: timed ? TALL.strip : TALL.plain });
    this.stripFigures.push(figure);
    const shown = timed ? strip : { ...strip, picture: { shape: [1, strip.picture.data.length], data: strip.picture.data } };
    figure.show(paintStrip(shown, this.sound.seconds, timed && unit !== null ? Math.floor(unit / strip.rows_of) : null), {
      label: `Activations of ${strip.name}: ${strip.units} units, from ${write(strip.least)} to ${write(strip.most)}`,
      table: () => [["row", "column", "share_of_range"], [...strip.picture.data].map((value, k) => [Math.floor(k / strip.picture.shape[1]), k % strip.picture.shape[1], value / 255])],
    });
    figure.frame.classList.add("strip");
    const frame = timed ? this.withHead(figure.frame) : figure.frame;
    figure.frame.addEventListener("click", (event) => {
      const box = figure.canvas.getBoundingClientRect();
      const [n, columns] = strip.picture.shape;
      const at = timed ? Math.floor((1 - (event.clientY - box.top) / box.height) * n) : Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * n * columns);
      const found = Math.max(0, Math.min(strip.units - 1, at * strip.rows_of));
      const moved = strip.name !== this.choice.layer;
      this.choice.layer = strip.name;
      this.choice.unit = String(found);
      this.choice.grown = "";
      this.drawControls();
      this.drawStrips();
      if (moved) this.openMap();
      this.extras.open();
      this.keep();
    });
    const facts = [`${strip.units} units`, `up to ${write(strip.most, 2)}`];
    if (strip.rows_of > 1) facts.push(`a row: the largest of ${strip.rows_of} units`);
    if (strip.columns_of > 1) facts.push(`a column: the largest of ${strip.columns_of} frames`);
    if (strip.averaged.length) facts.push("averaged over frequency");
    if (!timed) facts.push(strip.frames > 1 ? "without a place in time: units side by side" : "no time: units side by side");
    return h("div", { class: chosen ? "layer chosen" : "layer" }, h("div", { class: "layer-name" }, h("b", {}, strip.name), h("small", {}, facts.join(" · ")), figure.downloads()), frame);
  }
}
