/* A vector as a strip of bars, with its largest numbers beneath: each leads to where it came from. */
import { length } from "./arithmetic.js";
import { $, canvasOf, clamp, colourOf, fixed, make, oneStop, tidy } from "./tools.js";
import { t } from "./words.js";

let colours = []; // of what is above and below zero, of the line between, and of the ground
let shades = [[], []];
export function readColours() {
  colours = [colourOf("--accent"), colourOf("--counter"), colourOf("--line"), colourOf("--well")];
  shades = ["--accent-rgb", "--counter-rgb"].map((name) => colourOf(name).split(" ").map(Number));
}
export const shadesOf = () => shades;
export const ground = () => colours[3];

export const largestOf = (...vectors) => Math.max(1e-30, ...vectors.map((vector) => vector.reduce((most, x) => Math.max(most, Math.abs(x)), 0)));

/* The places of the `n` largest numbers by size, the largest first. */
export function strongest(vector, n) {
  return [...vector.keys()].sort((a, b) => Math.abs(vector[b]) - Math.abs(vector[a])).slice(0, n);
}

/* What opens the panel; panel.js puts itself here, because strips stand in the panel too. */
let open = null;
export function openBy(opener) {
  open = opener;
}

/* A number that can be followed to where it came from; a mere number where there is nothing to follow. */
export function figure(text, origin, name = "") {
  if (!origin) return make("span", { class: "figure" }, text);
  const button = make("button", { type: "button", class: "figure" }, text);
  if (name) button.setAttribute("aria-label", `${name}: ${text}`);
  button.addEventListener("click", () => open(origin, button));
  return button;
}

/* One vector. `origin(i)` says where its i-th number came from; `largest` is the height of the strip. */
export function strip({ name, words = "", vector, largest, origin = null, height = 46, numbers = 6 }) {
  const canvas = make("canvas", {
    role: "img",
    "aria-label": t("vector.label", { name, n: vector.length, largest: fixed(largestOf(vector)) }),
  });
  const label = make(
    "p",
    { class: "strip-label" },
    make("code", {}, name),
    " ",
    make("span", {}, words),
    make("span", { class: "length" }, t("vector.length", { length: length(vector).toFixed(2) })),
  );
  const follow = (i) => ({ ...origin(i), of: vector.length }); // so that the panel can go on to the others
  const shown = strongest(vector, numbers);
  const items = shown.map((i) => {
    const text = [make("sub", {}, String(i)), tidy(vector[i])];
    if (!origin) return make("span", { class: "figure" }, ...text);
    const button = make("button", { type: "button", class: "figure", title: `${name}[${i}]` }, ...text);
    button.addEventListener("click", () => open(follow(i), button));
    return button;
  });
  const list = items.flatMap((item) => [item, " "]);
  const row = numbers ? [oneStop(make("p", { class: "strip-numbers" }, make("span", {}, ...list), "…"))] : [];
  if (origin) {
    canvas.classList.add("pressable");
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const i = Math.floor(((event.clientX - box.left) / box.width) * vector.length);
      open(follow(clamp(i, 0, vector.length - 1)), items[0]);
    });
  }
  const node = make("div", { class: "strip" }, label, canvas, ...row);
  node.paint = (width = node.clientWidth) => paint(canvas, vector, largest ?? largestOf(vector), width, height);
  return node;
}

/* Puts strips into a place, and draws them as wide as it is. */
export function place(host, ...strips) {
  const node = typeof host === "string" ? $(host) : host;
  node.replaceChildren(...strips);
  const width = strips[0]?.clientWidth; // read once: all are as wide, and reading makes the browser lay out the page
  for (const each of strips) each.paint?.(width);
}

/* Heights grow with the square root, so that one very large number does not flatten all others. */
function paint(canvas, vector, largest, width, height) {
  const pen = canvasOf(canvas, width, height);
  const step = width / vector.length;
  const middle = height / 2;
  pen.fillStyle = colours[2];
  pen.fillRect(0, middle - 0.5, width, 1);
  vector.forEach((value, i) => {
    const reach = Math.sqrt(Math.min(1, Math.abs(value) / largest)) * (middle - 1);
    pen.fillStyle = colours[value > 0 ? 0 : 1];
    pen.fillRect(i * step, value > 0 ? middle - reach : middle, Math.max(step * 0.8, 0.6), reach);
  });
}
