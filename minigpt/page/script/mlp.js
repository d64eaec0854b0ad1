/* The MLP: the hidden units that fire most at this position, and what they speak for. */
import { path, picture } from "./charts.js";
import { block, openedAt } from "./details.js";
import { tokenOf } from "./pins.js";
import { current, state, view } from "./store.js";
import { $, clamp, draw, fixed, make, number, oneStop, range } from "./tools.js";
import { figure } from "./vectors.js";
import { t } from "./words.js";

function showUnits() {
  const context = current();
  const opened = block(context);
  if (!opened) return;
  const { units } = opened;
  const [layer, at] = [state.layer, openedAt()];
  const rows = units.writes.map((tokens, i) => {
    const unit = units.ids[i];
    const pre = figure(fixed(units.pre[i]), { kind: "linear", name: "mlp.pre", layer, position: at, index: unit, opened: at });
    const act = figure(fixed(units.act[i]), { kind: "act", layer, position: at, unit });
    const words = tokens.flatMap((id, j) => [j ? " " : "", tokenOf(context, id)]);
    return make("tr", {}, make("th", { scope: "row" }, make("code", {}, String(unit))), make("td", {}, pre), make("td", {}, act), make("td", { class: "words" }, ...words));
  });
  const heads = ["mlp.unit", "mlp.pre", "mlp.act", "mlp.writes"].map((key) => make("th", { scope: "col" }, t(key)));
  const caption = make("caption", { class: "unseen" }, t("mlp.caption"));
  $("units").replaceChildren(make("table", { class: "terms units" }, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
  oneStop($("units").firstChild, () => 2);
  const counts = { n: number.format(units.count), positive: number.format(units.positive), drawn: units.ids.length };
  $("units-words").textContent = t("mlp.words", counts);
  showCurve(units);
}

/* Each unit as a point: its sum before the activation, and what the activation makes of it. */
function showCurve({ pre, act, ids }) {
  const height = 190;
  const { svg, width } = picture($("gelu"), height, t("mlp.curve", { n: ids.length, largest: fixed(act[0]) }));
  const [left, right, top, bottom] = [34, width - 8, 10, height - 24];
  const [low, high] = [Math.min(-4, ...pre), Math.max(1, ...pre) + 0.2];
  const most = Math.max(high, ...act);
  const x = (value) => left + ((right - left) * (value - low)) / (high - low);
  const y = (value) => bottom - 10 - ((bottom - 10 - top) * value) / most;
  for (const value of [0, act[0]]) {
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { class: "axis end", x: left - 6, y: y(value) + 4 }, fixed(value, value ? 1 : 0)));
  }
  for (const value of [low, 0, high])
    svg.append(draw("text", { class: "axis middle", x: clamp(x(value), 16, width - 14), y: height - 6 }, fixed(value, value ? 1 : 0)));
  svg.append(draw("path", { class: "line main thin", d: path(range(121).map((i) => low + ((high - low) * i) / 120).map((value) => [x(value), y(gelu(value))])) }));
  ids.forEach((id, i) => {
    const named = draw("title", {}, `${id}: ${fixed(pre[i])} → ${fixed(act[i])}`);
    svg.append(draw("circle", { class: i < 4 ? "unit strongest" : "unit", cx: x(pre[i]), cy: y(act[i]), r: i < 4 ? 4.5 : 3 }, named));
  });
}
const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

view(["context", "position", "head", "details"], showUnits, "one-block");
