/* Attention of the chosen head: scores, mask, softmax, and the mixing of values. */
import { headVector, scoresOf, weightsOf } from "./contexts.js";
import { block, openedAt } from "./details.js";
import { shade } from "./charts.js";
import { tokenOf } from "./pins.js";
import { choosePosition, current, position, state, view } from "./store.js";
import { dot } from "./arithmetic.js";
import { $, colourOf, fixed, make, number, oneStop, percent, range, rove, sum } from "./tools.js";
import { figure, largestOf, place, strip } from "./vectors.js";
import { t } from "./words.js";

let flip; // the shade from which text on it changes its colour
export const isDark = (weight) => shade(weight) > flip;
export function shadeNode(node, weight) {
  node.style.setProperty("--shade", shade(weight));
  node.classList.toggle("strong", isDark(weight));
}
export function readFlip() {
  flip = Number(colourOf("--flip"));
}
export const swatches = () =>
  [0, 0.01, 0.1, 0.5, 1].map((weight) => {
    const swatch = make("span", { class: "swatch" }, `${100 * weight}%`);
    shadeNode(swatch, weight);
    return swatch;
  });

/* ------------------------------------------------------------- one query: score, mask, softmax, by key */

const MOST_KEYS = 12; // of a long context the row shows the last ones, and the first

