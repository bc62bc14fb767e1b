// Three slices of a volume through one place.
const openSlices = (tools) => {
  const { root, about, cross, pointer, draw, tell, paintAt } = tools, { box } = about, FINE = 2;
  const place = [0, -20, 8], template = { shape: about.shape, values: null };
  const fields = [...root.querySelectorAll("[data-axis]")];
  const views = [...root.querySelectorAll("[data-view]")].map((canvas) => {
    const axis = "xyz".indexOf(canvas.dataset.view), [right, up] = [[1, 2], [0, 2], [0, 1]][axis];
    const [wide, tall] = [right, up].map((one) => box[one][1] - box[one][0]);
    canvas.width = FINE * wide;
    canvas.height = FINE * tall;
    return { canvas, axis, right, up, wide, tall };
  });
  const inside = (mm, axis) => Math.min(Math.max(Math.round(mm), box[axis][0]), box[axis][1] - 1);

  const voxelAt = (x, y, z) => {
    const { inverse, shape } = tools.map;
    const at = inverse.map((row) => Math.round(row[0] * x + row[1] * y + row[2] * z + row[3]));
    if (at.some((one, axis) => one < 0 || one >= shape[axis])) return -1;
    return (at[0] * shape[1] + at[1]) * shape[2] + at[2];
  };
  const centerOf = ({ shape: [, ny, nz], affine }, at) => {
    const voxel = [Math.floor(at / (ny * nz)), Math.floor(at / nz) % ny, at % nz];
    return affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  };

  const paper = (width, height) => {
    const made = document.createElement("canvas");
    made.width = width;
    made.height = height;
    const context = made.getContext("2d");
    return { made, context, picture: context.createImageData(width, height) };
  };

  const drawTemplate = (view) => {
    const [, ny, nz] = template.shape, [wide, tall] = [view.wide / 2, view.tall / 2];
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
    const { made, context, picture } = paper(view.wide, view.tall), mm = [...place];
    for (let row = 0; row < view.tall; row++) for (let column = 0; column < view.wide; column++) {
      mm[view.right] = box[view.right][0] + column;
      mm[view.up] = box[view.up][1] - 1 - row;
      const color = paintAt(voxelAt(...mm));
      if (color) picture.data.set([...color, 255], 4 * (row * view.wide + column));
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

  const describe = (where, mm) => tell(where, `(${mm.join(", ")}) mm`, voxelAt(...mm));
  const move = (axis, mm) => {
    place[axis] = inside(mm, axis);
    draw();
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
      if (!tools.map) return;
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
      if (!tools.map || !known[event.key]) return;
      event.preventDefault();
      move(known[event.key][0], place[known[event.key][0]] + step * known[event.key][1]);
    });
  });
  fields.forEach((field, axis) => field.addEventListener("change", () => { move(axis, Number(field.value) || 0); field.value = place[axis]; }));
  return {
    open(bytes) { template.values = bytes; },
    draw() {
      views.forEach(drawView);
      describe(cross, place);
      fields.forEach((field, axis) => { if (field !== document.activeElement) field.value = place[axis]; });
    },
    goTo(at) { centerOf(tools.map, at).forEach((mm, axis) => { place[axis] = inside(mm, axis); }); },
    places: (map) => ({ columns: ["x", "y", "z"], name: (at) => centerOf(map, at).map((mm) => String(Math.round(1000 * mm) / 1000)) }),
  };
};
