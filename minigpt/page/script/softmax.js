/* Softmax: the likeliest tokens of each context, and what the sliders make of them. */
import { common, own } from "./contexts.js";
import { showCurve } from "./curve.js";
import { short, showOpenings, title } from "./head.js";
import { pinButtonOf } from "./pins.js";
import { isCut, shapes } from "./settings.js";
import { contexts, current, state, view } from "./store.js";
import { $, arrange, bar, fixed, make, number, percent, rove, sum } from "./tools.js";
import { figure } from "./vectors.js";
import { nodes, t } from "./words.js";

let views = [];

function distribution(context) {
  const stats = make("p", { class: "stats" });
  const mass = make("div", { class: "mass", "aria-hidden": "true" });
  const body = make("tbody");
  const scale = make("span", { "aria-hidden": "true" });
  const table = make(
    "table",
    { class: "next" },
    make("caption", { class: "unseen" }, t("softmax.caption", { context: short(context) })),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        make("th", { scope: "col" }, t("softmax.token")),
        make("th", { scope: "col", class: "logit" }, t("softmax.logit")),
        make("th", { scope: "col", class: "probability" }, make("div", {}, scale, make("span", {}, t("softmax.probability")))),
        make("th", { scope: "col", class: "after" }, t("softmax.kept")),
      ),
    ),
    body,
  );
  const restName = make("th", { scope: "row", colspan: 2 });
  const rest = make(
    "tr",
    { class: "rest" },
    restName,
    make("td", { class: "probability" }),
    make("td", { class: "after" }),
  );
  const tidy = rove(body, () => 3); // the word, its logit, its probability
  const node = make(
    "article",
    { class: "distribution" },
    make(
      "h3",
      { translate: "no" },
      ...(contexts.some(({ model }) => model !== context.model) ? [make("span", { class: "by" }, context.model.name)] : []),
      title(context, 60),
      make("span", { class: "blank", "aria-hidden": "true" }, "\u00a0"),
    ),
    mass,
    stats,
    table,
  );
  return { context, node, stats, mass, body, scale, table, rest, restName, tidy, rows: new Map() };
}

function rowFor(view, id) {
  if (!view.rows.has(id)) {
    const { context } = view;
    const { logits, rank } = context;
    const word = context.plain(id);
    const fill = make("span", { class: "bar", "aria-hidden": "true" });
    const probability = figure("", { kind: "probability", token: id, context }, t("origin.of-probability", { word }));
    const value = make("span", { class: "value" }, probability);
    const after = make("td", { class: "after" });
    const score = figure(fixed(logits[id]), { kind: "logit", token: id, context }, t("origin.of-logit", { word }));
    const logit = make("td", { class: "logit" }, score);
    const button = pinButtonOf(context, id, make("span", { class: "rank" }, `#${number.format(rank[id])}`));
    const node = make(
      "tr",
      { "data-token": id },
      make("th", { scope: "row" }, button),
      logit,
      make("td", { class: "probability" }, make("div", {}, fill, value)),
      after,
    );
    view.rows.set(id, { id, node, fill, probability, after, word });
  }
  return view.rows.get(id);
}

/* How much a whole bar stands for: the same for all contexts, so that bars compare. */
function fullBar() {
  const largest = Math.max(...contexts.map(({ probabilities, order }) => probabilities[order[0]]));
  return [0.1, 0.25, 0.5].find((limit) => largest <= limit) ?? 1;
}

function showDistributions() {
  const cut = isCut();
  const full = fullBar();
  views.forEach((each, i) => showDistribution(each, shapes[i], cut, full));
  showCurve();
}

