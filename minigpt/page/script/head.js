/* The head of the page: each context and how it is likely to go on, and which context is looked at. */
import { tokenOf } from "./pins.js";
import { chooseContext, contexts, state, view } from "./store.js";
import { $, bar, make, number, percent } from "./tools.js";
import { data, t } from "./words.js";

export function title(context, length = 140) {
  const characters = [...context.prompt];
  if (!characters.length) return context.plain(context.tokens[0]); // what the model starts from
  if (characters.length <= length) return context.prompt;
  // Its end is what the model goes on from; it begins with a whole word if one is near.
  const end = characters.slice(-length).join("");
  return "…" + end.replace(/^\S{0,12}\s+(?=\S)/u, "");
}

/* Of several models the name tells contexts apart, of several texts the text. */
const severalModels = () => new Set(contexts.map(({ model }) => model)).size > 1;
const withModel = (context, text) => (severalModels() ? `${text} · ${context.model.name}` : text);
export const short = (context) => withModel(context, title(context, 24).replace(/\n/g, "⏎"));

/* A context where there is room for a word or two: from the word on in which the contexts begin to differ. */
export function brief(context) {
  if (severalModels()) return context.model.name;
  if (contexts.length < 2 || !context.prompt) return short(context);
  const shared = sharedCharacters();
  const start = shared > 10 ? context.prompt.lastIndexOf(" ", shared - 1) + 1 : 0;
  const characters = [...context.prompt.slice(start)];
  const end = characters.length > 24 ? "…" : "";
  return ((start ? "…" : "") + characters.slice(0, 24).join("") + end).replace(/\n/g, "⏎");
}

/* How many characters the contexts have in common before they differ. */
function sharedCharacters() {
  const lengths = contexts.slice(1).map(({ prompt }) => {
    let n = 0;
    while (n < prompt.length && prompt[n] === contexts[0].prompt[n]) n++;
    return n;
  });
  return Math.min(...lengths);
}

let openings = [];

function opening(context) {
  const list = make("ol", { class: "likeliest" });
  const length = Math.min([...context.prompt].length, 141);
  const prompt = make(
    "p",
    { class: length > 90 ? "prompt long" : length > 34 ? "prompt middle" : "prompt" },
    make("span", { class: "written", translate: "no" }, title(context)),
    make("span", { class: "blank", "aria-hidden": "true" }, "\u00a0"),
  );
  const items = [...context.order.slice(0, 5)].map((id) => {
    const fill = make("span", { class: "bar", "aria-hidden": "true" });
    const value = make("span", { class: "value" });
    list.append(make("li", {}, tokenOf(context, id), fill, value));
    return { id, fill, value };
  });
  const name = severalModels() ? [make("p", { class: "by" }, context.model.name)] : [];
  return { node: make("div", { class: "opening" }, ...name, prompt, list), items, context };
}

function showHead() {
  const { model } = contexts[0];
  $("model").textContent = t("head.model", {
    name: model.name,
    parameters: number.format(model.n_parameters),
    layers: model.n_layer,
    heads: model.n_head,
  });
  $("changes").hidden = !data.changes.length;
  $("changes").textContent = t("head.changes", { changes: data.changes.join("; ") });
  $("title").textContent = t("head.title", {
    contexts: contexts.map((context) => `“${short(context)}”`).join(t("head.and")),
  });
  openings = contexts.map(opening);
  $("openings").replaceChildren(...openings.map(({ node }) => node));
  $("openings").classList.toggle("several", contexts.length > 1);
  $("pins-note").textContent = data.notes.join(" ");
  $("colophon").textContent = t("foot.made", { version: data.version, source: model.source });
  showChooser();
}

/* The bars under each prompt; `full` is the probability of a whole bar. */
export function showOpenings(full) {
  for (const { items, context } of openings) {
    for (const { id, fill, value } of items) {
      bar(fill, context.probabilities[id] / full);
      value.textContent = percent(context.probabilities[id]);
    }
  }
}

function showChooser() {
  const radios = contexts.map((context, i) => {
    const radio = make("input", { type: "radio", name: "context", value: i, checked: i === state.context });
    radio.addEventListener("change", () => chooseContext(i));
    return make("label", {}, radio, make("span", { translate: "no" }, brief(context)));
  });
  const hadFocus = $("contexts").contains(document.activeElement);
  $("contexts").replaceChildren($("contexts").firstElementChild, ...radios);
  $("contexts").hidden = contexts.length < 2;
  if (hadFocus) $("contexts").querySelector("input:checked")?.focus();
}

view([], showHead);