function showRow() {
  const context = current();
  const at = position();
  const { layer, head } = state;
  const opened = block(context);
  const scores = scoresOf(context, layer, head, at - context.first);
  const row = weightsOf(context, layer, head, at - context.first);
  const keys = range(context.last - context.first + 1).map((i) => context.first + i);
  const shown = keys.filter((key) => key > at - MOST_KEYS && key < at + 4);
  const origin = (kind, key) => ({ kind, layer, head, query: at, key, opened: openedAt() });
  const rows = shown.map((key) => {
    const name = make("th", { scope: "row" }, tokenOf(context, context.tokens[key]));
    const place = key - context.first;
    if (key > at) {
      const masked = maskedScore(context, opened, at, key);
      return make("tr", { class: "masked" }, name, make("td", {}, make("s", {}, masked)), make("td", {}, "−∞"), make("td", {}, "0"));
    }
    const weight = make("td", { class: "weight" }, figure(percent(row[1 + place]), origin("weight", key)));
    shadeNode(weight, row[1 + place]);
    const score = fixed(scores[place]);
    return make("tr", {}, name, make("td", {}, figure(score, origin("score", key))), make("td", {}, score), weight);
  });
  const left = at - context.first + 1 - shown.filter((key) => key <= at).length;
  const before = row[0] + sum([...row.subarray(1, 1 + left)]);
  if (before > 0 || left)
    rows.unshift(make("tr", { class: "rest" }, make("th", { scope: "row" }, t("earlier")), make("td"), make("td"), make("td", {}, percent(before))));
  const heads = ["attention.key", "attention.score", "attention.masked", "attention.weight"].map((key) => make("th", { scope: "col" }, t(key)));
  const caption = make("caption", { class: "unseen" }, t("attention.row", { layer, head }));
  $("row").replaceChildren(make("table", { class: "terms scores" }, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
  oneStop($("row").firstChild, () => 2);
  $("row-token").replaceChildren(tokenOf(context, context.tokens[at]));
}

/* A score that nobody keeps: what the query would find in a token that comes later. */
function maskedScore(context, opened, query, key) {
  const [q, k] = opened ? [headVector(context, opened, "q", state.head, query), headVector(context, opened, "k", state.head, key)] : [];
  return q && k ? fixed(dot(q, k) * context.model.scales[state.layer]) : "·";
}

/* ------------------------------------------------------------------------------ mixing: weights × values */

const MOST_VALUES = 4;

function showMix() {
  const context = current();
  const opened = block(context);
  if (!opened) return;
  const at = openedAt();
  const { layer, head } = state;
  const depth = context.model.n_embd / context.model.n_head;
  const mixed = opened.mixed.subarray(head * depth, (head + 1) * depth);
  const row = weightsOf(context, layer, head, at - context.first);
  const keys = range(at - opened.first + 1).map((i) => opened.first + i);
  const most = keys.sort((a, b) => row[1 + b - context.first] - row[1 + a - context.first]).slice(0, MOST_VALUES);
  const vectors = most.map((key) => {
    const weight = row[1 + key - context.first];
    return headVector(context, opened, "v", head, key).map((value) => value * weight);
  });
  const largest = largestOf(mixed, ...vectors);
  const origin = (index) => ({ kind: "mixed", layer, head, position: at, index, opened: at });
  const strips = most.map((key, i) => {
    const words = [percent(row[1 + key - context.first]), " × v ", tokenOf(context, context.tokens[key])];
    const node = strip({ name: "", vector: vectors[i], largest, height: 30, numbers: 0 });
    node.querySelector(".strip-label").replaceChildren(make("span", {}, ...words));
    return node;
  });
  const rest = at + 1 - most.length;
  const result = strip({ name: `mixed[${head}]`, words: rest ? t("attention.mixed-rest", { n: number.format(rest) }) : t("attention.mixed"), vector: mixed, largest, origin });
  place("mix", ...strips, result);
}

/* ----------------------------------------------------------------------------- all queries and all keys */

let map = null; // the table that is shown: { context, hidden, rows: [{ node, button, cells }] }

function showMap() {
  const context = current();
  const width = $("map").clientWidth;
  const longest = Math.max(...context.tokens.slice(context.first).map((id) => context.plain(id).length));
  const label = Math.min(longest * 8 + 14, 110, width * 0.26);
  const fits = Math.max(1, Math.floor((width - label) / 15) - 1);
  const shown = Math.min(context.size, fits);
  const hidden = context.size - shown; // of the tokens in the file, those that this screen has no room for
  const before = context.first + hidden;
  const columns = shown + (before ? 1 : 0);
  const cell = Math.min(44, Math.floor((width - label) / columns));
  const ids = context.tokens.slice(before);
  const heads = [
    before ? make("th", { scope: "col" }, make("span", {}, t("earlier"))) : null,
    ...ids.map((id) => make("th", { scope: "col" }, make("span", {}, tokenOf(context, id)))),
  ].filter(Boolean);
  const rows = ids.map((id, i) => {
    const button = make("button", { type: "button", class: "query" }, tokenOf(context, id));
    button.addEventListener("click", () => choosePosition(before + i));
    const cells = range(columns).map((j) => make("td", { class: j <= i + (before ? 1 : 0) ? "weight" : "none" }));
    return { node: make("tr", {}, make("th", { scope: "row" }, button), ...cells), button, cells, query: hidden + i };
  });
  const table = make(
    "table",
    { class: cell < 28 ? "heat small" : "heat" },
    make("caption", { class: "unseen" }, t("attention.map")),
    make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, ...rows.map(({ node }) => node)),
  );
  table.style.setProperty("--cell", `${cell}px`);
  table.style.setProperty("--label", `${Math.floor(label)}px`);
  const hadFocus = $("map").contains(document.activeElement);
  const tidy = rove(table);
  $("map").replaceChildren(table);
  tidy();
  map = { context, hidden, before, rows };
  $("attention-note").hidden = !before;
  $("attention-note").textContent = before
    ? t("attention.long", { shown, n: number.format(context.tokens.length) })
    : "";
  showWeights();
  if (hadFocus) rows.find(({ query }) => query === position() - context.first)?.button.focus();
}

function showWeights() {
  const { context, hidden, before, rows } = map;
  for (const { cells, query } of rows) {
    const row = weightsOf(context, state.layer, state.head, query);
    const weights = [...row.subarray(1 + hidden)];
    if (before) weights.unshift(sum(row.subarray(0, 1 + hidden)));
    weights.forEach((weight, j) => {
      shadeNode(cells[j], weight);
      cells[j].textContent = weight < 0.005 ? "0" : (100 * weight).toFixed(0);
    });
  }
  showSelection();
}

/* The token that looks, and where its attention goes, as a line of text shaded by weight. */
function showSelection() {
  const { context, rows } = map;
  const at = position();
  const query = at - context.first;
  for (const row of rows) {
    const chosen = row.query === query;
    row.node.classList.toggle("chosen", chosen);
    row.button.setAttribute("aria-pressed", chosen);
    row.button.tabIndex = chosen ? 0 : -1;
  }
  if (!rows.some((row) => row.query === query)) rows[0].button.tabIndex = 0;
  const row = weightsOf(context, state.layer, state.head, query);
  const seen = [...row.subarray(1)].map((weight, j) => ({ weight, id: context.tokens[context.first + j] }));
  const line = make("p", { class: "looks" });
  if (context.first) line.append(make("span", { class: "looked earlier" }, t("earlier")));
  for (const { id } of seen) line.append(make("span", { class: "looked" }, tokenOf(context, id)));
  [...(context.first ? row : row.subarray(1))].forEach((weight, j) => shadeNode(line.children[j], weight));
  line.lastChild.classList.add("self");
  $("looks").replaceChildren(line);
  const most = seen.sort((a, b) => b.weight - a.weight).slice(0, 3);
  $("looks-words").replaceChildren(
    t("attention.head", { layer: state.layer, head: state.head }),
    ": ",
    tokenOf(context, context.tokens[at]),
    t("attention.takes"),
    ...most.flatMap(({ weight, id }, i) => [i ? ", " : "", tokenOf(context, id), ` ${percent(weight)}`]),
    context.first ? t("attention.from-earlier", { share: percent(row[0]), n: number.format(context.first) }) : ".",
  );
}

view(["context", "position", "head", "details"], showRow, "one-block");
view(["context", "position", "head", "details"], showMix, "one-block");
view(["context"], showMap, "one-block");
view(["head"], showWeights, "one-block");
view(["position"], showSelection, "one-block");