function showDistribution(view, { kept, keptMass, entropy }, cut, full) {
  const { context, body, rest, restName } = view;
  const { order, rank, probabilities: p } = context;
  const first = [...order.slice(0, state.rows)];
  const pinned = state.pins.map((id) => own(context, id)).filter((id) => id >= 0 && rank[id] > state.rows);
  const shown = [...first, ...pinned.sort((a, b) => rank[a] - rank[b])];
  const rows = shown.map((id) => rowFor(view, id));
  for (const { id, node, fill, probability, after, word } of rows) {
    const stays = rank[id] <= kept;
    const text = percent(p[id]);
    bar(fill, p[id] / full);
    if (probability.textContent !== text) {
      probability.textContent = text;
      probability.setAttribute("aria-label", `${t("origin.of-probability", { word })}: ${text}`);
    }
    after.textContent = stays ? percent(p[id] / keptMass) : t("softmax.cut");
    node.classList.toggle("cut", !stays);
    node.classList.toggle("far", rank[id] > state.rows);
  }
  const restMass = Math.max(0, 1 - sum(shown.map((id) => p[id])));
  const keptShown = sum(shown.filter((id) => rank[id] <= kept).map((id) => p[id]));
  restName.textContent = t("softmax.others", { n: number.format(order.length - shown.length) });
  rest.children[1].textContent = percent(restMass < 1e-12 ? 0 : restMass);
  rest.children[2].textContent = percent(
    Math.max(0, keptMass - keptShown) / keptMass < 1e-12 ? 0 : (keptMass - keptShown) / keptMass,
  );
  arrange(body, [...rows.map(({ node }) => node), rest]);
  view.tidy();
  view.table.classList.toggle("uncut", !cut);
  view.scale.textContent = `0–${100 * full}%`; // how far the bars reach
  showStats(view, entropy, kept, keptMass, cut);
  showMass(view, first, kept);
}

function showStats(view, entropy, kept, keptMass, cut) {
  const choices = 2 ** entropy;
  const strong = (text) => make("strong", {}, text);
  const open = choices < 9.95 ? choices.toFixed(1) : number.format(Math.round(choices));
  const told = nodes(choices < 1.05 ? "softmax.stats-one" : "softmax.stats", { bits: strong(t("softmax.bits", { n: entropy.toFixed(2) })), n: strong(open) });
  const cutWords = { n: strong(number.format(kept)), share: percent(keptMass) };
  view.stats.replaceChildren(...told, ...(cut ? [" ", ...nodes(kept === 1 ? "softmax.keep-one" : "softmax.keep", cutWords)] : []));
}

/* All of the probability as one bar: the tokens of the table one by one, then everything else. */
function showMass(view, ids, kept) {
  const { rank, probabilities: p } = view.context;
  if (!view.mass.children.length) view.mass.append(make("span", { class: "others" }));
  while (view.mass.children.length <= ids.length) view.mass.prepend(make("span"));
  ids.forEach((id, i) => {
    const part = view.mass.children[i];
    part.style.setProperty("--share", p[id]);
    part.className = rank[id] <= kept ? "" : "cut";
    const text = p[id] > 0.09 ? view.context.plain(id) : "";
    if (part.textContent !== text) part.textContent = text;
  });
  const others = 1 - sum(ids.map((id) => p[id]));
  view.mass.lastChild.textContent = others > 0.3 ? t("softmax.all-others", { p: percent(others) }) : "";
}

const MOST_ROWS = 320;

export function connectSoftmax() {
  $("more").addEventListener("click", () => {
    state.rows = Math.min(state.rows * 2, MOST_ROWS);
    showDistributions();
    $("more").disabled = state.rows >= MOST_ROWS;
  });
}

/* The tables are made anew when there are other contexts, or another language. */
let made = [];
function makeViews() {
  if (made.length === contexts.length && made.every((context, i) => context === contexts[i])) return;
  made = [...contexts];
  views = contexts.map(distribution);
  $("distributions").replaceChildren(...views.map(({ node }) => node));
  $("distributions").classList.toggle("several", contexts.length > 1);
}
export function forgetViews() {
  made = [];
}

view(["settings"], () => showOpenings(fullBar()));
view(["context"], () => {
  makeViews();
  views.forEach(({ node, context }) => node.classList.toggle("current", context === current()));
});
view(["settings", "pins"], showDistributions, "softmax");
view(["context"], showCurve, "softmax");
