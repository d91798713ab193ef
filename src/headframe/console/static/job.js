// What the pages of a job share: parts of the page are fetched anew when the job changes; its cost goes on; keys.
import { freshen } from "./fresh.js";
import { follow } from "./live.js";
import { span } from "./times.js";

const place = /** @type {HTMLElement | null} */ (document.getElementById("job"));
const id = place?.dataset.id ?? "";

const soon = () => freshen(400);
if (id) {
  follow(`job:${id}`, soon, soon);
  follow(`events:${id}`, soon, soon);
}

/** Money goes on between two looks at the record, which says what is exact. */
const began = Date.now();
function tick() {
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-cost]"))) {
    const rate = Number(one.dataset.perHour ?? 0);
    if (!rate) continue;
    const since = Number((one.dataset.since ??= String(Date.now())));
    const nano = Number(one.dataset.cost) + (rate * (Date.now() - since)) / 3_600_000;
    one.textContent = `${(nano / 1e9).toLocaleString("en", { minimumFractionDigits: 4, maximumFractionDigits: 4 })} ${one.dataset.currency}`;
  }
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-runs]"))) {
    one.textContent = span(Math.floor(Number(one.dataset.runs) / 1e6 + (Date.now() - Number((one.dataset.since ??= String(began)))) / 1000));
  }
}
setInterval(tick, 500);

document.addEventListener("keydown", (event) => {
  const typing = /** @type {HTMLElement} */ (event.target).closest("input, textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "c") /** @type {HTMLElement | null} */ (document.querySelector('[data-shortcut="c"]'))?.click();
  if (event.key === "s") {
    const menu = /** @type {HTMLDetailsElement | null} */ (document.querySelector("details.stop"));
    if (!menu) return;
    menu.open = true;
    event.preventDefault();
    /** @type {HTMLElement | null} */ (menu.querySelector("input:not([type=hidden])"))?.focus();
  }
});
