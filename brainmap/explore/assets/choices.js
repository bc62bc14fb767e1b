// Every choice is in the address: those of the first view by their names, those of the second with "b." before.

const KEYS = [
  "network", "sound", "layer", "unit", "class", "method", "rules", "colors", "plane", "tuning", "grown",
  "person", "stat", "region", "mm", "vertex", "seen", "wanted",
];
const PREFIX = ["", "b."];

export function readChoices() {
  const query = new URLSearchParams(location.search);
  const views = PREFIX.map((prefix) => {
    const found = {};
    for (const key of KEYS) if (query.has(prefix + key)) found[key] = query.get(prefix + key);
    return found;
  });
  return { see: query.get("see") === "brain" ? "brain" : "look", compare: query.has("compare"), views };
}

export function writeChoices({ see, compare, views }) {
  const query = new URLSearchParams();
  if (see !== "look") query.set("see", see);
  if (compare) query.set("compare", "");
  views.slice(0, compare ? 2 : 1).forEach((view, k) => {
    for (const key of KEYS) if (view[key]) query.set(PREFIX[k] + key, view[key]);
  });
  const text = query.toString().replace("compare=&", "compare&").replace(/compare=$/, "compare");
  history.replaceState(null, "", text ? `/?${text}` : "/");
}
