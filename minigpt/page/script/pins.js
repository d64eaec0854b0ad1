/* Words that are followed through every view, each by its colour; and how a token looks. */
import { common, main } from "./contexts.js";
import { state, touch, view } from "./store.js";
import { $, arrange, make, rove, say } from "./tools.js";
import { t } from "./words.js";
import { contexts } from "./store.js";

/* As in the terminal: spaces are drawn, and what has no shape of its own is escaped already. */
export const plain = (id, texts = main.texts) => texts[id];

export function token(id, texts = main.texts) {
  const node = make("span", { class: "token", translate: "no" });
  for (const part of plain(id, texts).split(/(␣+)/).filter(Boolean)) {
    if (part[0] !== "␣") node.append(part);
    else node.append(make("span", { class: "space", role: "img", "aria-label": t("space") }, part));
  }
  return node;
}
export const tokenOf = (context, id) => token(id, context.model.texts);

/* Six colours; the words after them have another line and mark, so that eighteen can be told apart. */
export function colour(id) {
  const at = state.pins.indexOf(id);
  return `pin-${at % 6} lap-${Math.floor(at / 6) % 3}`;
}

function pin(id) {
  const at = state.pins.indexOf(id);
  if (at < 0) state.pins.push(id);
  else state.pins.splice(at, 1);
  touch("pins");
  say(t(at < 0 ? "pins.following" : "pins.no-longer", { word: plain(id) }));
}

/* A button that follows a token, or stops; every one of them shows the same state. What the first
   vocabulary lacks cannot be followed, and is text alone. */
export function pinButton(id, ...extra) {
  const button = make("button", { type: "button", class: "follows" }, make("span", { class: "dot" }), token(id), ...extra);
  button.addEventListener("click", () => pin(id));
  button.refresh = () => {
    const pinned = state.pins.includes(id);
    button.setAttribute("aria-pressed", pinned);
    button.title = t(pinned ? "pins.stop" : "pins.follow", { id });
    button.className = pinned ? `follows ${colour(id)}` : "follows";
  };
  button.refresh();
  return button;
}
export function pinButtonOf(context, id, ...extra) {
  const shared = common(context, id);
  if (shared >= 0) return pinButton(shared, ...extra);
  return make("span", { class: "follows" }, tokenOf(context, id), ...extra);
}

const buttons = new Map();
let tidyPins, tidyFound;

function showPins() {
  const hadFocus = $("pins").contains(document.activeElement);
  for (const id of buttons.keys()) if (!state.pins.includes(id)) buttons.delete(id);
  for (const id of state.pins)
    if (!buttons.has(id)) buttons.set(id, pinButton(id, make("span", { class: "cross", "aria-hidden": "true" }, "×")));
  arrange($("pins"), state.pins.map((id) => buttons.get(id)));
  tidyPins();
  if (hadFocus && !$("pins").contains(document.activeElement)) {
    ($("pins").querySelector("button[tabindex='0']") ?? $("search")).focus();
  }
  for (const button of document.querySelectorAll("button.follows")) button.refresh();
}

function showFound() {
  const query = $("search").value.replace(/ /g, "␣");
  const { rank } = contexts[0];
  const found = [];
  if (query) {
    for (let id = 0; id < rank.length; id++) {
      const text = main.texts[id] ?? "";
      const bare = text.startsWith("␣") && !query.startsWith("␣") ? text.slice(1) : text;
      if (bare.startsWith(query)) found.push([bare === query ? 0 : 1, rank[id], id]);
    }
  }
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const results = found.slice(0, 8).map(([, , id]) => pinButton(id));
  $("found").replaceChildren(...(query && !results.length ? [t("pins.none")] : results));
  tidyFound();
}

export function connectPins() {
  tidyPins = rove($("pins"));
  tidyFound = rove($("found"));
  $("search").addEventListener("input", showFound);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") $("found").querySelector("button")?.click();
  });
}

view(["pins"], showPins);
view([], showFound, "logits");
