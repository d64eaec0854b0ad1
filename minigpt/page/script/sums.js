/* What explanations of numbers share: how a number is written, and sums with their largest terms. */
import { fixed, minus, number, sum } from "./tools.js";
import { strongest } from "./vectors.js";
import { t } from "./words.js";

/* Four digits behind the point, or as many as a small number needs. */
export const exact = (value) => (value && Math.abs(value) < 1e-3 ? minus(value.toExponential(3)) : fixed(value, 4));

const SHOWN = 6; // of the many products of a sum

/* A dot product, as its largest products and the rest: rows [i, a, b, a × b]. */
export function products(a, b, nameA, nameB) {
  const all = a.map((value, i) => value * b[i]);
  const shown = strongest(all, SHOWN);
  const rest = sum([...all]) - sum(shown.map((i) => all[i]));
  return {
    strips: [
      { name: nameA, vector: a },
      { name: nameB, vector: b },
      { name: "×", words: t("origin.products"), vector: all },
    ],
    heads: ["i", nameA, nameB, "×"],
    rows: [
      ...shown.map((i) => ({ cells: [String(i), exact(a[i]), exact(b[i]), exact(all[i])] })),
      { cells: [t("origin.others", { n: number.format(all.length - shown.length) }), "", "", exact(rest)] },
    ],
  };
}

export function meanAndScale(x, epsilon) {
  const mean = sum([...x]) / x.length;
  const variance = sum([...x].map((value) => (value - mean) ** 2)) / x.length;
  return { mean, scale: Math.sqrt(variance + epsilon) };
}
