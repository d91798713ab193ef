// The form of a new job: while one types, the file, what is wrong beside each field, the price and the start.
import { Refused } from "./api.js";

const form = /** @type {HTMLFormElement} */ (document.querySelector("[data-new-job]"));
const plan = /** @type {HTMLElement} */ (form.querySelector(".plan"));
/** @type {Set<string>} */
const touched = new Set();
/** @type {AbortController | null} */
let asking = null;
/** @type {number | undefined} */
let timer;

/** @param {string} selector @param {string} words */
function put(selector, words) {
  const place = form.querySelector(selector);
  if (place && place.textContent !== words) place.textContent = words;
}

/** Ask what would become of it. */
async function check() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const body = new URLSearchParams(/** @type {any} */ (new FormData(form)));
  body.delete("act");
  try {
    const answer = await fetch("/jobs/new/check", { method: "POST", body, signal: mine.signal });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refused(told);
    show(told);
  } catch (error) {
    if (mine.signal.aborted) return;
    put("[data-head]", "Not known now");
    put("[data-text]", error instanceof Refused ? error.message : "The server does not answer; it is asked again when you type.");
  }
}

/** @param {{file: string, command?: string, curl?: string, faults: Record<string, string>, plan: null | Record<string, string>}} told */
function show(told) {
  put("[data-file]", told.file);
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-copies]"))) {
    const value = /** @type {Record<string, any>} */ (told)[one.dataset.copies ?? ""];
    if (value) one.dataset.copy = value;
  }
  const whole = form.querySelector("#field-file");
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-fault]"))) {
    const name = one.dataset.fault ?? "";
    const words = whole ? Object.values(told.faults).join(" ") : (told.faults[name] ?? "");
    // What nobody has typed into yet is not wrong, it is missing.
    const shown = whole || touched.has(name) ? words : "";
    if (one.textContent !== shown) one.textContent = shown;
    const field = one.closest(".field");
    field?.classList.toggle("wrong", Boolean(shown));
    field?.querySelector("input, textarea, select")?.setAttribute("aria-invalid", String(Boolean(shown)));
  }
  const faults = Object.values(told.faults);
  const found = told.plan;
  plan.dataset.plan = found ? (found.would ?? "") : faults.length ? "refused" : "";
  put("[data-head]", found ? (found.head ?? "") : "Something is missing or wrong");
  put("[data-text]", found ? (found.text ?? "") : (faults[0] ?? ""));
  const facts = /** @type {HTMLElement} */ (form.querySelector("[data-facts]"));
  facts.hidden = !found || found.would === "refused";
  for (const name of ["starts", "per_hour", "most"]) put(`[data-plan-${name}]`, found?.[name] ?? "");
}

form.dataset.live = "";
form.addEventListener("input", (event) => {
  touched.add(/** @type {HTMLInputElement} */ (event.target).name);
  clearTimeout(timer);
  timer = setTimeout(() => void check(), 250);
});
// A plan is of its moment: somebody else may have taken the place.
setInterval(() => !document.hidden && void check(), 15_000);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) /** @type {HTMLElement | null} */ (form.querySelector('[value="submit"]'))?.click();
});
