/* The settings that shape the distribution: temperature and the cuts, as sliders and from a console. */
import { cuts, entropyOf, softmax } from "./arithmetic.js";
import { main } from "./contexts.js";
import { contexts, current, initial, settings, state, touch, view } from "./store.js";
import { $, later, minus, number, paintSlider, percent, say } from "./tools.js";
import { t } from "./words.js";

const size = main.vocab_size;
const OFF = () => t("softmax.off");

/* The distribution of each context under the settings: how open it is, and what the cuts leave. */
export const shapes = [];
export function shape(context) {
  softmax(context.logits, context.order, settings.temperature, context.probabilities);
  return { entropy: entropyOf(context.probabilities), ...cuts(context, settings) };
}
export const isCut = () => (settings.topK > 0 && settings.topK < size) || settings.topP < 1 || settings.minP > 0;

// Top-k walks through round numbers: a slider over 50,257 equal steps could not be set to 40.
const STOPS = [
  ...new Set([
    ...[
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 500, 700, 1000,
      2000, 3000, 5000, 10000, 20000, 50000,
    ].filter((k) => k < size),
    ...(initial.topK > 0 && initial.topK < size ? [initial.topK] : []),
  ]),
].sort((a, b) => a - b);

/* A share between 0 and 1, with as many digits as it takes. */
function shareText(p) {
  if (p < 0.01) return minus(String(Number(p.toPrecision(2))));
  const digits = [2, 3, 4].find((n) => Number(p.toFixed(n)) === p) ?? 4;
  return p < 1 && Number(p.toFixed(digits)) === 1 ? "> 0.9999" : p.toFixed(digits);
}

const SLIDERS = {
  temperature: {
    id: "temperature",
    range: "0 or more",
    valid: (value) => value >= 0,
    text: (value) => (value === 0 ? "0 · argmax" : value < 0.01 || value >= 1e4 ? value.toExponential(0) : value.toFixed(2)),
  },
  topK: {
    id: "top-k",
    range: "a whole number, 0 or more",
    valid: (k) => Number.isInteger(k) && k >= 0,
    text: (k) => (k === 0 || k >= size ? OFF() : number.format(k)),
    toValue: (k) => (k === 0 || k >= size ? STOPS.length : STOPS.findIndex((stop) => stop >= k)),
    fromValue: (value) => STOPS[value] ?? 0,
  },
  topP: {
    id: "top-p",
    range: "above 0, and at most 1",
    valid: (p) => p > 0 && p <= 1,
    text: (p) => (p === 1 ? OFF() : shareText(p)),
  },
  minP: {
    id: "min-p",
    range: "between 0 and 1",
    valid: (p) => p >= 0 && p <= 1,
    text: (p) => (p === 0 ? OFF() : shareText(p)),
  },
};

function showControls() {
  for (const [name, { id, text, toValue = Number }] of Object.entries(SLIDERS)) {
    const input = $(id);
    const value = toValue(settings[name]);
    // Only when it differs: a slider being dragged must not be written to.
    if (Number(input.value) !== value) input.value = value;
    input.setAttribute("aria-valuetext", text(settings[name]));
    $(`${id}-value`).textContent = text(settings[name]);
    input.parentNode.classList.toggle("off", text(settings[name]) === OFF());
    paintSlider(input);
  }
  const { temperature } = settings;
  const remark = REMARKS.find(([limit]) => temperature < limit)[1];
  $("remark").textContent = t(temperature === 0 ? "softmax.zero" : remark);
}
const REMARKS = [[0.3, "softmax.cold"], [0.995, "softmax.below"], [1.005, "softmax.one"], [Infinity, "softmax.above"]];

let frame = 0;
export function set(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (!Object.hasOwn(SLIDERS, name)) throw new RangeError(`no setting is called ${name}`);
    if (!Number.isFinite(value) || !SLIDERS[name].valid(value))
      throw new RangeError(`${name} is ${value}; it must be ${SLIDERS[name].range}`);
  }
  Object.assign(settings, changes);
  frame = frame || requestAnimationFrame(() => {
    frame = 0;
    touch("settings");
  });
  later(() => {
    const context = current();
    const best = context.order[0];
    const { entropy, kept } = shapes[state.context];
    const values = { temperature: SLIDERS.temperature.text(settings.temperature), word: context.plain(best), p: percent(context.probabilities[best]), entropy: entropy.toFixed(1) };
    say(t("softmax.said", values) + (isCut() ? ` ${t("softmax.said-kept", { n: number.format(kept) })}` : ""));
  });
}

export function connectSettings() {
  $("temperature").max = Math.max(2, initial.temperature);
  $("marks").hidden = initial.temperature > 2;
  $("top-k").max = STOPS.length;
  for (const [name, { id, fromValue = Number }] of Object.entries(SLIDERS)) {
    $(id).addEventListener("input", (event) => set({ [name]: fromValue(Number(event.target.value)) }));
  }
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", (event) => {
    event.preventDefault();
    set(initial);
  });
}

view(["settings"], () => {
  shapes.splice(0, shapes.length, ...contexts.map(shape));
  showControls();
});
