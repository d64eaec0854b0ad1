/* What a page may not have yet. A written file holds what it holds; a live page asks the model for the rest. */
import { headVector } from "./contexts.js";
import { current, position, state } from "./store.js";
import { range } from "./tools.js";

let ask = null; // (what, context) => undefined: the answer arrives in the store, which then touches "details"
export const isLive = () => ask !== null;
export function answerBy(asker) {
  ask = asker;
}

/* The position at which blocks are opened: a written file holds the last one alone. */
export const openedAt = (context = current()) => (isLive() && context === current() ? position() : context.last);

/* A block, opened at a position; null if it is not here (yet). */
export function block(context, layer = state.layer, at = openedAt(context)) {
  const found = context.blocks.get(`${layer}/${at}`) ?? null;
  if (!found) ask?.({ block: { layer, position: at } }, context);
  return found;
}

/* The layers whose blocks can be opened: a file of many contexts has no room for all of them. */
export function layersOf(context) {
  const all = range(context.model.n_layer);
  return isLive() ? all : all.filter((layer) => context.blocks.has(`${layer}/${context.last}`));
}
export const isClosed = (context, layer = state.layer) => !layersOf(context).includes(layer);

/* The weights and the bias that make one number of a linear layer's result; null if they are not here. */
export function column(context, name, index) {
  const found = context.model.columns.get(`${name}/${index}`) ?? null;
  if (!found) ask?.({ column: { name, index } }, context);
  return found;
}

/* A token's row of the LM head. */
export function rowOfHead(context, id) {
  const found = context.model.rows.get(id) ?? null;
  if (!found) ask?.({ row: { token: id } }, context);
  return found;
}

/* What each part added to a token's logit. */
export function partsOf(context, id) {
  const found = context.parts.get(id) ?? null;
  if (!found) ask?.({ parts: { token: id } }, context);
  return found;
}

export function lensOf(context) {
  if (!context.lens) ask?.({ lens: {} }, context);
  return context.lens;
}

/* A query, key or value vector of the chosen head. */
export function headOf(context, name, at, layer = state.layer, head = state.head) {
  const opened = block(context, layer);
  return opened && headVector(context, opened, name, head, at);
}
