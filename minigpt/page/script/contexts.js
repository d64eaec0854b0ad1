/* The numbers of each context, from the text of the data to arrays, and where in them a number stands. */
import { floats, halves, ranking } from "./arithmetic.js";
import { contexts, keepHead, state } from "./store.js";
import { data } from "./words.js";

/* A vocabulary travels as one text, in which spaces divide the tokens: in a token they are drawn as ␣. */
const vocabularies = new Map();
function vocabulary(n) {
  if (!vocabularies.has(n)) vocabularies.set(n, data.vocabularies[n].split(" "));
  return vocabularies.get(n);
}

function readModel(raw) {
  const norms = (raw.half ? halves : floats)(raw.norms);
  const bits = Uint8Array.from(atob(raw.unseen), (letter) => letter.charCodeAt(0));
  return {
    ...raw,
    texts: vocabulary(raw.vocabulary),
    /* Gain (0) and offset (1) of a layer norm; they are numbered in the order of the forward pass. */
    norm: (n, which) => norms.subarray((2 * n + which) * raw.n_embd, (2 * n + which + 1) * raw.n_embd),
    isUnseen: (id) => ((bits[id >> 3] >> (7 - (id & 7))) & 1) === 1,
    rows: new Map(), // of the LM head, by token
    columns: new Map(), // of the linear layers, as the live model gave them
  };
}

export const models = data.models.map(readModel);

/* Another model of the live page; `texts` is its vocabulary, or null for the first one's. */
export function addModel(raw, texts) {
  const vocabulary = texts ? data.vocabularies.push(texts) - 1 : 0;
  models.push(readModel({ ...raw, vocabulary }));
}

for (const [n, { ids, values }] of (data.rowsOfHead ?? []).entries()) addRows(models[n], ids, values);
export function addRows(model, ids, values) {
  const all = floats(values);
  ids.forEach((id, i) => model.rows.set(id, all.subarray(i * model.n_embd, (i + 1) * model.n_embd)));
}

/* Rows of wte and wpe: a written file holds each row once, and of every context the numbers of its rows. */
const embeddings = (data.embeddings ?? []).map(floats);
function rowsOf(raw, model) {
  if (typeof raw === "string") return floats(raw);
  const width = model.n_embd;
  const found = new Float32Array(raw.length * width);
  const rows = embeddings[models.indexOf(model)];
  raw.forEach((n, i) => found.set(rows.subarray(n * width, (n + 1) * width), i * width));
  return found;
}

export function readContext(raw) {
  const model = typeof raw.model === "string" ? models.find(({ name }) => name === raw.model) : models[raw.model];
  const logits = floats(raw.logits);
  const order = ranking(logits);
  const rank = new Uint32Array(logits.length);
  order.forEach((id, i) => (rank[id] = i + 1));
  const [stream, attention, mlp] = ["stream", "attention", "mlp"].map((name) => floats(raw.growth[name]));
  const context = {
    ...raw,
    model,
    logits,
    order,
    rank,
    probabilities: new Float64Array(logits.length),
    size: raw.tokens.length - raw.first, // tokens that the views show; earlier ones are summed up
    last: raw.tokens.length - 1,
    wte: rowsOf(raw.wte, model),
    wpe: rowsOf(raw.wpe, model),
    attention: floats(raw.attention),
    scores: floats(raw.scores),
    growth: { stream, attention, mlp },
    end: floats(raw.end), // the last position's residual stream, and its final layer norm
    lens: null,
    blocks: new Map(), // opened blocks, by "layer/position"
    parts: new Map(Object.entries(raw.parts ?? {}).map(([id, values]) => [Number(id), floats(values)])),
    plain: (id) => model.texts[id],
  };
  (raw.blocks ?? []).forEach((block) => addBlock(context, block));
  if (raw.lens) addLens(context, raw.lens);
  return context;
}

export function addLens(context, raw) {
  context.lens = {
    tokens: raw.tokens,
    probabilities: floats(raw.probabilities),
    watched: new Map(raw.watched.map((id, i) => [id, i])),
    logprobs: floats(raw.logprobs),
  };
}

