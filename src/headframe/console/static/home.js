// Home: what needs attention and how things stand, as they change.
import "./heat.js";
import "./chart/chart.js";
import { fill, html, mark } from "./html.js";
import { follow } from "./live.js";
import { ago, exact, span } from "./times.js";

/** @typedef {{kind: string, tone: string, text: string, detail: string, subject: string, since_us: number | null, more: number}} Attention */

const list = /** @type {HTMLElement} */ (document.getElementById("attention"));
const places = JSON.parse(list.dataset["places"] ?? "{}");
const lists = JSON.parse(list.dataset["lists"] ?? "{}");
const number = new Intl.NumberFormat("en");

/** @param {Attention} one */
function line(one) {
  const place = (places[one.kind] ?? "/home").replace("{}", encodeURIComponent(one.subject));
  const since = one.since_us ? html`<span class="quieter"><time data-when datetime="${new Date(one.since_us / 1000).toISOString()}" title="${exact(one.since_us)}">${ago(one.since_us / 1000)}</time></span>` : "";
  const more = one.more ? html`<a class="more" href="${lists[one.kind] ?? "/home"}">and ${number.format(one.more)} more</a>` : "";
  const bad = one.tone === "bad";
  return html`<li class="${one.tone}">${mark(bad ? "cross" : "warn")}<span class="unseen">${bad ? "Failed: " : "Warning: "}</span><a href="${place}">${one.text}</a><span class="quiet">${one.detail}</span>${since}${more}</li>`;
}

/** @param {string} name @param {string} text */
function set(name, text) {
  const place = document.querySelector(`[data-figure="${name}"]`);
  if (place && place.textContent !== text) place.textContent = text;
}

const many = (/** @type {number | undefined} */ value) => number.format(value ?? 0);
let shown = "";

follow("home", (frame) => {
  const told = JSON.stringify(frame.attention);
  if (told !== shown && !list.contains(document.activeElement)) {
    shown = told;
    fill(list, frame.attention.length ? frame.attention.map(line) : html`<li class="ok">${mark("tick")}<span>Nothing needs you now.</span></li>`);
    const count = document.getElementById("attention-count");
    const all = frame.attention.reduce((/** @type {number} */ sum, /** @type {Attention} */ one) => sum + 1 + one.more, 0);
    if (count) count.textContent = all ? number.format(all) : "";
  }
  const gpus = document.querySelector('[data-figure="gpus"]')?.textContent?.split(" of ")[1];
  set("gpus", number.format(frame.held_milli / 1000) + (gpus ? ` of ${gpus}` : ""));
  set("gpus-note", frame.accelerators_in_all ? `${many(frame.accelerators.idle)} idle in the cloud` : "there are none here");
  const nodes = Object.values(/** @type {Record<string, number>} */ (frame.nodes)).reduce((all, one) => all + one, 0);
  set("nodes", `${many(frame.nodes.ready)} of ${nodes}`);
  set("running", many(frame.jobs.running));
  set("running-note", `${many(frame.jobs.starting)} starting`);
  set("waiting", many((frame.jobs.queued ?? 0) + (frame.jobs.pending ?? 0)));
  set("waiting-note", frame.longest_wait_us ? `the longest for ${span(Math.trunc(frame.longest_wait_us / 1e6))}` : "nobody waits");
  set("ended", many(frame.ended.succeeded));
  set("ended-note", `${many(frame.ended.failed)} failed, ${many(frame.ended.stopped)} stopped`);
});
