/* What each part contributed to one token's logit: the sum, taken apart. */
import { picture } from "./charts.js";
import { own } from "./contexts.js";
import { partsOf } from "./details.js";
import { tokenOf } from "./pins.js";
import { chooseHead, current, state, touch, view } from "./store.js";
import { $, draw, fixed, make, oneStop, range, rove, sum } from "./tools.js";
import { t } from "./words.js";

let chosen = null; // the token that is taken apart; none: the likeliest
const NAMED = 10; // of the parts, the largest are listed

function tokenHere(context) {
  const options = choices(context);
  return options.includes(chosen) ? chosen : options[0];
}

function choices(context) {
  const followed = state.pins.map((id) => own(context, id)).filter((id) => id >= 0);
  return [...new Set([...context.order.slice(0, 3), ...followed])];
}

function showParts() {
  const context = current();
  const id = tokenHere(context);
  const buttons = choices(context).map((other) => {
    const button = make("button", { type: "button", "aria-pressed": other === id }, tokenOf(context, other));
    button.addEventListener("click", () => {
      chosen = other;
      touch("parts");
      $("parts-tokens").querySelector("[aria-pressed=true]").focus();
    });
    return button;
  });
  $("parts-tokens").replaceChildren(...buttons);
  for (const button of buttons) button.tabIndex = button.getAttribute("aria-pressed") === "true" ? 0 : -1;
  const values = partsOf(context, id);
  $("parts-empty").hidden = Boolean(values);
  $("parts-picture").hidden = $("parts-list").hidden = !values;
  if (!values) return;
  const parts = named(context.model, values);
  showWaterfall(context, parts, id);
  showList(context, parts, id);
}

/* The parts in the order of the forward pass: each layer's heads, its bias, its MLP. */
function named({ n_layer: layers, n_head: heads }, values) {
  const from = 2 + layers * heads;
  const embedding = [{ name: "wte", value: values[0] }, { name: "wpe", value: values[1] }];
  const blocks = range(layers).map((layer) => ({
    layer,
    heads: range(heads).map((head) => ({ name: t("parts.head", { layer, head }), layer, head, value: values[2 + layer * heads + head] })),
    bias: { name: `h.${layer}.attn.c_proj.bias`, value: values[from + layer] },
    mlp: { name: t("parts.mlp", { layer }), value: values[from + layers + layer] },
  }));
  const last = { name: "ln_f.bias", value: values[from + 2 * layers] };
  return { embedding, blocks, last, total: sum([...values]) };
}

/* From 0 to the logit, one bar a part: embedding, attention and MLP of each layer, the last bias. */
function showWaterfall(context, { embedding, blocks, last, total }, id) {
  const bars = [
    { name: t("parts.embedding"), value: sum(embedding.map(({ value }) => value)), kind: "aside" },
    ...blocks.flatMap(({ layer, heads, bias, mlp }) => [
      { name: t("parts.attention", { layer }), label: `h.${layer}`, value: sum(heads.map(({ value }) => value)) + bias.value, kind: "attention" },
      { name: mlp.name, value: mlp.value, kind: "mlp" },
    ]),
    { name: "ln_f.bias", value: last.value, kind: "aside" },
  ];
  const ends = bars.reduce((all, { value }) => [...all, all.at(-1) + value], [0]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const height = 230;
  const label = t("parts.label", { word: context.plain(id), total: fixed(total) });
  const { svg, width } = picture($("parts-picture"), height, label);
  const [left, right, top, bottom] = [46, width - 10, 12, height - 28];
  const step = (right - left) / bars.length;
  const y = (value) => top + ((bottom - top) * (high - value)) / (high - low || 1);
  for (const value of new Set([0, low, high])) {
    if (value && Math.abs(y(value) - y(0)) < 14) continue; // its label would lie on that of 0
    svg.append(draw("line", { class: value ? "grid" : "base", x1: left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { class: "axis end", x: left - 8, y: y(value) + 4 }, fixed(value, 1)));
  }
  const every = Math.ceil((blocks.length * 30) / (right - left));
  bars.forEach(({ name, value, kind, label: text }, i) => {
    const [start, end] = [y(ends[i]), y(ends[i + 1])];
    const named = draw("title", {}, `${name}: ${fixed(value)}`);
    const place = { x: left + i * step + step * 0.12, width: step * 0.76, y: Math.min(start, end), height: Math.max(1, Math.abs(end - start)) };
    svg.append(draw("rect", { class: `added of-${kind}`, ...place }, named));
    if (text && Number(text.slice(2)) % every === 0)
      svg.append(draw("text", { class: "axis middle", x: left + (i + 1) * step, y: height - 8 }, text));
  });
}

/* The parts that moved the logit most, for or against. A head leads to what it looked at. */
function showList(context, { embedding, blocks, last, total }, id) {
  const all = [...embedding, ...blocks.flatMap(({ heads, bias, mlp }) => [...heads, bias, mlp]), last];
  const most = [...all].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, NAMED);
  const scale = Math.abs(most[0].value) || 1;
  const rows = most.map(({ name, value, layer, head }) => {
    const words = head === undefined ? name : toHead(name, layer, head);
    const bar = make("span", { class: value < 0 ? "bar below" : "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", Math.abs(value) / scale);
    return make("tr", {}, make("th", { scope: "row" }, words), make("td", { class: "wide" }, bar), make("td", {}, (value > 0 ? "+" : "") + fixed(value)));
  });
  const rest = total - sum(most.map(({ value }) => value));
  rows.push(row(t("parts.others", { n: all.length - most.length }), (rest > 0 ? "+" : "") + fixed(rest)));
  rows.push(row(t("parts.total", { word: context.plain(id) }), fixed(context.logits[id]), "total"));
  const caption = make("caption", { class: "unseen" }, t("parts.caption"));
  $("parts-list").replaceChildren(oneStop(make("table", { class: "terms parts" }, caption, make("tbody", {}, ...rows))));
}

const row = (name, value, kind = "rest") =>
  make("tr", { class: kind }, make("th", { scope: "row" }, name), make("td", { class: "wide" }), make("td", {}, value));

function toHead(name, layer, head) {
  const button = make("button", { type: "button", class: "figure" }, name);
  button.addEventListener("click", () => {
    chooseHead(layer, head);
    $("attention").scrollIntoView();
    $("head").focus({ preventScroll: true });
  });
  return button;
}

export function connectParts() {
  rove($("parts-tokens"));
}

view(["context", "details", "pins", "parts"], showParts, "parts");
