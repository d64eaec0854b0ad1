/* Where the numbers behind the last vector came from: logits, probabilities, and the pushes of a pair. */
import { dot } from "./arithmetic.js";
import { rowOfHead } from "./details.js";
import { settings } from "./store.js";
import { exact, products } from "./sums.js";
import { tokenOf } from "./pins.js";
import { number, sum } from "./tools.js";
import { data, t } from "./words.js";

export const outputs = {
  logit({ token }, context) {
    const row = rowOfHead(context, token);
    const told = { title: t("origin.logit"), between: [tokenOf(context, token)], term: "logit", line: "logits", value: context.logits[token] };
    if (!row) return { ...told, note: t("origin.not-here", { name: `wte[${token}]` }) };
    const x = context.end.subarray(context.model.n_embd);
    const total = dot(x, row);
    return { ...told, ...products(x, row, "ln_f", `wte[${token}]`), computed: total, steps: [exact(total)] };
  },

  probability({ token }, context) {
    const { logits, order } = context;
    const temperature = settings.temperature;
    const largest = logits[order[0]];
    const told = {
      title: t("origin.probability"),
      between: [tokenOf(context, token)],
      term: "softmax",
      line: "",
      value: context.probabilities[token],
    };
    if (temperature === 0) return { ...told, computed: token === order[0] ? 1 : 0, steps: [t("origin.argmax")] };
    let total = 0;
    for (const logit of logits) total += Math.exp((logit - largest) / temperature);
    const power = Math.exp((logits[token] - largest) / temperature);
    return {
      ...told,
      computed: power / total,
      rows: [
        { cells: [t("origin.logit-of"), exact(logits[token])], follow: { kind: "logit", token } },
        { cells: [t("origin.largest"), exact(largest)], follow: { kind: "logit", token: order[0] } },
        { cells: [t("origin.temperature"), String(temperature)] },
        { cells: ["e^((z − max) / T)", power.toPrecision(5)] },
        { cells: [t("origin.sum-over", { n: number.format(logits.length) }), total.toPrecision(6)] },
      ],
      steps: [`${power.toPrecision(5)} / ${total.toPrecision(6)}`],
      note: t("origin.max-off"),
    };
  },

  push({ token }, context) {
    const p = Math.exp(context.logits[token] - logSumExp(context.logits));
    const terms = ["chosen", "rejected"].flatMap((name) => {
      const next = data.pushes[name].find(({ position }) => position === context.tokens.length);
      if (!next) return []; // this text ends where the other goes on
      const [c, part] = [next.nll + next.preference, (next.id === token ? 1 : 0) - p];
      return [{ name, next, c, part, product: c * part }];
    });
    const follow = settings.temperature === 1 ? { kind: "probability", token } : null; // p is that of training
    return {
      title: t("pushes.of-logit"),
      between: [tokenOf(context, token)],
      term: "preference optimization",
      line: "",
      value: data.pushes.moves.find(({ id }) => id === token).push,
      computed: sum(terms.map(({ product }) => product)),
      heads: [t("pushes.goes-on"), "c", "onehot − p", "×"],
      rows: [
        ...terms.map(({ next, c, part, product }) => ({ cells: [tokenOf(context, next.id), exact(c), exact(part), exact(product)] })),
        { cells: ["p", exact(p)], follow },
      ],
      steps: [terms.map(({ c, part }) => `${exact(c)} × (${exact(part)})`).join(" + ")],
      note: t("pushes.onehot"),
    };
  },
};

function logSumExp(logits) {
  const largest = logits.reduce((most, logit) => Math.max(most, logit));
  return largest + Math.log(logits.reduce((total, logit) => total + Math.exp(logit - largest), 0));
}
