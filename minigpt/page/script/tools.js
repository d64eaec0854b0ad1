/* Small tools: making nodes, formatting numbers, moving the focus inside a group of buttons. */

export const $ = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en-US");
export const minus = (text) => text.replace("-", "−");
export const fixed = (value, digits = 2) => minus(value.toFixed(digits));
/* As many digits as say something: three behind the point of a small number, fewer of a large one. */
export const tidy = (value) => fixed(value, Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 10 ? 2 : 3);
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const range = (n) => Array.from({ length: n }, (_, i) => i);
export const sum = (values) => values.reduce((total, value) => total + value, 0);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("aria-")) node.setAttribute(name, value); // "false" says something there
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children); // strings become text nodes, never markup
  return node;
}
export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/* Puts `nodes` into `parent` without touching those already in place: a moved node loses the focus. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}

/* One tab stop for a whole group of buttons; the arrow keys move inside it, `columns` to a row. */
export function rove(container, columns = () => 1) {
  const buttons = () => [...container.querySelectorAll("button")];
  const choose = (chosen) => buttons().forEach((button) => (button.tabIndex = button === chosen ? 0 : -1));
  container.addEventListener("focusin", (event) => {
    if (event.target.matches("button")) choose(event.target);
  });
  container.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.indexOf(event.target);
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns(),
      ArrowDown: columns(),
      Home: -at,
      End: all.length - 1 - at,
    };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    all[at + steps[event.key]]?.focus();
  });
  return () => {
    const all = buttons();
    if (!all.length) return;
    if (!all.some((button) => button.tabIndex === 0)) choose(all[0]);
    else choose(all.find((button) => button === document.activeElement) ?? all.find((b) => b.tabIndex === 0));
  };
}

/* The same for buttons that are there already and stay. */
export function oneStop(container, columns) {
  rove(container, columns)();
  return container;
}

/* A canvas of so many CSS pixels, as sharp as the screen allows, and the pen that draws on it. */
export function canvasOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}
export const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Screen readers hear a result once things have come to rest, not at every step on the way. */
let timer = 0;
export function later(action) {
  clearTimeout(timer);
  timer = setTimeout(action, 600);
}
export const say = (text) => ($("live").textContent = text);

/* How the filled part of a slider is drawn, and how far a bar reaches. */
export function paintSlider(input) {
  input.style.setProperty("--share", (input.value - input.min) / (input.max - input.min || 1));
}
export const bar = (node, share) => node.style.setProperty("--share", clamp(share, 0, 1));

/* ------------------------------------------------------------------------------------ numbers as text */

const power = (exponent) => "10⁻" + [...String(-exponent)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
export const powerName = (exponent) =>
  ({ 0: "100%", "-1": "10%", "-2": "1%", "-3": "0.1%", "-4": "0.01%" })[exponent] ?? power(exponent);
export function percent(p) {
  if (p === 0 || p === 1) return p ? "100%" : "0%";
  if (p >= 0.9995) return "> 99.9%";
  if (p >= 0.00001) return (100 * p).toFixed(p >= 0.01 ? 1 : p >= 0.001 ? 2 : 3) + "%";
  const [digit, exponent] = p.toExponential(0).split("e"); // rounds 9.7e-6 to 1e-5
  return `${digit}·${power(exponent)}`;
}
export const wholePercent = (p) => (p < 0.0995 ? percent(p) : `${(100 * p).toFixed(0)}%`);
