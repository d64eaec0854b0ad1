/* The script of the page that `minigpt PROMPT --html FILE` writes and `minigpt live` serves.

It reads the numbers from the JSON in #data, draws every view, and computes softmax over the whole vocabulary
in double precision whenever a slider moves. Text reaches the page as text nodes only, so a prompt or a token
that looks like markup stays text. Styles are set through the object model, because the page's
Content-Security-Policy forbids style attributes.

For a console, a notebook or a test, `window.minigpt` offers:
  contexts                 [{ prompt, tokens, logits: Float32Array }]
  settings                 { temperature, topK, topP, minP }, a copy
  set({ temperature: 0.5 }) changes settings as the sliders do; a RangeError if one is out of range
  probabilities(context=0) Float64Array by token id: after temperature, before any cut
  kept(context=0)          Float64Array by token id: after top-k, top-p and min-p, adding up to 1
  draw(dice)               the next token for a number between 0 and 1, and where its bar begins and ends
  origin({ kind, … })      where a number of the chosen context came from: { value, computed }
*/
import { readFlip, swatches } from "./attention.js";
import { connectBlock } from "./block.js";
import { forgetWidths } from "./charts.js";
import { setContexts, sharpestHead } from "./contexts.js";
import { layersOf } from "./details.js";
import "./code.js";
import "./tokens.js";
import "./embeddings.js";
import "./mlp.js";
import { connectStream } from "./stream.js";
import "./final.js";
import "./logits.js";
import "./lens.js";
import { connectParts } from "./parts.js";
import "./pushes.js";
import { connectLive } from "./live.js";
import { connectMap } from "./map.js";
import { connectNext, nextToken } from "./next.js";
import { explain } from "./origins.js";
import { connectPanel } from "./panel.js";
import { connectPins } from "./pins.js";
import { connectSettings, set, shape } from "./settings.js";
import { connectSoftmax, forgetViews } from "./softmax.js";
import { contexts, current, settings, state, touch } from "./store.js";
import { $ } from "./tools.js";
import { readColours } from "./vectors.js";
import { data, fillDocument, speak, spoken } from "./words.js";

/* Everything again: after other colours, another width or another language. */
function redraw() {
  readColours();
  readFlip();
  forgetWidths();
  for (const scale of document.querySelectorAll(".scale")) scale.replaceChildren(...swatches());
  touch("everything");
  measureBars();
}

/* On a narrow screen the map and the contexts stick to the top, and the sliders stop below them. */
function measureBars() {
  const [map, choice] = [$("map-of-all"), $("contexts")].map((bar) =>
    getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0,
  );
  document.documentElement.style.setProperty("--map", `${map}px`);
  document.documentElement.style.setProperty("--bar", `${map + choice}px`);
}

function connectScreen() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (width === document.documentElement.clientWidth) return; // a phone's address bar changes the height only
    width = document.documentElement.clientWidth;
    requestAnimationFrame(redraw);
  });
}

function connectLanguage() {
  for (const radio of document.querySelectorAll("input[name=language]")) {
    radio.checked = radio.value === spoken();
    radio.addEventListener("change", () => {
      speak(radio.value);
      forgetViews();
      fillDocument(current().model);
      redraw();
    });
  }
}

setContexts(data.contexts);
fillDocument(current().model);
for (const connect of [connectPanel, connectPins, connectBlock, connectStream, connectSettings, connectSoftmax, connectNext, connectParts, connectScreen, connectLanguage, connectMap, connectLive])
  connect();
Object.assign(state, sharpestHead(current(), layersOf(current())));
redraw();

window.minigpt = Object.freeze({
  get contexts() {
    return contexts.map(({ prompt, tokens, logits }) => ({ prompt, tokens, logits }));
  },
  get settings() {
    return { ...settings };
  },
  set,
  probabilities(i = 0) {
    shape(contexts[i]);
    return contexts[i].probabilities.slice();
  },
  kept(i = 0) {
    const { kept, keptMass } = shape(contexts[i]);
    const { rank, probabilities } = contexts[i];
    return probabilities.map((p, id) => (rank[id] <= kept ? p / keptMass : 0));
  },
  draw: nextToken,
  origin(origin) {
    const found = explain(origin, current());
    return found && { value: found.value, computed: found.computed };
  },
});
