/* Tokens: the pieces of the text, their ids, and what is special about some of them. */
import { tokenOf } from "./pins.js";
import { choosePosition, current, position, state, view } from "./store.js";
import { $, make, number } from "./tools.js";
import { nodes, t } from "./words.js";

function showTokens() {
  const context = current();
  const { tokens, first } = context;
  const list = make("div", { class: "tokens", role: "radiogroup", "aria-label": t("tokens.choose") });
  if (first) {
    const earlier = tokens.slice(0, first).flatMap((id) => [tokenOf(context, id), make("wbr")]);
    list.append(make("span", { class: "earlier" }, ...earlier));
  }
  const joined = joinedTokens(context);
  tokens.slice(first).forEach((id, i) => list.append(piece(context, id, first + i, joined)));
  const hadFocus = $("token-list").contains(document.activeElement);
  $("token-list").replaceChildren(list);
  if (hadFocus) list.querySelector("input:checked")?.focus();
  // A long text scrolls in a box of its own, from its end, where the model goes on.
  list.scrollTop = list.scrollHeight;
  const remarks = [...remarksOn(context), ...remarksOnPieces(context, joined)];
  $("tokens-note").replaceChildren(...remarks.map((remark) => make("p", {}, ...remark)));
  $("tokens-note").hidden = !remarks.length;
}

function piece(context, id, at, joined) {
  const radio = make("input", { type: "radio", name: "token", value: at, checked: at === state.positions[state.context] });
  radio.addEventListener("change", () => choosePosition(at));
  const unseen = context.model.isUnseen(id);
  const classes = ["piece", joined.some(({ to }) => to === at) && "joined", unseen && "unseen-token"];
  return make(
    "label",
    { class: classes.filter(Boolean).join(" ") },
    radio,
    tokenOf(context, id),
    make("span", { class: "id" }, String(id)),
  );
}

function remarksOn({ prompt, tokens, first, plain }) {
  const remarks = [];
  if (!prompt) remarks.push([t("tokens.empty", { token: plain(tokens[0]) })]);
  if (first) {
    const values = { n: number.format(tokens.length), shown: tokens.length - first };
    remarks.push([t("tokens.long", values)]);
  }
  return remarks;
}

/* Neighbours that belong together: a word of several tokens, or a character of several. */
const isLetter = (text) => /^\p{L}/u.test(text);
const endsInLetter = (text) => /\p{L}$/u.test(text);
const holdsBytes = (text) => /\\x[0-9a-f]{2}/.test(text);
function joinedTokens({ tokens, first, plain }) {
  const pairs = [];
  for (let at = first + 1; at < tokens.length; at++) {
    const [before, text] = [plain(tokens[at - 1]), plain(tokens[at])];
    const character = holdsBytes(before) && holdsBytes(text) && !text.startsWith("␣");
    if (character || (endsInLetter(before) && isLetter(text))) pairs.push({ to: at, character });
  }
  return pairs;
}

const MOST_REMARKS = 3;
function remarksOnPieces(context, joined) {
  const { tokens, first, model } = context;
  const groups = [];
  for (const { to, character } of joined) {
    if (groups.at(-1)?.end === to - 1) groups.at(-1).end = to;
    else groups.push({ start: to - 1, end: to, character });
  }
  const remarks = groups.slice(0, MOST_REMARKS).map(({ start, end, character }) => {
    const ids = tokens.slice(start, end + 1);
    const word = ids.flatMap((id, i) => [i ? "·" : "", tokenOf(context, id)]);
    return nodes(character ? "tokens.character" : "tokens.word", { word, n: ids.length });
  });
  const unseen = [...new Set(tokens.slice(first).filter(model.isUnseen))].slice(0, MOST_REMARKS);
  if (unseen.length) {
    const words = unseen.flatMap((id, i) => [i ? ", " : "", tokenOf(context, id)]);
    remarks.push(nodes("tokens.unseen", { words }));
  }
  return remarks;
}

function showChosen() {
  const radio = document.querySelector(`input[name="token"][value="${position()}"]`);
  if (radio) radio.checked = true;
}

view(["context"], showTokens, "tokens");
view(["position"], showChosen);
