// The cortex from several sides; a press or an arrow key chooses a vertex.
const openCortex = (tools) => {
  const { root, about, cross, pointer, draw, tell, paintAt } = tools, WIDE = 480, TALL = 340;
  const sides = root.querySelector("#viewer-sides"), field = root.querySelector("#viewer-vertex");
  const pictures = [...root.querySelectorAll(".cortex figure")].map((figure) => {
    const canvas = figure.querySelector("canvas"), words = figure.querySelector("figcaption");
    canvas.width = WIDE;
    canvas.height = TALL;
    return { figure, canvas, words, view: null };
  });
  let mesh = null, chosen = 0;

  /** Points as differences in 16 bits, triangles in 32, where the map's own places lie, and gyri as bits. */
  const readMesh = (bytes) => {
    const n = about.sizes[0] + about.sizes[1], parts = new DataView(bytes.buffer);
    let from = 0;
    const read = (count, size, get) => {
      const found = Array.from({ length: count }, (_, k) => parts[get](from + size * k, true));
      from += size * count;
      return found;
    };
    const spread = (columns, count, make, size, get) => {  // each column as its first value and differences
      const found = new make(columns * count);
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        read(count, size, get).forEach((step, k) => { sum += step; found[columns * k + column] = sum; });
      }
      return found;
    };
    const points = spread(3, n, Float32Array, 4, "getInt32").map((one) => one * about.step);
    const triangles = spread(3, about.triangles, Int32Array, 4, "getInt32");
    const own = about.inflated ? spread(3, n, Float32Array, 4, "getInt32").map((one) => one * about.step) : points;
    const gyri = about.inflated ? Uint8Array.from({ length: n }, (_, k) => (bytes[from + (k >> 3)] >> (7 - (k & 7))) & 1) : null;
    return { points, triangles, sizes: about.sizes, own, gyri };
  };

  const look = () => {
    const panels = PANELS[sides.value].filter(([side]) => mesh.sizes[side === "left" ? 0 : 1]);
    pictures.forEach((picture, k) => {
      picture.figure.hidden = !panels[k];
      picture.view = panels[k] ? lookAt(mesh, panels[k][0], panels[k][1], WIDE, TALL) : null;
      if (!panels[k]) return;
      picture.words.textContent = panels[k][2];
      picture.canvas.setAttribute("aria-label", `Cortex, ${panels[k][2]}; arrow keys step to the next vertex`);
    });
  };

  const drawPicture = ({ canvas, view }) => {
    const context = canvas.getContext("2d"), picture = context.createImageData(WIDE, TALL);
    const dim = matchMedia("(prefers-color-scheme: dark)").matches ? 0.75 : 1;
    view.seen.forEach((vertex, at) => {
      if (vertex < 0) return;
      const shade = 0.45 + 0.55 * view.light[at], gray = dim * (mesh.gyri ? (mesh.gyri[vertex] ? 205 : 150) : 190);
      const color = paintAt(vertex) ?? [gray, gray, gray];
      picture.data.set([...color.map((one) => one * shade), 255], 4 * at);
    });
    context.putImageData(picture, 0, 0);
    const place = placeOf(view, chosen);
    [["#000000", 5], ["#ffffff", 2.5]].forEach(([color, width]) => {
      if (!place) return;
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      context.arc(...place, 8, 0, 2 * Math.PI);
      context.stroke();
    });
  };

  const nameOf = (at) => {
    const mm = [0, 1, 2].map((axis) => mesh.own[3 * at + axis].toFixed(1)).join(", ");
    return `${nameVertex(mesh, at)} (${mm}) mm`;
  };
  const shown = () => pictures.filter(({ view }) => view);
  const isSeen = () => shown().some(({ view }) => placeOf(view, chosen));
  const press = (at) => { chosen = at; draw(); };

  pictures.forEach((picture) => {
    const { canvas } = picture;
    const find = (event) => {
      const edge = canvas.getBoundingClientRect();
      const [x, y] = [((event.clientX - edge.left) / edge.width) * WIDE, ((event.clientY - edge.top) / edge.height) * TALL].map(Math.floor);
      return x < 0 || y < 0 || x >= WIDE || y >= TALL ? -1 : picture.view.seen[y * WIDE + x];
    };
    canvas.addEventListener("pointermove", (event) => {
      if (!tools.map) return;
      const at = find(event);
      if (at < 0) pointer.textContent = "";
      else tell(pointer, nameOf(at), at);
      if (at >= 0 && event.buttons) press(at);
    });
    canvas.addEventListener("pointerdown", (event) => {
      const at = tools.map ? find(event) : -1;
      if (at >= 0) press(at);
    });
    canvas.addEventListener("pointerleave", () => { pointer.textContent = ""; });
    canvas.addEventListener("keydown", (event) => {
      if (!tools.map || !event.key.startsWith("Arrow")) return;
      event.preventDefault();
      const at = stepTo(mesh, picture.view, chosen, event.key);
      if (at !== null) press(at);
    });
  });
  sides.addEventListener("change", () => { look(); draw(); });
  field.addEventListener("change", () => {
    const at = findVertex(mesh, field.value);
    field.setCustomValidity(at === null ? `There is no vertex ${field.value}; the first one is left:0.` : "");
    if (!field.reportValidity()) return;
    stage.goTo(at);
    draw();
  });
  const stage = {
    open(bytes) { mesh = readMesh(bytes); look(); },
    draw() {
      shown().forEach(drawPicture);
      tell(cross, nameOf(chosen), chosen);
      if (!isSeen()) cross.textContent += " (not seen from these sides)";
      if (field !== document.activeElement) field.value = nameVertex(mesh, chosen);
    },
    goTo(at) {
      chosen = at;
      const before = sides.value;
      for (const other of [...Object.keys(SIDES), before]) {  // from where it is seen, if from anywhere
        if (isSeen()) return;
        sides.value = other;
        look();
      }
    },
    places: () => ({ columns: ["hemisphere", "vertex"], name: (at) => nameVertex(mesh, at).split(":") }),
  };
  return stage;
};
