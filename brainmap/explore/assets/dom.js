// Elements, made without HTML text: whatever a name holds, it stays text.

export function h(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function option(value, text = value, chosen = false) {
  return h("option", { value, selected: chosen }, text);
}

/** A number as people write it: three significant digits, a true minus sign. */
export function write(number, digits = 3) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  const text = size !== 0 && (size < 0.001 || size >= 1e6) ? number.toExponential(digits - 1) : String(Number(number.toPrecision(digits)));
  return text.replace("-", "−").replace("e+", "e");
}

export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 120000); // a browser that is busy reads the blob late
}

export function saveTable(columns, rows, name) {
  const cell = (value) => (value === null || value === undefined || Number.isNaN(value) ? "n/a" : String(value).replace(/[\t\r\n]/g, " "));
  const lines = [columns, ...rows].map((row) => row.map(cell).join("\t"));
  save(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }), `${name}.tsv`);
}

/** A name that a file may have. */
export function fileName(...parts) {
  return parts.filter(Boolean).join("_").replace(/[^\w.+-]+/g, "-").slice(0, 120);
}
