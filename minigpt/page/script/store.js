/* What is looked at, and who wants to know when that changes: the one place that views share. */
import { data } from "./words.js";

export const initial = Object.freeze({ ...data.settings });
export const settings = { ...initial };

/* `contexts` are what the model made of each text; see contexts.js. */
export const contexts = [];
export const state = {
  context: 0, // the number of the context that is looked at
  positions: [], // for each context, the token that is looked at
  layer: 0,
  head: 0,
  rows: data.rows, // of the tables of next tokens
  pins: [...data.pins], // ids of the tokens that are followed through every view
};
export const current = () => contexts[state.context];
export const position = () => state.positions[state.context];

/* A view is drawn again when one of its topics is touched: "context", "position", "head", "pins", "settings",
   "details" (of a block, from the live model). "everything" touches all: other numbers, another language,
   another screen. */
const views = [];
export function view(topics, show, section = null) {
  views.push({ topics, show, section });
}
export function touch(...topics) {
  for (const each of views) {
    if (!topics.includes("everything") && !each.topics.some((topic) => topics.includes(topic))) continue;
    if (near && each.section && !near.has(each.section)) postpone(each);
    else each.show();
  }
}

/* While somebody types, what is far from the screen waits until the browser has nothing else to do. */
let near = null; // the sections on the screen or close to it; none: nothing ever waits
const waiting = new Set();
export function watchSections(ids) {
  near = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) near.add(target.id);
        else near.delete(target.id);
      }
      for (const each of waiting) if (near.has(each.section)) (waiting.delete(each), each.show());
    },
    { rootMargin: "300px 0px" },
  );
  for (const id of ids) observer.observe(document.getElementById(id));
}

function postpone(each) {
  if (!waiting.size) requestIdleCallback(catchUp, { timeout: 1000 });
  waiting.delete(each); // what comes last is drawn last
  waiting.add(each);
}

function catchUp(deadline) {
  for (const each of waiting) {
    waiting.delete(each);
    each.show();
    if (deadline.timeRemaining() < 5) break;
  }
  if (waiting.size) requestIdleCallback(catchUp, { timeout: 1000 });
}

export function choosePosition(chosen) {
  state.positions[state.context] = chosen;
  touch("position");
}

export function chooseHead(layer, head) {
  Object.assign(state, { layer, head });
  touch("head");
}

export function chooseContext(i) {
  state.context = i;
  keepHead();
  touch("context");
}

/* The model of another context may have fewer layers and heads. */
export function keepHead() {
  const { n_layer: layers, n_head: heads } = current().model;
  state.layer = Math.min(state.layer, layers - 1);
  state.head = Math.min(state.head, heads - 1);
}
