// The fleet's map: what it is coloured by changes without a new page, and the figures above it follow the frames.

import "./heat.js";

const heat = /** @type {import("./heat.js").Heat | null} */ (document.querySelector("hf-heat"));
const ways = document.querySelector(".ways");

ways?.addEventListener("click", (event) => {
  const link = /** @type {HTMLElement} */ (event.target).closest("a");
  const { ctrlKey, metaKey, shiftKey } = /** @type {MouseEvent} */ (event);
  if (!link || !heat || ctrlKey || metaKey || shiftKey) return;
  event.preventDefault();
  for (const each of ways.querySelectorAll("a")) each.toggleAttribute("aria-current", false);
  link.setAttribute("aria-current", "true");
  heat.setAttribute("by", link.dataset["by"] ?? "use");
  history.replaceState(null, "", link.href);
});

for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => heat?.enlarge(Number(/** @type {HTMLElement} */ (button).dataset["zoom"])));
}

heat?.addEventListener("heat-frame", (event) => {
  const { counts } = /** @type {CustomEvent} */ (event).detail;
  set("idle", counts.idle);
  set("failed", counts.failed);
});

/** @param {string} name @param {number} value */
function set(name, value) {
  const place = document.querySelector(`[data-figure="${name}"]`);
  const text = value.toLocaleString("en-US");
  if (place && place.textContent !== text) place.textContent = text;
}
