/* The final layer norm: what the last vector becomes before it is compared with every token. */
import { current, view } from "./store.js";
import { meanAndScale } from "./sums.js";
import { $, fixed } from "./tools.js";
import { place, strip } from "./vectors.js";
import { t } from "./words.js";

function showFinal() {
  const context = current();
  const { end, last, model } = context;
  const [x, normed] = [end.subarray(0, model.n_embd), end.subarray(model.n_embd)];
  const layer = model.n_layer - 1;
  const before = (index) => ({ kind: "add", name: "resid_post", layer, position: last, index });
  const after = (index) => ({ kind: "norm", norm: "ln_f", position: last, index });
  place(
    "final-strips",
    strip({ name: `h.${layer}.resid_post`, words: t("final.x"), vector: x, origin: before }),
    strip({ name: "ln_f", words: t("final.ln_f"), vector: normed, origin: after }),
  );
  const { mean, scale } = meanAndScale(x, model.epsilon);
  $("final-words").textContent = t("block.norm-words", { mean: fixed(mean, 3), scale: fixed(scale, 3) });
}

view(["context"], showFinal, "final");
