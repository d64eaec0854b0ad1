/* What charts share: a drawing with a label, marks of followed words, labels that do not cover each other. */
import { colour } from "./pins.js";
import { draw } from "./tools.js";

/* Widths are read once, not while sliders move: each reading after a change makes the browser lay out the page. */
const widths = new Map();
export const forgetWidths = () => widths.clear();
export function widthOf(host) {
  if (!widths.has(host)) widths.set(host, Math.max(host.clientWidth, 200));
  return widths.get(host);
}

/* A drawing with a label for those who cannot see it; its units are CSS pixels. */
export function picture(host, height, label) {
  const width = widthOf(host);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  host.replaceChildren(svg);
  return { svg, width };
}

/* A point of a followed word: a disc; a square or a diamond where its colour is used again. */
export function mark(id, cx, cy, r, ...children) {
  const look = colour(id);
  const point = { class: `point ${look}` };
  if (look.endsWith("lap-0")) return draw("circle", { ...point, cx, cy, r }, ...children);
  const side = 1.75 * r;
  const turn = look.endsWith("lap-2") && `rotate(45 ${cx} ${cy})`;
  const place = { x: cx - side / 2, y: cy - side / 2, width: side, height: side, transform: turn };
  return draw("rect", { ...point, ...place }, ...children);
}
export const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

/* Moves labels apart, downwards and then back up, so that none covers another. */
export function spread(labels, gap, low, high) {
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((label, i) => (label.y = Math.max(label.y, i ? labels[i - 1].y + gap : low)));
  for (let i = labels.length - 1, limit = high; i >= 0; i--, limit = labels[i + 1].y - gap)
    labels[i].y = Math.min(labels[i].y, limit);
}

export const shade = (weight) => Math.sqrt(weight); // so that a weight of 1 % can still be seen; see the scale
