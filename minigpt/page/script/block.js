/* One block, opened: layer norm, query, key and value, and what attention and MLP add to the stream. */
import { headVector } from "./contexts.js";
import { block, isClosed, isLive, layersOf, openedAt } from "./details.js";
import { tokenOf } from "./pins.js";
import { chooseHead, choosePosition, current, position, state, view } from "./store.js";
import { meanAndScale } from "./sums.js";
import { $, canvasOf, fixed, later, make, number, paintSlider, range, rove, say } from "./tools.js";
import { ground, largestOf, place, shadesOf, strip } from "./vectors.js";
import { nodes, t } from "./words.js";

/* ------------------------------------------------------------------------- which layer, head and token */

function showChoice() {
  const context = current();
  const { n_layer: layers, n_head: heads } = context.model;
  const at = openedAt();
  for (const [id, value, n] of [["layer", state.layer, layers], ["head", state.head, heads]]) {
    $(id).max = n - 1;
    $(id).value = value;
    $(`${id}-value`).textContent = t("block.of", { value, last: n - 1 });
    paintSlider($(id));
  }
  $("block-token").replaceChildren(...nodes("block.token", { token: tokenOf(context, context.tokens[at]), position: at }));
  $("block-note").hidden = isLive() || position() === context.last;
  $("block-note").textContent = t("block.last-only");
  const closed = isClosed(context);
  $("one-block").classList.toggle("closed", closed);
  for (const note of document.querySelectorAll(".closed-note")) {
    note.hidden = !closed;
    note.textContent = t("block.closed", { layer: state.layer, layers: layersOf(context).join(", ") });
  }
}

export function connectBlock() {
  const tell = () => later(() => say($("looks-words").textContent));
  $("layer").addEventListener("input", (event) => (chooseHead(Number(event.target.value), state.head), tell()));
  $("head").addEventListener("input", (event) => (chooseHead(state.layer, Number(event.target.value)), tell()));
}

/* ------------------------------------------------------------------------------ the vectors on the way */

function showVectors() {
  const context = current();
  const [layer, at] = [state.layer, openedAt()];
  const opened = block(context);
  if (!opened) return;
  const { vectors } = opened;
  const inside = { layer, position: at };
  const norm = (name) => (index) => ({ kind: "norm", norm: name, ...inside, index });
  const linear = (name) => (index) => ({ kind: "linear", name, ...inside, index, opened: at });
  const added = (name) => (index) => ({ kind: "add", name, ...inside, index });
  const before = layer ? (index) => ({ kind: "add", name: "resid_post", layer: layer - 1, position: at, index }) : (index) => ({ kind: "embedding", position: at, index });
  const show = (host, parts) => {
    const largest = largestOf(...parts.map(([name]) => vectors[name]));
    place(host, ...parts.map(([name, words, origin]) => strip({ name: `h.${layer}.${name}`, words: t(words), vector: vectors[name], largest, origin })));
  };
  show("norm-1", [["resid_pre", "block.x", before]]);
  $("norm-1").append(strip({ name: `h.${layer}.ln_1`, words: t("block.ln"), vector: vectors.ln_1, origin: norm("ln_1") }));
  show("added-1", [["resid_pre", "block.x", before], ["attn.out", "block.out", linear("attn.out")], ["resid_mid", "block.mid", added("resid_mid")]]);
  show("norm-2", [["resid_mid", "block.mid", added("resid_mid")]]);
  $("norm-2").append(strip({ name: `h.${layer}.ln_2`, words: t("block.ln"), vector: vectors.ln_2, origin: norm("ln_2") }));
  show("added-2", [["resid_mid", "block.mid", added("resid_mid")], ["mlp.out", "block.mlp-out", linear("mlp.out")], ["resid_post", "block.post", added("resid_post")]]);
  for (const id of ["norm-1", "norm-2"]) $(id).lastChild.paint();
  for (const [id, x] of [["norm-1", vectors.resid_pre], ["norm-2", vectors.resid_mid]]) {
    const { mean, scale } = meanAndScale(x, context.model.epsilon);
    $(`${id}-words`).textContent = t("block.norm-words", { mean: fixed(mean, 3), scale: fixed(scale, 3) });
  }
}

/* ------------------------------------------------------------------------------------ query, key, value */

const NAMES = { q: "query", k: "key", v: "value" };

function showHeads() {
  const context = current();
  const opened = block(context);
  if (!opened) return;
  const first = Math.max(opened.first, context.first);
  const at = position() >= first ? position() : context.last;
  const focused = [...document.querySelectorAll("#qkv .matrix")].findIndex((node) => node.contains(document.activeElement));
  place("qkv", ...Object.keys(NAMES).map((name) => matrix(context, opened, name, first, at)));
  $("qkv").children[focused]?.querySelector(".chosen button").focus();
  const strips = Object.keys(NAMES).map((name) =>
    strip({
      name: `${name}[${state.head}]`,
      words: t(`block.${name}`),
      vector: headVector(context, opened, name, state.head, at),
      origin: (index) => ({ kind: "linear", name, layer: state.layer, head: state.head, position: at, index, opened: openedAt() }),
      numbers: 4,
    }),
  );
  place("qkv-strips", ...strips);
  $("qkv-note").hidden = first === 0;
  $("qkv-note").textContent = first ? t("block.held", { n: context.tokens.length - first, all: number.format(context.tokens.length) }) : "";
}

/* All tokens' vectors as rows of coloured cells; the row of a token is the button that chooses it. */
function matrix(context, opened, name, first, at) {
  const rows = range(context.tokens.length - first).map((i) => {
    const button = make("button", { type: "button", class: "query", "aria-pressed": first + i === at }, tokenOf(context, context.tokens[first + i]));
    button.tabIndex = first + i === at ? 0 : -1;
    button.addEventListener("click", () => choosePosition(first + i));
    return make("li", { class: first + i === at ? "chosen" : false }, button, make("canvas", { "aria-hidden": "true" }));
  });
  const list = make("ul", { class: "rows", "aria-label": t(`block.${name}`) }, ...rows);
  rove(list);
  const node = make("div", { class: "matrix" }, make("p", { class: "matrix-name" }, make("code", {}, name), " ", NAMES[name]), list);
  node.paint = (width) => {
    const room = width - rows[0].firstChild.offsetWidth - 8;
    const vectors = rows.map((_, i) => headVector(context, opened, name, state.head, first + i));
    const largest = largestOf(...vectors);
    rows.forEach((row, i) => paintRow(row.lastChild, vectors[i], largest, room));
  };
  return node;
}

function paintRow(canvas, vector, largest, width) {
  const pen = canvasOf(canvas, Math.max(width, 10), 18);
  pen.fillStyle = ground();
  pen.fillRect(0, 0, width, 18);
  vector.forEach((value, i) => {
    const [red, green, blue] = shadesOf()[value > 0 ? 0 : 1];
    pen.fillStyle = `rgb(${red} ${green} ${blue} / ${Math.sqrt(Math.abs(value) / largest)})`;
    pen.fillRect((i * width) / vector.length, 0, width / vector.length + 0.5, 18);
  });
}

view(["context", "position", "head"], showChoice);
view(["context", "position", "head", "details"], showVectors, "one-block");
view(["context", "position", "head", "details"], showHeads, "one-block");
