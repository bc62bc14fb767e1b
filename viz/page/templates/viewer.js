// The viewer of maps that the page holds: the menu, the threshold and the values; a stage draws slices or the cortex.
const viewMaps = () => {
  const root = document.querySelector(".viewer");
  if (!root || !window.DecompressionStream) return;
  const menu = root.querySelector("#viewer-map"), level = root.querySelector("[type=range]");
  const tested = root.querySelector("[type=checkbox]"), [cross, pointer] = root.querySelectorAll(".found data");
  const bar = root.querySelector(".scale canvas"), [low, high] = root.querySelectorAll(".scale span");
  const about = JSON.parse(root.dataset.about), named = root.querySelector(".scale small");
  const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const write = (value) => value.toFixed(3).replace("-", "\u2212").replace(/^(\u2212?)0\./, "$1.");
  let map = null;

  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  // The bits of the places that have a value, of those that are significant, then 16 bits a value.
  const readMap = async (option) => {
    const said = JSON.parse(option.dataset.about), bytes = await unpack(option.dataset.volume);
    const n = said.shape.reduce((one, other) => one * other, 1);
    const bit = (from, at) => (bytes[from + (at >> 3)] >> (7 - (at & 7))) & 1;
    const there = [];
    for (let at = 0; at < n; at++) if (bit(0, at)) there.push(at);
    const start = Math.ceil(n / 8), first = start + (said.tested ? Math.ceil(there.length / 8) : 0);
    const numbers = new DataView(bytes.buffer, first);
    const values = new Float32Array(n).fill(NaN), significant = new Uint8Array(n);
    there.forEach((at, k) => {
      values[at] = numbers.getInt16(2 * k, true) * said.step;
      significant[at] = said.tested ? bit(start, k) : 0;
    });
    const names = said.names && Object.entries(said.names);
    const colors = names ? names.map(([, color]) => rgb(color)) : about.colors[said.colors].map(rgb);
    return { ...said, values, significant, there, names, colors, signed: said.colors === "signed", title: option.label };
  };

  const least = () => (map.names ? 0 : level.value * map.top);
  const colorOf = (value) => {
    if (map.names) return map.colors[value - 1];
    const share = map.signed ? (value / map.top + 1) / 2 : value / map.top;
    return map.colors[Math.round(Math.min(Math.max(share, 0), 1) * (map.colors.length - 1))];
  };
  /** The color of a place; null where nothing is shown. */
  const paintAt = (at) => {
    const value = at < 0 ? NaN : map.values[at];
    const shown = (map.signed ? Math.abs(value) : value) >= Math.max(least(), 1e-9);
    return shown && (!tested.checked || map.significant[at]) ? colorOf(value) : null;
  };

  const drawScale = () => {
    const context = bar.getContext("2d"), picture = context.createImageData(bar.width, 1);
    for (let k = 0; k < bar.width; k++) {
      const share = k / (bar.width - 1), value = map.top * (map.signed ? 2 * share - 1 : share);
      const color = map.names ? map.colors[Math.min(Math.floor(share * map.colors.length), map.colors.length - 1)] : colorOf(value);
      picture.data.set([...color, Math.abs(value) >= least() ? 255 : 50], 4 * k);
    }
    context.putImageData(picture, 0, 0);
    low.textContent = map.names ? map.names[0][0] : write(map.signed ? -map.top : 0);
    high.textContent = map.names ? map.names[map.names.length - 1][0] : write(map.top);
    named.textContent = map.unit;
  };

  /** Write what a map holds at a place, which the stage names in words. */
  const tell = (where, words, at) => {
    const value = at < 0 ? NaN : map.values[at];
    where.value = Number.isNaN(value) ? "" : value;
    const found = Number.isNaN(value) ? "no value" : map.names ? map.names[value - 1][0] : `${map.unit} ${write(value)}`;
    const said = Number.isNaN(value) || !map.tested ? "" : map.significant[at] ? ", significant" : ", not significant";
    where.textContent = `${words.replace(/-/g, "\u2212")}: ${found}${said}`;
  };

  const draw = () => {
    stage.draw();
    drawScale();
    level.disabled = Boolean(map.names);
    level.nextElementSibling.textContent = map.names ? "" : write(least());
    tested.disabled = !map.tested;
  };
  const goHighest = () => {
    const size = (at) => (map.signed ? Math.abs(map.values[at]) : map.values[at]);
    if (map.there.length) stage.goTo(map.there.reduce((one, at) => (size(at) > size(one) ? at : one), map.there[0]));
    draw();
  };
  const choose = async () => {
    const option = menu.selectedOptions[0], found = await readMap(option);
    if (option !== menu.selectedOptions[0]) return;
    map = found;
    if (!map.tested) tested.checked = false;
    root.dataset.map = map.title;
  };
  const tools = { root, about, cross, pointer, draw, tell, paintAt, get map() { return map; } };
  const stage = (root.dataset.kind === "cortex" ? openCortex : openSlices)(tools);

  menu.addEventListener("change", () => choose().then(draw));
  level.addEventListener("input", draw);
  tested.addEventListener("change", draw);
  root.querySelector("button").addEventListener("click", goHighest);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (map) draw(); });

  // The numbers of figures that show maps: places in rows, a column for each map.
  const options = [...menu.options], group = (option) => option.parentElement.label || "";
  document.querySelectorAll(".picture[data-maps]").forEach((picture) => {
    const names = JSON.parse(picture.dataset.maps);
    const shown = names.map((name) => options.find((one) => one.label === name && ["", picture.dataset.group].includes(group(one))));
    if (!shown.every(Boolean)) return;
    const button = document.createElement("button"), { alt, dataset } = picture.querySelector("img");
    button.textContent = "TSV";
    button.setAttribute("aria-label", `Save as TSV: ${alt}`);
    button.addEventListener("click", async () => {
      const found = await Promise.all(shown.map(readMap)), { columns, name } = stage.places(found[0]);
      const heads = found.flatMap((one) => [one.title, ...(one.tested ? [`${one.title} significant`] : [])]);
      const cell = (one, at) => {
        const value = one.values[at];
        const text = Number.isNaN(value) ? "n/a" : one.names ? one.names[value - 1][0] : String(value);
        return one.tested ? [text, Number.isNaN(value) ? "n/a" : String(one.significant[at])] : [text];
      };
      const rows = [[...columns, ...heads].join("\t")];
      for (let at = 0; at < found[0].values.length; at++) {
        if (found.some((one) => !Number.isNaN(one.values[at]))) rows.push([...name(at), ...found.flatMap((one) => cell(one, at))].join("\t"));
      }
      const address = URL.createObjectURL(new Blob([`${rows.join("\n")}\n`], { type: "text/tab-separated-values" }));
      save(address, `${dataset.name}.tsv`);
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
    picture.nextElementSibling.append(button);
  });
  Promise.all([unpack(root.dataset.template), choose()]).then(([bytes]) => {
    stage.open(bytes);
    root.hidden = false;
    goHighest();
  });
};
viewMaps();
