/* The page's own text, in the language that is spoken. A prompt or a token never comes from here. */
import { $, make, number } from "./tools.js";

export const data = JSON.parse($("data").textContent);

let language = data.language;
export const spoken = () => language;
export function speak(other) {
  language = other;
  document.documentElement.lang = other;
}

const sentence = (key) => data.words[key]?.[language] ?? `[${key}]`;
const PIECES = /(\{\w+\}|\*[^*]+\*|`[^`]+`)/;

/* A sentence as one text; `{name}` stands for a value. */
export function t(key, values = {}) {
  return sentence(key).replace(/\{(\w+)\}/g, (_, name) => values[name]).replace(/[*`]/g, "");
}

/* A sentence as nodes: a value may be a node or several, *x* is set in italics, and `x` as code. */
export function nodes(key, values = {}) {
  return sentence(key)
    .split(PIECES)
    .filter(Boolean)
    .flatMap((piece) => {
      if (piece[0] === "{") return values[piece.slice(1, -1)];
      const tag = { "*": "i", "`": "code" }[piece[0]];
      return tag && piece.length > 1 ? make(tag, {}, piece.slice(1, -1)) : piece;
    });
}

/* A term's name and what the glossary says of it. */
export function glossary(term) {
  const found = data.glossary.find((entry) => entry.term === term);
  if (!found) return null;
  return language === "ko"
    ? { name: `${found.ko} (${found.term})`, sentence: found.sentence_ko, code: found.code }
    : { name: found.term, sentence: found.sentence, code: found.code };
}

/* Fills what the document itself says: `data-words` is a text, `data-label` a label, `data-hint` a placeholder. */
export function fillDocument(model) {
  const values = {
    size: number.format(model.vocab_size),
    width: number.format(model.n_embd),
    layers: model.n_layer,
    heads: model.n_head,
    space: make("span", { class: "space" }, "␣"),
  };
  const copies = () => ({ ...values, space: values.space.cloneNode(true) });
  for (const node of document.querySelectorAll("[data-words]"))
    node.replaceChildren(...nodes(node.dataset.words, copies()));
  for (const node of document.querySelectorAll("[data-label]"))
    node.setAttribute("aria-label", t(node.dataset.label, values));
  for (const node of document.querySelectorAll("[data-hint]")) node.placeholder = t(node.dataset.hint, values);
}
