// The page: one view or two side by side, of what a network does with a sound or of the brain.

import { ask } from "./api.js";
import { readChoices, writeChoices } from "./choices.js";
import { fill, h } from "./dom.js";
import { setColors } from "./figures.js";
import { BrainView } from "./brain.js";
import { LookView } from "./look.js";
import { shared, startStatus } from "./status.js";

const SEES = { look: ["Look and listen", LookView], brain: ["Click the brain", BrainView] };
const choices = readChoices();
const place = document.getElementById("views");
let about = null;
let views = [];

function keep() { writeChoices(choices); }

function build() {
  views.forEach((view) => view.remove());
  const [, View] = SEES[choices.see] ?? SEES.look;
  const n = choices.compare ? 2 : 1;
  place.classList.toggle("two", n === 2);
  views = Array.from({ length: n }, (_, k) => new View({
    about,
    choice: choices.views[k],
    number: k,
    names: n === 2 ? ["View A", "View B"][k] : "",
    keep,
  }));
  fill(place, ...views.map((view) => view.element));
  const compare = document.getElementById("compare");
  compare.setAttribute("aria-pressed", String(choices.compare));
  compare.textContent = choices.compare ? "One view" : "Compare";
  drawTabs();
  keep();
}

function drawTabs() {
  const names = Object.entries(SEES).filter(([see]) => see !== "brain" || about.brain);
  const tabs = names.length < 2 ? [] : names.map(([see, [words]]) => h("button", {
    type: "button",
    "aria-pressed": String(see === choices.see),
    onclick: () => { choices.see = see; build(); },
  }, words));
  fill(document.getElementById("tabs"), ...tabs);
}

async function copyLink() {
  const query = location.search.replace(/^\?/, "");
  const address = `${location.origin}${shared.address}${query ? `&${query}` : ""}`;
  const button = document.getElementById("link");
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = "Copied";
  } catch {
    window.prompt("The link to this view, for this machine:", address);
  }
  setTimeout(() => { button.textContent = "Copy link"; }, 1500);
}

async function begin() {
  startStatus();
  document.getElementById("link").addEventListener("click", copyLink);
  try {
    about = await ask("describe");
  } catch (error) {
    fill(place, h("p", { class: "problem" }, error.message));
    return;
  }
  setColors(about.colors);
  document.getElementById("question").textContent = about.question;
  if (about.simulated) {
    const banner = document.getElementById("simulated");
    banner.textContent = "The brain data of this study are simulated.";
    banner.hidden = false;
  }
  document.getElementById("compare").addEventListener("click", () => {
    choices.compare = !choices.compare;
    if (choices.compare && !Object.keys(choices.views[1]).length) choices.views[1] = { ...choices.views[0] };
    build();
  });
  build();
}

begin();
