// What the server is doing: its jobs with their progress, and that it is gone.

import { TAB, countPending, readState, stopJob, watch } from "./api.js";
import { fill, h } from "./dom.js";

const WORDS = {
  describe: "Opening", network: "Loading the network", sound: "Reading the sound", scores: "Listening", map: "Mapping",
  strips: "Listening with every layer", unit: "Listening with the unit", favorites: "Looking for the unit’s favorite sounds",
  neighbors: "Looking for neighbors", embedding: "Placing the sounds in a plane", brain: "Opening the maps", voxel: "Reading the scores of the voxel", rdms: "Reading RDMs",
  tuning: "Measuring the tuning", pattern: "Making the sound that drives the unit", patternsound: "Making the sound that drives the unit",
  mesh: "Reading the cortex", vertex: "Reading the scores of the vertex", background: "Reading the background", gates: "Reading the encoding models",
  wanted: "Finding the sound that the region is predicted to want", wantedsound: "Finding the sound that the region is predicted to want",
  receive: "Decoding the sound", region: "Reading the scores of the region", brainmap: "Reading the map",
};
const SHOWN_AFTER = 1; // s
let timer = null;
let place, gone;
const starting = h("p", { class: "job" }, "Starting: loading PyTorch …", h("progress", { "aria-label": "Starting" }));
export const shared = { address: "/" };

const rows = new Map(); // by the number of the job, so that a button stays while its row changes

function rowOf(job) {
  if (!rows.has(job.id)) {
    const [words, amount, bar] = [h("span", {}), h("small", {}), h("progress", {})];
    const stop = h("button", { type: "button", onclick: () => stopJob(job.id).catch(() => {}) }, "Stop");
    rows.set(job.id, { element: h("p", { class: "job" }, words, amount, bar, stop), words, amount, bar });
  }
  const row = rows.get(job.id);
  row.words.textContent = job.running ? WORDS[job.command] ?? job.command : `Waiting: ${WORDS[job.command] ?? job.command}`;
  row.amount.textContent = job.total > 1 ? `${job.label} ${job.done} of ${job.total}` : "";
  row.bar.setAttribute("aria-label", row.words.textContent);
  if (job.total > 1) { row.bar.max = job.total; row.bar.value = job.done; }
  return row.element;
}

function showRows(state) {
  const jobs = state.jobs.filter((job) => job.seconds >= SHOWN_AFTER && (job.slot === "" || job.slot.startsWith(TAB)));
  const shown = jobs.map(rowOf);
  for (const number of [...rows.keys()]) if (!jobs.some((job) => job.id === number)) rows.delete(number);
  if (state.state === "loading") shown.unshift(starting);
  if (state.state === "failed") shown.unshift(h("p", { class: "job failed" }, state.problem));
  if (shown.length !== place.children.length || shown.some((one, k) => place.children[k] !== one)) fill(place, ...shown);
}

async function look() {
  clearTimeout(timer);
  let wait = countPending() ? 250 : 2000;
  try {
    const state = await readState();
    shared.address = state.address;
    gone.hidden = true;
    document.documentElement.dataset.state = state.state;
    showRows(state);
    if (state.state !== "ready") wait = 250;
  } catch {
    showGone();
    wait = 3000;
  }
  timer = setTimeout(look, document.hidden ? 5000 : wait);
}

function showGone() {
  gone.textContent = "The explorer has ended, or was started again. Start it in the terminal with the same command, and open the address that it shows.";
  gone.hidden = false;
  fill(place);
}

export function startStatus() {
  place = document.getElementById("status");
  gone = document.getElementById("gone");
  watch("pending", () => { if (countPending() === 1) { clearTimeout(timer); timer = setTimeout(look, 300); } });
  watch("gone", showGone);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  look();
}
