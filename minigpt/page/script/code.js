/* The Python behind each view, as it is where this page was made. */
import { make } from "./tools.js";
import { data, t } from "./words.js";
import { view } from "./store.js";

function showFunctions() {
  for (const host of document.querySelectorAll("[data-functions]")) {
    host.replaceChildren(...host.dataset.functions.split(" ").flatMap((group) => data.functions[group] ?? []).map(entry));
  }
}

function entry({ name, where, source }) {
  const title = [make("code", { class: "function" }, name), make("span", { class: "where" }, where)];
  if (!source) return make("p", { class: "code-name" }, ...title);
  const label = t("code.source", { name });
  const code = make("pre", { tabindex: "0", role: "region", "aria-label": label }, make("code", {}, source));
  return make("details", {}, make("summary", {}, ...title), code);
}

view(["language"], showFunctions);
