/* The panel that says where a number came from. It opens beside the page, takes the focus, and gives it back. */
import { isLive } from "./details.js";
import { explain } from "./origins.js";
import { current, view } from "./store.js";
import { $, fixed, later, make, minus, say } from "./tools.js";
import { openBy, place, strip } from "./vectors.js";
import { data, glossary, t } from "./words.js";

let trail = []; // the numbers that were followed, the last one shown
let opener = null; // what had the focus before

function open(origin, button) {
  if (!$("panel").contains(button)) {
    opener = button;
    trail = [];
  }
  trail.push({ origin, context: origin.context ?? trail.at(-1)?.context ?? current() });
  show();
  $("panel-title").focus();
}

function close() {
  trail = [];
  $("panel").hidden = true;
  opener?.isConnected && opener.focus();
}

function show() {
  const last = trail.at(-1);
  $("panel").hidden = !last;
  if (!last) return;
  const found = explain(last.origin, last.context);
  $("panel-back").hidden = trail.length < 2;
  showPlace(last.origin);
  if (!found) {
    $("panel-title").textContent = "…";
    $("panel-body").replaceChildren(isLive() ? "" : make("p", { class: "caption" }, t("origin.not-opened")));
    return;
  }
  $("panel-title").replaceChildren(...heading(found));
  const strips = found.strips.map((each) => strip({ ...each, height: 34, numbers: 0 }));
  const side = make("div", { class: "panel-side" }, ...steps(found), ...explanation(found));
  const sources = make("div", { class: "panel-sources" }, ...table(found), ...strips);
  $("panel-body").replaceChildren(side, sources);
  for (const each of strips) each.paint();
}

/* A vector's numbers are too many for a button each: from one of them, any other is a number typed. */
function showPlace({ index, of }) {
  $("panel-place").hidden = !of;
  if (!of) return;
  $("panel-range").textContent = t("panel.place", { last: of - 1 });
  $("panel-index").max = of - 1;
  if (document.activeElement !== $("panel-index")) $("panel-index").value = index;
}

function goTo(index) {
  const last = trail.at(-1);
  if (!Number.isInteger(index) || index < 0 || index >= last.origin.of) return;
  last.origin = { ...last.origin, index };
  show();
  later(() => say($("panel-title").textContent));
}

function heading({ title, between, value }) {
  const ends = (between ?? []).flatMap((node, i) => [i ? " → " : " ", node]);
  return [title, ...ends, " = ", make("strong", {}, precise(value))];
}
const precise = (value) =>
  value === undefined ? "?" : Math.abs(value) < 1e-3 && value ? minus(value.toExponential(3)) : fixed(value, 4);

/* The rows of a sum or of a softmax; what can be followed further is a button. */
function table({ heads, rows }) {
  if (!rows.length) return [];
  const body = rows.map(({ cells, follow, chosen }) =>
    make(
      "tr",
      { class: chosen ? "chosen" : false },
      ...cells.map((cell, i) => {
        if (i === 0) return make("th", { scope: "row" }, cell);
        if (!follow || i > 1 || cell === "") return make("td", {}, cell);
        const button = make("button", { type: "button", class: "figure" }, cell);
        button.addEventListener("click", () => open(follow, button));
        return make("td", {}, button);
      }),
    ),
  );
  const head = heads.length ? [make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))))] : [];
  return [make("table", { class: "terms" }, ...head, make("tbody", {}, ...body))];
}

function steps({ steps: lines, computed, note }) {
  const shown = lines.map((line, i) =>
    make("p", { class: "sum" }, line, i === 0 && computed !== undefined ? ` = ${precise(computed)}` : ""),
  );
  return [...shown, ...(note ? [make("p", { class: "caption" }, note)] : [])];
}

/* The line of code that made the number, and what the glossary says of it. */
function explanation({ line, term }) {
  const code = data.lines[line];
  const told = glossary(term);
  return [
    ...(code ? [make("p", { class: "line-of-code" }, make("code", {}, code.code), make("span", { class: "where" }, code.where))] : []),
    ...(told
      ? [
          make("p", { class: "term" }, make("strong", {}, told.name), " ", told.sentence),
          ...(code ? [] : [make("p", { class: "line-of-code" }, make("code", {}, told.code))]),
        ]
      : []),
  ];
}

export function connectPanel() {
  openBy(open);
  $("panel-close").addEventListener("click", close);
  $("panel-index").addEventListener("input", () => goTo($("panel-index").valueAsNumber));
  $("panel-back").addEventListener("click", () => {
    trail.pop();
    show();
    $("panel-title").focus();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("panel").hidden) close();
  });
}

view(["details", "settings"], () => {
  if (trail.length) show();
});
