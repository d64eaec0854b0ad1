/* Embeddings: a row of each table, added. */
import { current, position, view } from "./store.js";
import { t } from "./words.js";
import { largestOf, place, strip } from "./vectors.js";

function showStrips() {
  const { tokens, first, wte, wpe, model, plain } = current();
  const [at, width] = [position(), model.n_embd];
  const row = (table) => table.subarray((at - first) * width, (at - first + 1) * width);
  const [what, where] = [row(wte), row(wpe)];
  const x = what.map((value, i) => value + where[i]);
  const largest = largestOf(what, where, x);
  const origin = (index) => ({ kind: "embedding", position: at, index });
  place(
    "strips",
    strip({ name: `wte[${tokens[at]}]`, words: t("embeddings.wte", { token: plain(tokens[at]) }), vector: what, largest, origin }),
    strip({ name: `wpe[${at}]`, words: t("embeddings.wpe", { position: at }), vector: where, largest, origin }),
    strip({ name: "x", words: t("embeddings.x"), vector: x, largest, origin }),
  );
}

view(["context", "position"], showStrips, "embeddings");
