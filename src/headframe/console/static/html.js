// Markup out of values, escaped always. The only module that hands text to the browser as HTML.

/** Text that is markup already. @typedef {{readonly markup: string}} Markup */

const ESCAPES = /** @type {Record<string, string>} */ ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" });
const made = new WeakSet();

/** Text as HTML shows it. @param {unknown} value @returns {string} */
export function escape(value) {
  return String(value ?? "").replace(/[&<>"']/g, (one) => ESCAPES[one]);
}

/** @param {unknown} value @returns {string} */
function part(value) {
  if (Array.isArray(value)) return value.map(part).join("");
  if (value === null || value === undefined || value === false) return "";
  if (typeof value === "object" && made.has(value)) return /** @type {Markup} */ (value).markup;
  return escape(value);
}

/**
 * Markup with values in it: html`<b>${name}</b>`. A list is joined, markup of this module stays, all else is escaped.
 * Values stand in text and in quoted attributes only, never in tags' names, scripts or styles.
 * @param {TemplateStringsArray} texts @param {...unknown} values @returns {Markup}
 */
export function html(texts, ...values) {
  const markup = Object.freeze({ markup: texts.reduce((all, text, place) => all + text + (place < values.length ? part(values[place]) : ""), "") });
  made.add(markup);
  return markup;
}

/** Let an element hold this markup and nothing else. @param {Element} element @param {Markup | Markup[]} content */
export function fill(element, content) {
  element.innerHTML = part(content);
}

/** The first element of some markup. @param {Markup} content @returns {HTMLElement} */
export function element(content) {
  const holder = document.createElement("template");
  holder.innerHTML = part(content);
  return /** @type {HTMLElement} */ (holder.content.firstElementChild);
}

const base = () => document.body.dataset.static ?? "/static/0/";

/** A drawing of marks.svg. @param {string} name @returns {Markup} */
export function mark(name) {
  return html`<svg class="mark" aria-hidden="true" width="16" height="16"><use href="${base()}marks.svg#${name}"></use></svg>`;
}

/** The mark and tone of each state: as `words.STATES` of the pages. */
export const STATES = /** @type {Record<string, [string, string]>} */ ({
  pending: ["clock", "quiet"], queued: ["clock", "quiet"], starting: ["quarter", "info"], running: ["play", "info"],
  stopping: ["pause", "warn"], succeeded: ["tick", "ok"], failed: ["cross", "bad"], stopped: ["pause", "quiet"],
  ready: ["tick", "ok"], draining: ["slash", "warn"], down: ["cross", "bad"],
  unreachable: ["cross", "bad"],
});

/** A state as a mark and a word. @param {string} word @param {string} [text] @returns {Markup} */
export function state(word, text) {
  const [drawing, tone] = STATES[word] ?? ["dot", "quiet"];
  return html`<span class="state ${tone}" data-state="${word}">${mark(drawing)}${text ?? word.replaceAll("_", " ")}</span>`;
}
