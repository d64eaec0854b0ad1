/* Where a number came from: the arrays it was computed from, and the steps from them to it.

Each kind of number has a function here. It returns null where an array is not at hand (yet), or
  { title, term, line, value, computed, note, strips, heads, rows, steps }
where `value` is the model's own number and `computed` what the arrays on the page give for it. */
import { dot } from "./arithmetic.js";
import { headVector, scoresOf, weightsOf } from "./contexts.js";
import { block, column } from "./details.js";
import { outputs } from "./outputs.js";
import { tokenOf } from "./pins.js";
import { exact, meanAndScale, products } from "./sums.js";
import { percent, sum } from "./tools.js";
import { t } from "./words.js";

export function explain(origin, context) {
  const found = origins[origin.kind](origin, context);
  return found && { note: "", strips: [], heads: [], rows: [], steps: [], ...found };
}

const halfNote = (opened) => (opened.half ? t("origin.half") : "");
const keyed = (context, at) => tokenOf(context, context.tokens[at]);

/* The input of a linear layer, and where its weights stand in the checkpoint. */
function linear(name, { layer, head, position, index }, context, opened) {
  const width = context.model.n_embd;
  const depth = width / context.model.n_head;
  const { vectors, units } = opened;
  if ("qkv".includes(name))
    return {
      input: vectors.ln_1,
      inputName: "ln_1",
      layerName: `h.${layer}.attn.c_attn`,
      at: "qkv".indexOf(name) * width + head * depth + index,
      value: headVector(context, opened, name, head, position)?.[index],
    };
  if (name === "attn.out")
    return { input: opened.mixed, inputName: "mixed", layerName: `h.${layer}.attn.c_proj`, at: index, value: vectors[name][index] };
  if (name === "mlp.out")
    return { input: units.all ?? null, inputName: "act", layerName: `h.${layer}.mlp.c_proj`, at: index, value: vectors[name][index] };
  const place = units.ids.indexOf(index);
  return { input: vectors.ln_2, inputName: "ln_2", layerName: `h.${layer}.mlp.c_fc`, at: index, value: units.pre[place], place };
}

/* The column of weights: of the strongest hidden units it is at hand, of all others the live model gives it. */
function weightsFor(name, found, context, opened) {
  const { units } = opened;
  const width = context.model.n_embd;
  if (name === "mlp.pre" && found.place >= 0 && (found.place + 1) * width <= units.columns.length)
    return {
      weights: units.columns.subarray(found.place * width, (found.place + 1) * width),
      bias: units.bias[found.place],
    };
  return column(context, found.layerName, found.at);
}

