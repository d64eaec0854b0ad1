/* Rank against probability, all tokens, both axes logarithmic: the whole distribution as one line. */
import { mark, path, picture } from "./charts.js";
import { own } from "./contexts.js";
import { short } from "./head.js";
import { plain } from "./pins.js";
import { isCut, shapes } from "./settings.js";
import { contexts, current, state } from "./store.js";
import { $, clamp, draw, number, percent, powerName, range } from "./tools.js";
import { t } from "./words.js";

export function showCurve() {
  const height = 270;
  const { kept } = shapes[state.context];
  const { order, rank, probabilities } = current();
  const size = order.length;
  const at = (place) => percent(probabilities[order[Math.min(place, size) - 1]]);
  const label = t("curve.label", { context: short(current()), first: at(1), hundredth: at(100) });
  const { svg, width } = picture($("curve"), height, label);
  const [left, right, top, bottom] = [62, width - 10, 12, height - 40];
  const [floor, last] = [-9, Math.log10(size)];
  const x = (place) => left + ((right - left) * Math.log10(place)) / last;
  const y = (p) => top + ((bottom - top) * clamp(p > 0 ? Math.log10(p) : -Infinity, floor, 0)) / floor;
  for (let exponent = 0; exponent >= floor; exponent--) {
    const at = y(10 ** exponent);
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    if (exponent % 2 === 0)
      svg.append(draw("text", { class: "axis end", x: left - 8, y: at + 4 }, powerName(exponent)));
  }
  for (let place = 1; place <= size; place *= 10) {
    svg.append(draw("line", { class: "tick", x1: x(place), x2: x(place), y1: bottom, y2: bottom + 5 }));
    svg.append(draw("text", { class: "axis middle", x: x(place), y: bottom + 19 }, number.format(place)));
  }
  svg.append(draw("text", { class: "axis end", x: right, y: height - 4 }, t("curve.rank")));
  const ranks = [...new Set(range(161).map((i) => Math.round(size ** (i / 160))))];
  const line = ({ order: ids, probabilities: p }) => {
    const within = ranks.filter((place) => place <= ids.length);
    const drawn = within.findIndex((place) => p[ids[place - 1]] < 10 ** floor); // below the axis nothing is drawn
    return within.slice(0, drawn < 0 ? size : drawn + 1).map((place) => [x(place), y(p[ids[place - 1]])]);
  };
  const points = line(current());
  const cutAt = x(Math.max(kept, 1.06));
  const inside = points.filter(([at]) => at <= cutAt);
  if (inside.length > 1) svg.append(draw("path", { class: "area", d: `${path(inside)}V${bottom}H${left}Z` }));
  contexts.forEach((context, i) => {
    if (i !== state.context) svg.append(draw("path", { class: "line other", d: path(line(context)) }));
  });
  svg.append(draw("path", { class: "line main", d: path(points) }));
  if (isCut()) {
    svg.append(draw("line", { class: "cut-line", x1: cutAt, x2: cutAt, y1: top, y2: bottom }));
    const near = cutAt > right - 90;
    svg.append(
      draw(
        "text",
        { class: near ? "axis end" : "axis", x: cutAt + (near ? -6 : 6), y: top + 10 },
        t("curve.kept", { n: number.format(kept) }),
      ),
    );
  }
  for (const id of state.pins) {
    const here = own(current(), id);
    if (here < 0) continue;
    const p = probabilities[here];
    svg.append(mark(id, x(rank[here]), y(p), 5, draw("title", {}, `${plain(id)} ${percent(p)}`)));
  }
  const others = contexts.length > 1 ? ` ${t("curve.others")}` : "";
  $("curve-caption").textContent = t("curve.caption", { context: short(current()) }) + others;
}
