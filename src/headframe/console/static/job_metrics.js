// <hf-job-metrics data-job>: charts of what was measured of a job and of what it reported, kept up to date while it runs.
import { ask } from "./api.js";
import { element, fill, html } from "./html.js";
import { measured } from "./measured.js";
import { align, collect } from "./series.js";

/** @typedef {import("./series.js").Group} Group */

const RANGES = /** @type {[string, number][]} */ ([["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["All", 0]]);

class JobMetrics extends HTMLElement {
  /** @type {Map<string, HTMLElement>} */ #cards = new Map();
  #range = 0; // seconds
  #load = () => {};
  #empty = true;

  connectedCallback() {
    const brief = this.hasAttribute("data-brief");
    if (!brief) {
      fill(this, html`<div class="metrics-head"><p class="quiet" data-about></p><div class="ranges" role="group" aria-label="How far back">${RANGES.map(([words, seconds]) => html`<button type="button" class="small" data-range="${seconds}" aria-pressed="${seconds === 0}">${words}</button>`)}</div></div><div data-sections></div>`);
      this.addEventListener("click", (event) => {
        const range = /** @type {HTMLElement} */ (event.target).dataset.range;
        if (range === undefined) return;
        this.#range = Number(range);
        for (const one of this.querySelectorAll("[data-range]")) one.setAttribute("aria-pressed", String(one.getAttribute("data-range") === range));
        this.#load();
      });
    } else fill(this, html`<div class="chart-grid" data-sections></div>`);
    const job = this.dataset.job ?? "";
    const fetch = () => ask(`/v1/jobs/${job}/metrics?points=400${this.#range ? `&from_us=${this.#from()}` : ""}`);
    const fail = () => this.#empty && this.#nothing("The metrics cannot be read now.");
    this.#load = measured(job, !this.dataset.ended, fetch, (found) => this.#show(collect(inside(found.items, this.#from()))), fail);
  }

  /** The moment from which on is shown, in microseconds. */
  #from() {
    return this.#range ? Math.floor((Date.now() - this.#range * 1000) * 1000) : 0;
  }

  /** @param {string} words */
  #nothing(words) {
    const place = this.querySelector("[data-sections]");
    if (place && !this.hasAttribute("data-brief")) fill(place, html`<div class="empty"><p class="empty-title">${words}</p><p>Use of processors, memory and GPUs shows within seconds of a job's start. What the job itself reports takes one line:</p><p class="command"><code>import headframe; headframe.log(step=step, loss=loss)</code></p></div>`);
  }

  /** @param {Group[]} groups */
  #show(groups) {
    if (!groups.length) {
      if (this.#empty) this.#nothing(this.#range ? "Nothing was measured in this time" : "Nothing has been measured yet");
      return;
    }
    const place = /** @type {HTMLElement} */ (this.querySelector("[data-sections]"));
    if (this.#empty) fill(place, html``);
    this.#empty = false;
    const brief = this.hasAttribute("data-brief");
    const chosen = brief ? pick(groups) : groups;
    for (const group of chosen) this.#card(place, group, brief);
    for (const [key, card] of this.#cards) card.hidden = !chosen.some((group) => group.key === key);
    const about = this.querySelector("[data-about]");
    if (about) about.textContent = `${groups.length} charts${this.dataset.ended ? "" : ", kept up to date"}`;
  }

  /** @param {HTMLElement} place @param {Group} group @param {boolean} brief */
  #card(place, group, brief) {
    let card = this.#cards.get(group.key);
    if (!card) {
      card = element(html`<section class="card chart-card"><div class="card-head">${brief ? html`<h2 title="${group.title}">${group.title}</h2>` : html`<h3 title="${group.title}">${group.title}</h3>`}<span class="now"></span></div><hf-chart height="${brief ? 130 : 170}"></hf-chart></section>`);
      this.#grid(place, group, brief).append(card);
      this.#cards.set(group.key, card);
    }
    const now = card.querySelector(".now");
    if (now) now.textContent = group.now;
    const { x, series } = align(group);
    /** @type {any} */ (card.querySelector("hf-chart")).show?.({ kind: "line", title: group.title, unit: group.unit, x, series, max: group.max, min: group.reported ? undefined : 0, group: `job ${this.dataset.job}` });
  }

  /** The grid of a section: what the job reports comes first. @param {HTMLElement} place @param {Group} group @param {boolean} brief */
  #grid(place, group, brief) {
    if (brief) return place;
    const name = group.reported ? "Reported by the job" : "Measured";
    let section = place.querySelector(`[data-section="${name}"]`);
    if (!section) {
      section = element(html`<section data-section="${name}"><div class="metrics-head"><h2>${name}</h2></div><div class="chart-grid"></div></section>`);
      if (group.reported) place.prepend(section);
      else place.append(section);
    }
    return /** @type {HTMLElement} */ (section.querySelector(".chart-grid"));
  }
}

/** What of series lies behind a moment. @param {import("./series.js").Series[]} items @param {number} from */
function inside(items, from) {
  const cut = (/** @type {import("./series.js").Series} */ one) => {
    const first = one.at_us.findIndex((at) => at >= from);
    return first > 0 ? { ...one, at_us: one.at_us.slice(first), mean: one.mean.slice(first), low: one.low.slice(first), high: one.high.slice(first), step: one.step?.slice(first) ?? null } : one;
  };
  return from ? items.map(cut) : items;
}

/** The three that say most at a glance. @param {Group[]} groups */
function pick(groups) {
  const named = (/** @type {string[]} */ names) => names.map((name) => groups.find((group) => !group.reported && group.key === `m ${name}`)).find(Boolean);
  const loss = groups.find((group) => group.reported && /loss/i.test(group.title)) ?? groups.find((group) => group.reported);
  const found = [named(["gpu_busy_milli", "cpu_milli"]), named(["gpu_memory_mib", "memory_mib"]), loss ?? named(["power_mw", "temperature_c"])];
  return /** @type {Group[]} */ (found.filter(Boolean));
}

await customElements.whenDefined("hf-chart");
customElements.define("hf-job-metrics", JobMetrics);
