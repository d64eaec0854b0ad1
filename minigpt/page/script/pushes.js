/* Preference training, where the page was made of a pair: how hard its loss pushes each token and each logit. */
import { pinButton, plain, token } from "./pins.js";
import { contexts, view } from "./store.js";
import { $, fixed, make, oneStop, percent } from "./tools.js";
import { figure } from "./vectors.js";
import { data, nodes, t } from "./words.js";

const signed = (value) => (value < 0 ? "" : "+") + fixed(value, 4);
const together = ({ nll, preference }) => nll + preference;

function showPushes() {
  $("pushes").hidden = $("pushes-part").hidden = !data.pushes;
  if (!data.pushes) return;
  const { loss, beta, value, logOddsRatio, chosen, rejected } = data.pushes;
  const words = { chosen: answer(chosen), rejected: answer(rejected), value: fixed(value, 3), ratio: fixed(logOddsRatio, 3) };
  const name = loss === "sft" ? loss : `${loss}, β ${beta}`;
  $("pushes-loss").replaceChildren(...nodes("pushes.loss", { ...words, loss: make("strong", {}, name) }));
  const most = Math.max(...[...chosen, ...rejected].map((row) => Math.abs(together(row)))) || 1;
  const tables = [["pushes.chosen", chosen], ["pushes.rejected", rejected.filter(({ isAnswer }) => isAnswer)]];
  $("pushes-texts").replaceChildren(...tables.map(([title, rows]) => textTable(title, rows, most)));
  $("pushes-context").textContent = t("pushes.context", { context: contexts[0].prompt });
  $("pushes-logits").replaceChildren(logitTable());
}

const answer = (rows) => rows.filter(({ isAnswer }) => isAnswer).flatMap(({ id }) => [token(id), make("wbr")]);

/* The coefficients of one text's tokens; those of the prompt, which no answer is compared by, are dimmed. */
function textTable(title, rows, most) {
  const body = rows.map((row) =>
    make(
      "tr",
      { class: row.isAnswer ? false : "rest" },
      make("th", { scope: "row" }, token(row.id)),
      make("td", {}, fixed(row.logprob, 3)),
      make("td", { class: "term-of-sum" }, signed(row.nll)),
      make("td", { class: "term-of-sum" }, signed(row.preference)),
      make("td", {}, signed(together(row))),
      make("td", { class: "wide", "aria-hidden": "true" }, bar(together(row) / most)),
    ),
  );
  const heads = ["softmax.token", "pushes.logprob", "pushes.nll", "pushes.preference", "pushes.together"];
  return table("terms pushed", t(title), heads, body);
}

/* How far a push reaches of the hardest; its colour says whether it goes up or down. */
function bar(share) {
  const node = make("span", { class: share < 0 ? "bar below" : "bar" });
  node.style.setProperty("--share", Math.abs(share));
  return node;
}

/* The logits that rise most and fall most, each of which can be followed, as a word and as a number. */
function logitTable() {
  const most = Math.max(...data.pushes.moves.map(({ push }) => Math.abs(push))) || 1;
  const rows = data.pushes.moves.map(({ id, logit, probability, push }) => {
    const word = plain(id);
    const score = figure(fixed(logit), { kind: "logit", token: id, context: contexts[0] }, t("origin.of-logit", { word }));
    const pushed = figure(signed(push), { kind: "push", token: id, context: contexts[0] }, t("pushes.of", { word }));
    return make(
      "tr",
      { "data-token": id },
      make("th", { scope: "row" }, pinButton(id)),
      make("td", {}, score),
      make("td", {}, percent(probability)),
      make("td", {}, pushed),
      make("td", { class: "wide", "aria-hidden": "true" }, bar(push / most)),
    );
  });
  const heads = ["softmax.token", "softmax.logit", "softmax.probability", "pushes.push"];
  return oneStop(table("terms pushed logits", t("pushes.caption"), heads, rows, true), () => 3);
}

function table(kind, title, heads, body, unseen = false) {
  const cells = heads.map((key) => make("th", { scope: "col" }, t(key)));
  const caption = make("caption", { class: unseen ? "unseen" : false }, title);
  const head = make("thead", {}, make("tr", {}, ...cells, make("td", { "aria-hidden": "true" })));
  return make("table", { class: kind }, caption, head, make("tbody", {}, ...body));
}

view([], showPushes, "pushes");
