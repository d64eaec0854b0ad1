/* The live page: prompts that can be typed, and a model that answers. A written file has nobody to ask. */
import { floats } from "./arithmetic.js";
import { addBlock, addLens, addModel, addRows, models, own, readContext, setContexts } from "./contexts.js";
import { answerBy } from "./details.js";
import { takeBy } from "./next.js";
import { token } from "./pins.js";
import { contexts, state, touch, view, watchSections } from "./store.js";
import { $, make, say } from "./tools.js";
import { data, t } from "./words.js";

const page = String(Math.random()).slice(2);
const slots = []; // what is typed: { text, drawn, model, node, area, chips, fault, signature }
const asked = new Set(); // details that are on their way
const MOST_CONTEXTS = 6;
let number = 0; // of the last question about contexts; a detail belongs to it
let controller = new AbortController();

async function post(question, signal) {
  const body = JSON.stringify({ page, number, ...question });
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(data.live.path, { method: "POST", headers, body, signal });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/* ------------------------------------------------------------------------------------ contexts, as typed */

/* Asks for the contexts that changed; what was asked before is of no use any more. */
async function ask() {
  const changed = slots.filter((slot) => signature(slot) !== slot.signature);
  if (!changed.length) {
    if (contexts.length !== slots.length) show();
    return;
  }
  controller.abort();
  controller = new AbortController();
  number++;
  asked.clear();
  const mine = number;
  const sent = changed.map((slot) => ({ slot, signature: signature(slot) }));
  try {
    const answer = await post({ ask: "contexts", layer: state.layer, contexts: changed.map(request) }, controller.signal);
    if (mine !== number) return;
    sent.forEach((each, i) => take(each, answer.contexts[i]));
    show();
  } catch (error) {
    fail(error, ask);
  }
}
const signature = ({ text, drawn, model }) => JSON.stringify([text, drawn, model]);
const request = ({ text, drawn, model }) => ({ text, drawn, model });

function take({ slot, signature: sent }, raw) {
  slot.fault.textContent = raw.error ?? "";
  slot.signature = sent;
  if (!raw.error) slot.context = Object.assign(readContext(raw), { slot });
}

function show() {
  setContexts(slots.map(({ context }) => context).filter(Boolean));
  touch("everything");
  for (const slot of slots) showDrawn(slot);
}

let retry = 0;
function fail(error, again) {
  if (error.name === "AbortError" || error.status === 409) return;
  const isBusy = error.status === 503;
  $("asking-state").textContent = isBusy ? t("live.busy") : error.status ? error.message : t("live.lost");
  if (isBusy && again) {
    clearTimeout(retry);
    retry = setTimeout(again, 1000);
  }
}

/* -------------------------------------------------------------------------------------- details, as needed */

const receive = {
  block: (context, answer) => addBlock(context, answer),
  lens: (context, answer) => addLens(context, answer),
  parts: (context, answer) => context.parts.set(answer.token, floats(answer.values)),
  row: (context, answer) => addRows(context.model, answer.ids, answer.values),
  column: (context, answer, { name, index }) =>
    context.model.columns.set(`${name}/${index}`, { weights: floats(answer.weights), bias: answer.bias }),
};

/* A detail of a context is asked for once, and drawn when it arrives, unless there are other contexts by then. */
async function askDetail(what, context) {
  const [[kind, values]] = Object.entries(what);
  const { slot } = context;
  const key = JSON.stringify([slots.indexOf(slot), what]);
  if (!slot || asked.has(key)) return;
  asked.add(key);
  const mine = number;
  const more = kind === "lens" ? { pins: state.pins.map((id) => own(context, id)).filter((id) => id >= 0) } : {};
  const place = kind === "column" ? columnOf(values) : values;
  try {
    const answer = await post({ ask: kind, ...place, ...more, model: slot.model, context: request(slot) }, controller.signal);
    if (mine !== number || !contexts.includes(context)) return;
    receive[kind](context, answer, values);
    touch("details");
  } catch (error) {
    asked.delete(key);
    fail(error);
  }
}

/* "h.3.attn.c_attn" is a layer and the name of a linear layer in it. */
function columnOf({ name, index }) {
  const [, layer, ...rest] = name.split(".");
  return { layer: Number(layer), name: rest.join("."), index };
}

/* ----------------------------------------------------------------------------------------- what is typed in */

function addSlot(text, model = data.models[0].name) {
  const area = make("textarea", { rows: 1, spellcheck: "false", maxlength: 20000 });
  const select = make("select", {}, ...data.live.models.map((name) => make("option", { value: name, selected: name === model }, name)));
  const remove = make("button", { type: "button", class: "quiet" });
  const [chips, fault] = [make("p", { class: "drawn" }), make("p", { class: "fault", role: "alert" })];
  const node = make("div", { class: "context" }, area, select, remove, chips, fault);
  const slot = { text, drawn: [], model, node, area, select, remove, chips, fault, context: null, signature: "" };
  area.value = text;
  area.addEventListener("input", () => {
    slot.text = area.value;
    slot.drawn = [];
    ask();
  });
  select.addEventListener("change", () => changeModel(slot, select.value));
  remove.addEventListener("click", () => {
    slots.splice(slots.indexOf(slot), 1);
    node.remove();
    show();
    nameSlots();
    slots[0].area.focus();
  });
  slots.push(slot);
  $("asking-contexts").append(node);
  nameSlots();
  return slot;
}

async function changeModel(slot, name) {
  try {
    if (!models.some((model) => model.name === name)) {
      const { about, texts } = await post({ ask: "model", model: name });
      addModel(about, texts);
    }
    Object.assign(slot, { model: name, drawn: [] });
    ask();
  } catch (error) {
    slot.select.value = slot.model;
    fail(error);
  }
}

function nameSlots() {
  slots.forEach(({ area, select, remove }, i) => {
    const which = slots.length > 1 ? ` ${i + 1}` : "";
    area.setAttribute("aria-label", t("live.prompt") + which);
    area.placeholder = t("live.hint");
    select.setAttribute("aria-label", t("live.model") + which);
    remove.textContent = t("live.remove");
    remove.setAttribute("aria-label", `${t("live.remove")} ${t("live.prompt")}${which}`);
    remove.hidden = slots.length < 2;
  });
  $("asking-add").textContent = t("live.add");
  $("asking-add").disabled = slots.length >= MOST_CONTEXTS;
}

/* ---------------------------------------------------------------------------------------- tokens, as drawn */

function append(id, context) {
  const { slot } = context;
  slot.drawn = [...slot.drawn, id];
  ask();
}

function undo() {
  const { slot } = contexts[state.context];
  slot.drawn = slot.drawn.slice(0, -1);
  ask();
}

function showDrawn({ drawn, chips, context }) {
  chips.replaceChildren(...(drawn.length ? [t("live.drawn"), ...drawn.map((id) => token(id, context.model.texts))] : []));
  $("undo").hidden = !slots.some((slot) => slot.drawn.length);
  $("undo").disabled = !contexts[state.context].slot.drawn.length;
}

export function connectLive() {
  if (!data.live) return;
  document.body.classList.add("is-live");
  $("asking").hidden = false;
  $("asking").replaceChildren(
    make("div", { class: "asking-contexts", id: "asking-contexts" }),
    make("div", { class: "buttons" }, make("button", { type: "button", class: "quiet", id: "asking-add" }), make("span", { id: "asking-state", role: "status" })),
  );
  $("asking").addEventListener("submit", (event) => event.preventDefault());
  $("asking-add").addEventListener("click", () => {
    const last = slots.at(-1);
    addSlot(last.text, last.model).area.select(); // what is typed now takes its place
    ask();
  });
  $("undo").addEventListener("click", undo);
  watchSections([...document.querySelectorAll("main > section, main > .one-block")].map(({ id }) => id));
  answerBy(askDetail);
  takeBy(append);
  const slot = addSlot(data.live.text);
  slot.context = Object.assign(contexts[0], { slot });
  slot.signature = signature(slot);
}

view(["language"], () => {
  if (!data.live) return;
  nameSlots();
  $("asking-state").textContent = "";
});
