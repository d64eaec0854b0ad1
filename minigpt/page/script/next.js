/* The next token: a number between 0 and 1 falls on the bars of the kept tokens, laid end to end. */
import { drawn, generator } from "./arithmetic.js";
import { isLive } from "./details.js";
import { tokenOf } from "./pins.js";
import { shapes } from "./settings.js";
import { contexts, current, settings, state, view } from "./store.js";
import { $, make, number, percent, say } from "./tools.js";
import { data, nodes, t } from "./words.js";

let random = generator(0);
let draw = null; // the last draw: { context, dice, place, start, end, id }
let takes = null; // what a live page does with the token that was drawn
let step = 0; // of the recorded tokens of a written file
export function takeBy(taker) {
  takes = taker;
}

/* The number behind the draw comes from the seed, so that the same seed draws the same tokens again. */
function drawToken(dice = random()) {
  const context = current();
  const found = drawn(context, shapes[state.context], dice);
  draw = { context, dice, ...found, id: context.order[found.place] };
  showDraw();
  say(t("next.said", { word: context.plain(draw.id), dice: dice.toFixed(4) }));
  takes?.(draw.id, context);
  return draw;
}

export function nextToken(dice) {
  const { id, place, start, end } = drawToken(dice);
  return { id, place, start, end };
}

const MOST_BARS = 60; // of the kept tokens so many have a bar of their own; the rest stand as one

function showDraw() {
  const context = current();
  const { kept, keptMass } = shapes[state.context];
  const bars = [...context.order.slice(0, Math.min(kept, MOST_BARS))];
  const share = (id) => context.probabilities[id] / keptMass;
  const chosen = draw?.context === context ? draw : null;
  $("line").replaceChildren(...bars.map((id) => lineBar(context, id, share(id), chosen?.id === id)));
  $("dice").hidden = !chosen;
  if (chosen) $("dice").style.setProperty("--at", chosen.dice);
  const greedy = settings.temperature === 0;
  $("draw").textContent = t(greedy ? "next.take" : "next.draw");
  if (!chosen && !(draw && isLive())) {
    $("draw-words").textContent = t(greedy ? "next.greedy" : "next.ready", { n: number.format(kept) });
    return;
  }
  const values = {
    dice: make("strong", {}, draw.dice.toFixed(4)),
    start: draw.start.toFixed(4),
    end: draw.end.toFixed(4),
    token: tokenOf(draw.context, draw.id),
    rank: number.format(draw.place + 1),
    p: percent(draw.end - draw.start),
  };
  $("draw-words").replaceChildren(...nodes("next.drawn", values), ...(chosen ? [] : [" ", t("next.appended")]));
}

function lineBar(context, id, share, chosen) {
  const node = make("span", { class: chosen ? "chosen" : false }, share > 0.05 ? context.plain(id) : "");
  node.style.setProperty("--share", share);
  return node;
}

/* ----------------------------------------------------------------- the tokens that a written file recorded */

function showSteps() {
  const { steps = [] } = data;
  $("recorded").hidden = !steps.length;
  if (!steps.length) return;
  const [context] = contexts;
  const written = steps.slice(0, step).flatMap(({ id }) => [tokenOf(context, id), make("wbr")]);
  $("recorded-text").replaceChildren(make("span", { translate: "no" }, context.prompt), ...written);
  const now = steps[Math.min(step, steps.length - 1)];
  const done = step >= steps.length;
  const items = now.choices.map(([id, p]) => {
    const fill = make("span", { class: "bar", "aria-hidden": "true" });
    fill.style.setProperty("--share", p);
    return make("li", { class: id === now.id ? "chosen" : false }, tokenOf(context, id), fill, make("span", { class: "value" }, percent(p)));
  });
  $("recorded-choices").replaceChildren(...items);
  const values = { step: Math.min(step + 1, steps.length), n: steps.length, token: tokenOf(context, now.id), p: percent(now.probability) };
  $("recorded-words").replaceChildren(...nodes(done ? "next.recorded-end" : "next.recorded-step", values));
  $("forward").disabled = done;
  $("backward").disabled = step === 0;
}

export function connectNext() {
  $("draw").addEventListener("click", () => drawToken());
  $("greedy").addEventListener("click", () => drawToken(0));
  $("seed").addEventListener("input", () => {
    random = generator(Number($("seed").value) || 0);
    draw = null;
    showDraw();
  });
  for (const [id, by] of [["forward", 1], ["backward", -1]]) {
    $(id).addEventListener("click", () => {
      step = Math.min(Math.max(step + by, 0), data.steps.length);
      showSteps();
    });
  }
}

view(["context", "settings"], () => {
  $("live-hint").hidden = isLive();
  showDraw();
});
view([], showSteps);