const VECTORS = ["resid_pre", "ln_1", "attn.out", "resid_mid", "ln_2", "mlp.out", "resid_post"];

export function addBlock(context, raw) {
  const read = raw.half ? halves : floats;
  const { n_embd: width } = context.model;
  const all = read(raw.vectors);
  const units = { ...raw.units };
  for (const name of ["pre", "act", "bias"]) units[name] = floats(raw.units[name]);
  units.columns = read(raw.units.columns);
  if (units.all) units.all = floats(units.all); // every unit's activation: the live model gives it
  context.blocks.set(`${raw.layer}/${raw.position}`, {
    half: raw.half,
    first: raw.first, // the first token whose q, k and v are here
    heads: { q: read(raw.q), k: read(raw.k), v: read(raw.v) },
    mixed: read(raw.mixed),
    vectors: Object.fromEntries(VECTORS.map((name, i) => [name, all.subarray(i * width, (i + 1) * width)])),
    units,
  });
}

/* -------------------------------------------------------------------------------- where a number stands */

/* Rows of the attention of one head: the sum over earlier tokens, then the keys 0 to `query`. */
const packedBefore = (n) => (n * (n + 3)) / 2;
export function weightsOf(context, layer, head, query) {
  const { n_head: heads } = context.model;
  const start = (layer * heads + head) * packedBefore(context.size) + packedBefore(query);
  return context.attention.subarray(start, start + query + 2);
}

/* The scores of the keys 0 to `query`, counted from the first token that is shown. */
export function scoresOf(context, layer, head, query) {
  const before = (n) => (n * (n + 1)) / 2;
  const { n_head: heads } = context.model;
  const start = (layer * heads + head) * before(context.size) + before(query);
  return context.scores.subarray(start, start + query + 1);
}

/* One token's query, key or value vector in one head, or null if it is not here. */
export function headVector(context, block, name, head, position) {
  const { n_head: heads, n_embd: width } = context.model;
  const depth = width / heads;
  const tokens = context.tokens.length - block.first;
  const row = position - block.first;
  if (row < 0) return null;
  return block.heads[name].subarray((head * tokens + row) * depth, (head * tokens + row + 1) * depth);
}

/* The likeliest head to have something to show: in which the last token looks most sharply at one that is
   neither itself nor the first, or, of two tokens, at the first. */
export function sharpestHead(context, layers) {
  const { n_head: heads } = context.model;
  let [best, found] = [-1, { layer: 0, head: 0 }];
  for (const layer of layers) {
    for (let head = 0; head < heads; head++) {
      const row = weightsOf(context, layer, head, context.size - 1); // begins with the sum over earlier tokens
      const weight = Math.max(...(context.size > 2 ? row.subarray(2, context.size) : row.subarray(1, 2)));
      if (weight > best) [best, found] = [weight, { layer, head }];
    }
  }
  return found;
}

/* ------------------------------------------------------------------------------- tokens and vocabularies */

/* A followed token has its id in the first model's vocabulary; another vocabulary may lack it: −1. */
const byText = new Map();
function idOf(texts, text) {
  if (!byText.has(texts)) byText.set(texts, new Map(texts.map((other, id) => [other, id])));
  return byText.get(texts).get(text) ?? -1;
}
export const main = models[0];
export function own(context, id) {
  return context.model.texts === main.texts ? id : idOf(context.model.texts, main.texts[id]);
}
export function common(context, id) {
  return context.model.texts === main.texts ? id : idOf(main.texts, context.model.texts[id]);
}

/* Puts in other contexts; what was looked at is kept where it is still there. */
export function setContexts(raws) {
  const earlier = contexts.map((context, i) => ({ context, at: state.positions[i] }));
  contexts.splice(0, contexts.length, ...raws.map((raw) => (raw.plain ? raw : readContext(raw))));
  contexts.forEach((context, i) => {
    const followsEnd = !earlier[i] || earlier[i].at === earlier[i].context.last;
    const at = followsEnd ? context.last : Math.min(earlier[i].at, context.last);
    state.positions[i] = Math.max(at, context.first);
  });
  state.context = Math.min(state.context, contexts.length - 1);
  keepHead();
}
