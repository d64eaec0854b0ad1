/* Logits: how many tokens get which score, and where the followed words stand in each context. */
import { mark, path, picture, widthOf } from "./charts.js";
import { own } from "./contexts.js";
import { brief, short } from "./head.js";
import { colour, plain, token, tokenOf } from "./pins.js";
import { contexts, current, state, view } from "./store.js";
import { $, clamp, draw, fixed, make, minus, number, oneStop, range } from "./tools.js";
import { figure } from "./vectors.js";
import { nodes, t } from "./words.js";

const logitOf = (context, id) => context.logits[own(context, id)]; // undefined if its vocabulary lacks the token

function showHistogram() {
  const lows = contexts.map(({ logits, order }) => logits[order[order.length - 1]]);
  const highs = contexts.map(({ logits, order }) => logits[order[0]]);
  const [low, high] = [Math.min(...lows), Math.max(...highs)];
  const pad = (high - low || 1) * 0.02;
  const room = widthOf($("histogram")) - 12;
  const x = (value) => 6 + (room * (value - low + pad)) / (high - low + 2 * pad);
  // Labels end at their line and stand the higher the further right, so that no line crosses a label.
  const labels = [];
  for (const id of [...state.pins].sort((a, b) => contexts[0].logits[a] - contexts[0].logits[b])) {
    const at = x(contexts[0].logits[id]);
    const start = at - plain(id).length * 8 - 14;
    labels.push({
      id,
      at,
      lane: Math.max(-1, ...labels.filter((other) => other.at > start).map((other) => other.lane)) + 1,
    });
  }
  const lanes = Math.max(0, ...labels.map((label) => label.lane + 1));
  const [above, each, below] = [8 + lanes * 17, 116, 34];
  const texts = contexts.map((context, i) =>
    t("logits.label", { context: short(context), n: number.format(context.logits.length), low: fixed(lows[i]), high: fixed(highs[i]) }),
  );
  const { svg, width } = picture($("histogram"), above + each * contexts.length + below, texts.join("; "));
  const base = (i) => above + each * (i + 1) - 14;
  const bins = Math.min(160, Math.floor(width / 4));
  contexts.forEach((context, i) => {
    const counts = new Uint32Array(bins);
    for (const value of context.logits)
      counts[Math.min(bins - 1, Math.floor(((x(value) - 6) / (width - 12)) * bins))]++;
    const most = Math.max(...counts);
    const bar = (width - 12) / bins;
    const d = range(bins)
      .filter((b) => counts[b])
      .map(
        (b) =>
          `M${(6 + b * bar).toFixed(1)} ${base(i)}v${(-Math.max(1, (each - 46) * Math.sqrt(counts[b] / most))).toFixed(1)}h${(bar * 0.8).toFixed(1)}V${base(i)}Z`,
      )
      .join("");
    svg.append(draw("path", { class: i === state.context ? "bars" : "bars aside", d }));
    svg.append(draw("line", { class: "base", x1: 0, x2: width, y1: base(i), y2: base(i) }));
    if (contexts.length > 1)
      svg.append(draw("text", { class: "row-name", x: 0, y: base(i) - each + 36 }, short(context)));
  });
  for (const { id, at, lane } of labels) {
    const points = contexts.flatMap((context, i) => (logitOf(context, id) === undefined ? [] : [[x(logitOf(context, id)), base(i), context]]));
    const y = above - 6 - lane * 17;
    svg.append(draw("path", { class: `lead ${colour(id)}`, d: path([[at, y - 9], ...points]) }));
    svg.append(
      draw("text", { class: `name end ${colour(id)}`, x: Math.max(at - 6, plain(id).length * 8), y }, plain(id)),
    );
    for (const [cx, cy, context] of points) {
      const values = { word: plain(id), context: short(context), logit: fixed(logitOf(context, id)) };
      svg.append(mark(id, cx, cy, 4.5, draw("title", {}, t("logits.point", values))));
    }
  }
  const step =
    [0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 1e4, 1e6].find((s) => ((high - low) / s) * 44 < width) ?? high - low;
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    const y = base(contexts.length - 1);
    svg.append(draw("line", { class: "tick", x1: x(value), x2: x(value), y1: y, y2: y + 5 }));
    svg.append(
      draw(
        "text",
        { class: "axis middle", x: clamp(x(value), 14, width - 14), y: y + 19 },
        minus(String(Number(value.toFixed(2)))),
      ),
    );
  }
  const { logits, order } = current();
  const mean = logits.reduce((total, value) => total + value, 0) / logits.length;
  const values = { context: short(current()), mean: fixed(mean), largest: fixed(highs[state.context]) };
  $("histogram-caption").replaceChildren(
    t("logits.heights"),
    ...(contexts.length > 1 ? [t("logits.lines")] : []),
    ...nodes("logits.mean", { ...values, token: tokenOf(current(), order[0]) }),
    ...bunch(current()),
  );
}

/* Many tokens with one and the same logit stand as a lone bar: nothing ever told them apart. */
const BUNCH = 100;
function bunch({ logits, model }) {
  const unseen = range(logits.length).filter(model.isUnseen);
  if (unseen.length < BUNCH) return [];
  const values = { n: number.format(unseen.length), logit: fixed(logits[unseen[0]]) };
  return [" ", t("logits.bunch", values)];
}

function showMoves() {
  if (!state.pins.length) {
    $("moves").replaceChildren(
      make("p", { class: "caption" }, t("logits.nothing")),
    );
    return;
  }
  const two = contexts.length === 2 && contexts[0].model === contexts[1].model;
  const heads = contexts.map((context) => make("th", { scope: "col", translate: "no" }, brief(context)));
  const rows = state.pins.map((id) => {
    const cells = contexts.map((context) => {
      const here = own(context, id);
      if (here < 0) return make("td", {}, t("logits.absent"));
      const place = make("span", { class: "rank" }, `#${number.format(context.rank[here])}`);
      return make("td", {}, figureOf(context, here), " ", place);
    });
    const change = two ? contexts[1].logits[id] - contexts[0].logits[id] : 0;
    if (two) cells.push(make("td", { class: "change" }, (change > 0 ? "+" : "") + fixed(change)));
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, make("span", { class: `dot ${colour(id)}` }), token(id)),
      ...cells,
    );
  });
  $("moves").replaceChildren(
    make(
      "table",
      { class: "moves" },
      make("caption", { class: "unseen" }, t("logits.moves")),
      make(
        "thead",
        {},
        make("tr", {}, make("td"), ...heads, ...(two ? [make("th", { scope: "col" }, t("logits.change"))] : [])),
      ),
      make("tbody", {}, ...rows),
    ),
  );
  oneStop($("moves").firstChild, () => contexts.length);
}

function figureOf(context, id) {
  const name = t("origin.of-logit", { word: context.plain(id) });
  return figure(fixed(context.logits[id]), { kind: "logit", token: id, context }, name);
}

view(["context", "pins"], showHistogram, "logits");
view(["context", "pins"], showMoves, "logits");
