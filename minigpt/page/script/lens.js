/* The logit lens: what the model would say if it stopped after a layer. */
import { mark, path, picture, shade, spread } from "./charts.js";
import { lensOf } from "./details.js";
import { shadeNode } from "./attention.js";
import { colour, pinButtonOf, plain, token, tokenOf } from "./pins.js";
import { own } from "./contexts.js";
import { current, state, view } from "./store.js";
import { $, clamp, draw, make, number, percent, powerName, range, rove, wholePercent } from "./tools.js";
import { t } from "./words.js";

const layerName = (row) => (row === 0 ? t("lens.embedding") : `h.${row - 1}`);

function showLens() {
  const context = current();
  const lens = lensOf(context);
  if (!lens) return;
  const width = $("lens-table").clientWidth;
  const label = 92;
  const shown = Math.min(context.size, Math.max(2, Math.floor((width - label) / 104)));
  const hidden = context.size - shown;
  const ids = context.tokens.slice(context.first + hidden);
  const rows = lens.tokens.map((likeliest, layer) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("code", {}, layerName(layer))),
      ...likeliest.slice(hidden).map((id, j) => {
        const p = lens.probabilities[layer * context.size + hidden + j];
        const button = pinButtonOf(context, id, " ", make("span", { class: "p" }, wholePercent(p)));
        const node = make("td", { class: "weight" }, button);
        shadeNode(node, p);
        return node;
      }),
    ),
  );
  const arrow = () => make("span", { "aria-hidden": "true" }, "→");
  const heads = ids.map((id) => make("th", { scope: "col" }, tokenOf(context, id), " ", arrow()));
  const table = make(
    "table",
    { class: "lens" },
    make("caption", { class: "unseen" }, t("lens.caption")),
    make("thead", {}, make("tr", {}, make("td", {}, t("lens.after")), ...heads)),
    make("tbody", {}, ...rows),
  );
  const tidy = rove(table, () => shown);
  $("lens-table").replaceChildren(table);
  tidy();
  const cut = context.first + hidden > 0;
  const part = cut ? t("lens.part", { shown, n: number.format(context.tokens.length) }) + " " : "";
  $("lens-caption").textContent = part + t("lens.press");
}

function showChart() {
  const context = current();
  const lens = lensOf(context);
  if (!lens) return;
  const { watched, logprobs } = lens;
  const layers = context.model.n_layer + 1;
  const isWatched = (id) => watched.has(own(context, id));
  const followed = state.pins.filter(isWatched);
  const missing = state.pins.filter((id) => !isWatched(id));
  const at = (id, layer) => logprobs[layer * watched.size + watched.get(own(context, id))];
  const ends = followed.map((id) => t("lens.ends", { word: plain(id), p: percent(Math.exp(at(id, layers - 1))) }));
  const height = 250;
  const { svg, width } = picture($("lens-chart"), height, t("lens.chart", { ends: ends.join(", ") || "–" }));
  const [left, right, top, bottom] = [62, width - 104, 14, height - 30];
  const paths = followed.map((id) => range(layers).map((layer) => at(id, layer) / Math.LN10));
  const floor = clamp(Math.floor(Math.min(-3, ...paths.flat())), -9, -3);
  const x = (layer) => left + ((right - left) * layer) / (layers - 1);
  const y = (exponent) => top + ((bottom - top) * clamp(exponent, floor, 0)) / floor;
  for (let exponent = 0; exponent >= floor; exponent--) {
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(exponent), y2: y(exponent) }));
    if (exponent % 2 === 0)
      svg.append(draw("text", { class: "axis end", x: left - 8, y: y(exponent) + 4 }, powerName(exponent)));
  }
  const every = Math.ceil((layers * 26) / (right - left));
  range(layers).forEach((layer) => {
    const name = layer === 0 ? t("lens.emb") : `h.${layer - 1}`;
    if (layer % every === 0 || layer === layers - 1)
      svg.append(draw("text", { class: "axis middle", x: x(layer), y: height - 8 }, name));
  });
  const labels = followed.map((id, i) => {
    const points = paths[i].map((exponent, layer) => [x(layer), y(exponent)]);
    svg.append(draw("path", { class: `line ${colour(id)}`, d: path(points) }));
    svg.append(...points.map(([cx, cy]) => mark(id, cx, cy, 2.5)));
    return { id, y: points[layers - 1][1] };
  });
  spread(labels, 17, top, bottom);
  for (const { id, y: height2 } of labels) {
    svg.append(mark(id, right + 15, height2, 3.5));
    svg.append(draw("text", { class: `name ${colour(id)}`, x: right + 23, y: height2 + 4 }, plain(id)));
  }
  const names = missing.flatMap((id, i) => [i ? ", " : "", token(id)]);
  $("lens-missing").replaceChildren(...(missing.length ? [t("lens.missing"), ...names, t("lens.missing-why")] : []));
}

view(["context", "details"], showLens, "lens");
view(["context", "details", "pins"], showChart, "lens");
