// The viewer of maps: three slices through one place, of maps that the page holds.
(() => {
  const root = document.querySelector(".viewer");
  if (!root || !window.DecompressionStream) return;
  const menu = root.querySelector("select"), level = root.querySelector("[type=range]");
  const tested = root.querySelector("[type=checkbox]"), fields = [...root.querySelectorAll("[data-axis]")];
  const [cross, pointer] = root.querySelectorAll(".found data"), bar = root.querySelector(".scale canvas");
  const [low, high] = root.querySelectorAll(".scale span"), named = root.querySelector(".scale small");
  const template = JSON.parse(root.dataset.about), { box } = template, FINE = 2;
  const views = [...root.querySelectorAll("[data-view]")].map((canvas) => {
    const axis = "xyz".indexOf(canvas.dataset.view), [right, up] = [[1, 2], [0, 2], [0, 1]][axis];
    const [wide, tall] = [right, up].map((one) => box[one][1] - box[one][0]);
    canvas.width = FINE * wide;
    canvas.height = FINE * tall;
    return { canvas, axis, right, up, wide, tall };
  });
  const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const write = (value) => value.toFixed(3).replace("-", "\u2212").replace(/^(\u2212?)0\./, "$1.");
  const inside = (mm, axis) => Math.min(Math.max(Math.round(mm), box[axis][0]), box[axis][1] - 1);
  const place = [0, -20, 8];
  let map = null;

  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  // The bits of the voxels that have a value, of those that are significant, then 16 bits a value.
  const readMap = async (option) => {
    const about = JSON.parse(option.dataset.about), bytes = await unpack(option.dataset.volume);
    const n = about.shape[0] * about.shape[1] * about.shape[2];
    const bit = (from, at) => (bytes[from + (at >> 3)] >> (7 - (at & 7))) & 1;
    const there = [];
    for (let at = 0; at < n; at++) if (bit(0, at)) there.push(at);
    const start = Math.ceil(n / 8), first = start + (about.tested ? Math.ceil(there.length / 8) : 0);
    const numbers = new DataView(bytes.buffer, first);
    const values = new Float32Array(n).fill(NaN), significant = new Uint8Array(n);
    there.forEach((at, k) => {
      values[at] = numbers.getInt16(2 * k, true) * about.step;
      significant[at] = about.tested ? bit(start, k) : 0;
    });
    const names = about.names && Object.entries(about.names);
    const colors = names ? names.map(([, color]) => rgb(color)) : template.colors[about.colors].map(rgb);
    return { ...about, values, significant, there, names, colors, signed: about.colors === "signed", title: option.label };
  };

  const voxelAt = (x, y, z) => {
    const at = map.inverse.map((row) => Math.round(row[0] * x + row[1] * y + row[2] * z + row[3]));
    if (at.some((one, axis) => one < 0 || one >= map.shape[axis])) return -1;
    return (at[0] * map.shape[1] + at[1]) * map.shape[2] + at[2];
  };
  const least = () => (map.names ? 0 : level.value * map.top);
  const colorOf = (value) => {
    if (map.names) return map.colors[value - 1];
    const share = map.signed ? (value / map.top + 1) / 2 : value / map.top;
    return map.colors[Math.round(Math.min(Math.max(share, 0), 1) * (map.colors.length - 1))];
  };

  const paper = (width, height) => {
    const made = document.createElement("canvas");
    made.width = width;
    made.height = height;
    const context = made.getContext("2d");
    return { made, context, picture: context.createImageData(width, height) };
  };

  const drawTemplate = (view) => {
    const [nx, ny, nz] = template.shape, [wide, tall] = [view.wide / 2, view.tall / 2];
    const { made, context, picture } = paper(wide, tall), at = [0, 0, 0];
    at[view.axis] = (place[view.axis] - box[view.axis][0]) >> 1;
    for (let row = 0; row < tall; row++) for (let column = 0; column < wide; column++) {
      at[view.right] = column;
      at[view.up] = tall - 1 - row;
      const gray = template.values[(at[0] * ny + at[1]) * nz + at[2]] / 63;
      const shade = 255 * (0.58 + 0.4 * Math.min(Math.max((gray - 0.2) / 0.7, 0), 1));
      const alpha = 255 * Math.min(Math.max((gray - 0.1) / 0.12, 0), 1);
      picture.data.set([shade, shade, shade, alpha], 4 * (row * wide + column));
    }
    context.putImageData(picture, 0, 0);
    return made;
  };

  const drawMap = (view) => {
    const { made, context, picture } = paper(view.wide, view.tall), mm = [...place], from = Math.max(least(), 1e-9);
    for (let row = 0; row < view.tall; row++) for (let column = 0; column < view.wide; column++) {
      mm[view.right] = box[view.right][0] + column;
      mm[view.up] = box[view.up][1] - 1 - row;
      const at = voxelAt(...mm), value = at < 0 ? NaN : map.values[at];
      if (!((map.signed ? Math.abs(value) : value) >= from) || (tested.checked && !map.significant[at])) continue;
      picture.data.set([...colorOf(value), 255], 4 * (row * view.wide + column));
    }
    context.putImageData(picture, 0, 0);
    return made;
  };

  const drawView = (view) => {
    const { canvas, right, up } = view, context = canvas.getContext("2d"), ink = getComputedStyle(root).color;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.drawImage(drawTemplate(view), 0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(drawMap(view), 0, 0, canvas.width, canvas.height);
    const x = FINE * (place[right] - box[right][0] + 0.5), y = FINE * (box[up][1] - 0.5 - place[up]);
    [["#ffffffb0", 3], ["#1c2530", 1]].forEach(([color, width]) => {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      [[0, y, x - 8, y], [x + 8, y, canvas.width, y], [x, 0, x, y - 8], [x, y + 8, x, canvas.height]].forEach((line) => {
        context.moveTo(line[0], line[1]);
        context.lineTo(line[2], line[3]);
      });
      context.stroke();
    });
    context.fillStyle = ink;
    const letter = (12 * canvas.width) / (canvas.clientWidth || canvas.width);
    context.font = `${letter}px sans-serif`;
    context.fillText(`${"xyz"[view.axis]} = ${place[view.axis]}`.replace("-", "\u2212"), 2, canvas.height - 4);
    if (view.axis) ["L", "R"].forEach((side, k) => context.fillText(side, k ? canvas.width - letter : 2, letter));
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

  const describe = (where, [x, y, z]) => {
    const at = voxelAt(x, y, z), value = at < 0 ? NaN : map.values[at];
    where.value = Number.isNaN(value) ? "" : value;
    const found = Number.isNaN(value) ? "no value" : map.names ? map.names[value - 1][0] : `${map.unit} ${write(value)}`;
    const said = Number.isNaN(value) || !map.tested ? "" : map.significant[at] ? ", significant" : ", not significant";
    where.textContent = `(${[x, y, z].join(", ").replace(/-/g, "\u2212")}) mm: ${found}${said}`;
  };

  const draw = () => {
    views.forEach(drawView);
    drawScale();
    describe(cross, place);
    fields.forEach((field, axis) => { if (field !== document.activeElement) field.value = place[axis]; });
    level.disabled = Boolean(map.names);
    level.nextElementSibling.textContent = map.names ? "" : write(least());
    tested.disabled = !map.tested;
  };
  const move = (axis, mm) => {
    place[axis] = inside(mm, axis);
    draw();
  };
  const goHighest = () => {
    const size = (at) => (map.signed ? Math.abs(map.values[at]) : map.values[at]);
    const best = map.there.reduce((one, at) => (size(at) > size(one) ? at : one), map.there[0]);
    const [, ny, nz] = map.shape, voxel = [Math.floor(best / (ny * nz)), Math.floor(best / nz) % ny, best % nz];
    map.affine.forEach((row, axis) => { place[axis] = inside(row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3], axis); });
    draw();
  };
  const choose = async () => {
    const option = menu.selectedOptions[0], found = await readMap(option);
    if (option !== menu.selectedOptions[0]) return;
    map = found;
    if (!map.tested) tested.checked = false;
    root.dataset.map = map.title;
  };

  views.forEach((view) => {
    const { canvas, right, up, axis } = view;
    const find = (event) => {
      const edge = canvas.getBoundingClientRect(), mm = [...place];
      mm[right] = inside(box[right][0] + ((event.clientX - edge.left) / edge.width) * view.wide - 0.5, right);
      mm[up] = inside(box[up][1] - 0.5 - ((event.clientY - edge.top) / edge.height) * view.tall, up);
      return mm;
    };
    const drag = (event) => {
      if (!map) return;
      const mm = find(event);
      describe(pointer, mm);
      if (!event.buttons) return;
      place.splice(0, 3, ...mm);
      draw();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); drag(event); });
    canvas.addEventListener("pointermove", drag);
    canvas.addEventListener("pointerleave", () => { pointer.textContent = ""; });
    canvas.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 2;
      const known = { ArrowLeft: [right, -1], ArrowRight: [right, 1], ArrowDown: [up, -1], ArrowUp: [up, 1], PageDown: [axis, -1], PageUp: [axis, 1] };
      if (!map || !known[event.key]) return;
      event.preventDefault();
      move(known[event.key][0], place[known[event.key][0]] + step * known[event.key][1]);
    });
  });
  fields.forEach((field, axis) => field.addEventListener("change", () => { move(axis, Number(field.value) || 0); field.value = place[axis]; }));
  menu.addEventListener("change", () => choose().then(draw));
  level.addEventListener("input", draw);
  tested.addEventListener("change", draw);
  root.querySelector("button").addEventListener("click", goHighest);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (map) draw(); });
  Promise.all([unpack(root.dataset.template), choose()]).then(([gray]) => {
    template.values = gray;
    root.hidden = false;
    goHighest();
  });
})();