const origins = {
  ...outputs,

  embedding({ position, index }, context) {
    const at = (position - context.first) * context.model.n_embd + index;
    const [what, where] = [context.wte[at], context.wpe[at]];
    return {
      title: `x[${index}]`,
      term: "embedding",
      line: "wte",
      value: what + where,
      computed: what + where,
      rows: [
        { cells: [`wte[${context.tokens[position]}][${index}]`, exact(what)] },
        { cells: [`wpe[${position}][${index}]`, exact(where)] },
      ],
      steps: [`${exact(what)} + ${exact(where)}`],
      note: t("origin.learnt"),
    };
  },

  norm({ norm, layer, position, index }, context) {
    const last = norm === "ln_f";
    const opened = last ? null : block(context, layer, position);
    if (!last && !opened) return null;
    const width = context.model.n_embd;
    const x = last ? context.end.subarray(0, width) : opened.vectors[norm === "ln_1" ? "resid_pre" : "resid_mid"];
    const value = last ? context.end[width + index] : opened.vectors[norm][index];
    const n = last ? 2 * context.model.n_layer : 2 * layer + (norm === "ln_2" ? 1 : 0);
    const [gain, offset] = [0, 1].map((which) => context.model.norm(n, which)[index]);
    const { mean, scale } = meanAndScale(x, context.model.epsilon);
    return {
      title: `${last ? "" : `h.${layer}.`}${norm}[${index}]`,
      term: "layer norm",
      line: last ? "ln_f" : `h.${norm}`,
      value,
      computed: ((x[index] - mean) / scale) * gain + offset,
      strips: [{ name: "x", words: t("origin.norm-input"), vector: x }],
      rows: [
        { cells: [`x[${index}]`, exact(x[index])], follow: last || layer ? { kind: "add", name: "resid_post", layer: last ? context.model.n_layer - 1 : layer - 1, position, index } : { kind: "embedding", position, index } },
        { cells: [t("origin.mean"), exact(mean)] },
        { cells: [t("origin.scale"), exact(scale)] },
        { cells: [t("origin.gain"), exact(gain)] },
        { cells: [t("origin.offset"), exact(offset)] },
      ],
      steps: [`(${exact(x[index])} − ${exact(mean)}) / ${exact(scale)} × ${exact(gain)} + ${exact(offset)}`],
      note: opened ? halfNote(opened) : context.model.half ? t("origin.half-gain") : "",
    };
  },

  linear(origin, context) {
    const { name, layer, head, index } = origin;
    const opened = block(context, layer, origin.opened);
    if (!opened) return null;
    const found = linear(name, origin, context, opened);
    const title = "qkv".includes(name) ? `h.${layer}.attn.${name}[${head}][${index}]` : `h.${layer}.${name}[${index}]`;
    const told = { title, term: TERMS[name] , line: `h.${"qkv".includes(name) ? `attn.${name}` : name}`, value: found.value };
    const weights = origin.position === origin.opened && found.input ? weightsFor(name, found, context, opened) : null;
    if (!weights) return { ...told, note: t("origin.not-here", { name: `${found.layerName}.weight[:, ${found.at}]` }) };
      const total = dot(found.input, weights.weights);
    return {
      ...told,
      ...products(found.input, weights.weights, found.inputName, "W"),
      computed: total + weights.bias,
      steps: [`${exact(total)} + ${exact(weights.bias)} (${t("origin.bias")})`],
      note: halfNote(opened),
    };
  },

  score({ layer, head, query, key, opened: at }, context) {
    const opened = block(context, layer, at);
    const value = scoresOf(context, layer, head, query - context.first)[key - context.first];
    const told = { title: t("origin.score", { layer, head }), between: [keyed(context, query), keyed(context, key)], term: "attention score", line: "h.attn.scores", value };
    const [q, k] = opened ? [headVector(context, opened, "q", head, query), headVector(context, opened, "k", head, key)] : [];
    if (!q || !k) return { ...told, note: t("origin.not-held") };
    const [total, scale] = [dot(q, k), context.model.scales[layer]];
    return {
      ...told,
      ...products(q, k, "q", "k"),
      computed: total * scale,
      steps: [`${exact(total)} × ${exact(scale)}`, t("origin.score-scale", { depth: q.length })],
      note: halfNote(opened),
    };
  },

  weight({ layer, head, query, key, opened: at }, context) {
    const [scores, row] = [
      scoresOf(context, layer, head, query - context.first),
      weightsOf(context, layer, head, query - context.first),
    ];
    const earlier = row[0];
    const most = Math.max(...scores);
    const powers = [...scores].map((score) => Math.exp(score - most));
    const total = sum(powers) / (1 - earlier); // what stands before has its share of the sum
    const rows = powers.map((p, i) => ({
      cells: [keyed(context, context.first + i), exact(scores[i]), exact(p), percent(p / total)],
      follow: { kind: "score", layer, head, query, key: context.first + i, opened: at },
      chosen: context.first + i === key,
    }));
    if (earlier > 0) rows.unshift({ cells: [t("earlier"), "", exact(earlier * total), percent(earlier)] });
    const place = key - context.first;
    return {
      title: t("origin.weight", { layer, head }),
      between: [keyed(context, query), keyed(context, key)],
      term: "attention weights",
      line: "h.attn.weights",
      value: row[1 + place],
      computed: powers[place] / total,
      heads: [t("origin.key"), t("origin.score-name"), "e^(s − max)", t("origin.weight-name")],
      rows,
      steps: [`${exact(powers[place])} / ${exact(total)}`],
    };
  },

  mixed({ layer, head, position, index, opened: at }, context) {
    const opened = block(context, layer, at);
    if (!opened) return null;
    const depth = context.model.n_embd / context.model.n_head;
    const value = opened.mixed[head * depth + index];
    const row = weightsOf(context, layer, head, position - context.first);
    const terms = [];
    for (let key = Math.max(opened.first, context.first); key <= position; key++) {
      const [weight, v] = [row[1 + key - context.first], headVector(context, opened, "v", head, key)[index]];
      terms.push({ key, weight, v, product: weight * v });
    }
    const computed = sum(terms.map(({ product }) => product));
    const complete = opened.first === 0;
    const rows = terms.map(({ key, weight, v, product }) => ({
      cells: [keyed(context, key), percent(weight), exact(v), exact(product)],
      follow: { kind: "weight", layer, head, query: position, key, opened: at },
    }));
    if (!complete) rows.unshift({ cells: [t("earlier"), "", "", exact(value - computed)] });
    return {
      title: `h.${layer}.attn.mixed[${head}][${index}]`,
      term: "attention",
      line: "h.attn.mixed",
      value,
      computed: complete ? computed : value,
      heads: [t("origin.key"), t("origin.weight-name"), `v[${index}]`, "×"],
      rows,
      steps: [t("origin.mixed-sum")],
      note: halfNote(opened),
    };
  },

  add({ name, layer, position, index }, context) {
    const opened = block(context, layer, position);
    if (!opened) return null;
    const parts = name === "resid_mid" ? ["resid_pre", "attn.out"] : ["resid_mid", "mlp.out"];
    const [before, added] = parts.map((part) => opened.vectors[part][index]);
    const beforeOrigin =
      name === "resid_post"
        ? { kind: "add", name: "resid_mid", layer, position, index }
        : layer
          ? { kind: "add", name: "resid_post", layer: layer - 1, position, index }
          : { kind: "embedding", position, index };
    return {
      title: `h.${layer}.${name}[${index}]`,
      term: "residual stream",
      line: `h.${name}`,
      value: opened.vectors[name][index],
      computed: before + added,
      rows: [
        { cells: [`${parts[0]}[${index}]`, exact(before)], follow: beforeOrigin },
        { cells: [`${parts[1]}[${index}]`, exact(added)], follow: { kind: "linear", name: parts[1], layer, position, index, opened: position } },
      ],
      steps: [`${exact(before)} + ${exact(added)}`],
      note: halfNote(opened),
    };
  },

  act({ layer, position, unit }, context) {
    const opened = block(context, layer, position);
    if (!opened) return null;
    const place = opened.units.ids.indexOf(unit);
    const [pre, value] = [opened.units.pre[place], opened.units.act[place]];
    const known = ["gelu_new", "gelu_pytorch_tanh"].includes(context.model.activation);
    const inner = Math.sqrt(2 / Math.PI) * (pre + 0.044715 * pre ** 3);
    return {
      title: `h.${layer}.mlp.act[${unit}]`,
      term: "GELU",
      line: "h.mlp.act",
      value,
      computed: known ? 0.5 * pre * (1 + Math.tanh(inner)) : value,
      rows: [{ cells: ["pre", exact(pre)], follow: { kind: "linear", name: "mlp.pre", layer, position, index: unit, opened: position } }],
      steps: known ? [`0.5 × ${exact(pre)} × (1 + tanh(√(2/π) × (${exact(pre)} + 0.044715 × ${exact(pre)}³)))`] : [],
    };
  },
};

const TERMS = { q: "query", k: "key", v: "value", "attn.out": "attention", "mlp.pre": "MLP", "mlp.out": "MLP" };
