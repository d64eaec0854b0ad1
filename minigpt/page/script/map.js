/* The map of the whole: it marks the part that is being read; on a phone it is a strip of points. */
import { $ } from "./tools.js";

export function connectMap() {
  const links = new Map([...document.querySelectorAll(".map-of-all a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id).setAttribute("aria-current", "step");
        $("map-now").textContent = links.get(target.id).textContent;
      }
    },
    { rootMargin: "-30% 0px -65% 0px" },
  );
  for (const id of links.keys()) observer.observe($(id));
}
