// The list of jobs: only the rows in view exist, changes come as they happen, filters apply as they are chosen.
import { ask } from "./api.js";
import { fill, html, state } from "./html.js";
import { follow } from "./live.js";
import { ago, exact, present, span } from "./times.js";
import { views } from "./job_views.js";

/** id, name, state, why, project, owner, asks, submitted, started, ended (microseconds), ran, attempt, whether an array.
 * @typedef {[string, string, string, string, string, string, string, number, number | null, number | null, number, number, boolean]} Row */

const SPARE = 12; // rows drawn beyond what is in view
const query = new URLSearchParams(location.search);

class Jobs extends HTMLElement {
  /** @type {Row[]} */ #rows = [];
  /** @type {Map<string, number>} */ #places = new Map();
  /** @type {string | null} */ #next = null;
  #total = 0;
  #loading = false;
  #drawn = "";
  /** @type {Set<string>} */ #changed = new Set();
  #asked = 0;

  connectedCallback() {
    this.#total = Number(this.dataset.total ?? 0);
    void this.#load();
    follow("jobs", (row) => this.#hear(row), () => void this.#load());
    addEventListener("scroll", () => this.#draw(), { passive: true });
    addEventListener("resize", () => this.#draw());
    setInterval(() => this.#tick(), 1000);
  }

  /** Take the first block anew, with how many there are. */
  async #load() {
    const mine = ++this.#asked;
    const found = await this.#block(null).catch(() => null);
    if (!found || mine !== this.#asked) return;
    const known = new Set(found.rows.map((/** @type {Row} */ row) => row[0]));
    const last = found.rows.at(-1)?.[0] ?? "";
    // What was loaded beyond the first block stays: it is older than all of it.
    const kept = found.next ? this.#rows.filter((row) => row[0] < last && !known.has(row[0])) : [];
    if (!kept.length) this.#next = found.next;
    this.#rows = [...found.rows, ...kept];
    this.#index();
    this.#count(found.counts);
    this.#draw(true);
  }

  /** @param {string | null} cursor */
  async #block(cursor) {
    const wanted = new URLSearchParams(query);
    wanted.delete("group");
    if (cursor) wanted.set("cursor", cursor);
    return ask(`/jobs/rows?${wanted}`);
  }

  #index() {
    this.#places = new Map(this.#rows.map((row, place) => [row[0], place]));
  }

  /** @param {Record<string, number>} counts */
  #count(counts) {
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-count]"))) {
      one.textContent = (counts[one.dataset.count ?? ""] ?? 0).toLocaleString("en");
    }
    this.#total = counts[query.get("sort") ?? ""] ?? counts[""] ?? 0;
  }

  /** More rows, until those in view are there. @param {number} wanted */
  async #more(wanted) {
    if (this.#loading) return;
    this.#loading = true;
    try {
      while (this.#next && this.#rows.length < wanted) {
        const found = await this.#block(this.#next);
        this.#rows.push(...found.rows.filter((/** @type {Row} */ row) => !this.#places.has(row[0])));
        this.#next = found.next;
        this.#index();
        this.#draw(true);
      }
    } catch {
      // The connection tells of itself; scrolling asks again.
    } finally {
      this.#loading = false;
    }
  }

  /** A job has changed. @param {any} job */
  #hear(job) {
    const place = this.#places.get(job.id);
    const row = place === undefined ? undefined : this.#rows[place];
    this.#changed.add(job.id);
    setTimeout(() => this.#changed.delete(job.id), 1200);
    if (row) {
      const why = ["running", "succeeded"].includes(job.state) ? "" : job.state === "failed" && job.exit_code ? `exit code ${job.exit_code}` : job.reason ?? "";
      row[2] = job.state;
      row[3] = why;
      row[8] = job.started_us ?? row[8];
      row[9] = job.ended_us ?? null;
      this.#draw(true);
    }
    this.#soon();
  }

  /** @type {number | undefined} */ #timer;
  /** Counts, and rows that came or went, a little later: a burst costs one question. */
  #soon() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#load();
    }, 700);
  }

  /** Time goes on for those that run. */
  #tick() {
    const now = present() * 1000;
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("tr[data-id]"))) {
      const row = this.#rows[this.#places.get(one.dataset.id ?? "") ?? -1];
      const cell = one.querySelector(".ran");
      if (row && row[8] && !row[9] && row[2] !== "queued" && cell) cell.textContent = ran(row, now);
    }
  }

  /** Draw the rows in view. @param {boolean} [anew] */
  #draw(anew = false) {
    const body = this.querySelector("tbody");
    if (!this.#rows.length || !body) {
      if (this.#rows.length) location.reload(); // there was nothing, and now there is
      return;
    }
    const height = matchMedia("(max-width: 700px)").matches ? 58 : 34;
    const top = body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - SPARE);
    const until = Math.min(this.#total, Math.ceil((innerHeight - top) / height) + SPARE);
    if (until > this.#rows.length) void this.#more(until);
    const drawn = `${first} ${until} ${this.#rows.length}`;
    if (drawn === this.#drawn && !anew) return;
    this.#drawn = drawn;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest("tr[data-id]"))?.dataset.id;
    const end = Math.min(until, this.#rows.length);
    const now = present() * 1000;
    fill(body, [
      spacer(first * height, first),
      ...this.#rows.slice(first, end).map((row, place) => line(row, first + place + 2, now, this.#changed.has(row[0]))),
      spacer((Math.max(this.#total, this.#rows.length) - end) * height, 0),
    ]);
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll("tr.spacer td"))) one.style.height = `${one.dataset.height}px`;
    if (focused) /** @type {HTMLElement | null} */ (body.querySelector(`tr[data-id="${CSS.escape(focused)}"] a`))?.focus({ preventScroll: true });
    body.parentElement?.setAttribute("aria-rowcount", String(this.#total + 1));
    const shown = this.querySelector("[data-shown]");
    if (shown) shown.textContent = `${this.#total.toLocaleString("en")} job${this.#total === 1 ? "" : "s"}`;
  }
}

/** Room for rows that are not drawn. @param {number} height @param {number} odd */
function spacer(height, odd) {
  return height > 0 ? html`<tr class="spacer" aria-hidden="true"><td colspan="8" data-height="${height}"></td></tr>${odd % 2 ? html`<tr hidden></tr>` : ""}` : html``;
}

/** @param {Row} row @param {number} number @param {number} now microseconds @param {boolean} changed */
function line(row, number, now, changed) {
  const [id, name, word, why, project, owner, asks, submitted, , , , , parent] = row;
  return html`<tr data-id="${id}" aria-rowindex="${number}" class="${changed ? "changed" : ""}">
    <td class="job"><a href="/jobs/${id}" title="${id}">${name}</a>${parent ? html` <span class="tag">array</span>` : ""}</td>
    <td class="job-state">${state(word)}</td><td class="why quiet" title="${why}">${why.replaceAll("_", " ")}<span class="narrow">${why ? " · " : ""}${asks}</span></td>
    <td class="project">${project}</td><td class="owner">${owner}</td><td class="asks">${asks}</td>
    <td class="number since quiet"><time datetime="${new Date(submitted / 1000).toISOString()}" title="${exact(submitted)}" data-when>${ago(submitted / 1000)}</time></td><td class="number ran">${ran(row, now)}</td></tr>`;
}

/** How long it ran, or runs. @param {Row} row @param {number} now microseconds */
function ran(row, now) {
  const over = row[9] || ["queued", "pending"].includes(row[2]);
  if (over && row[10]) return span(Math.floor(row[10] / 1e6));
  return row[8] && row[2] !== "queued" ? span(Math.max(0, Math.floor(((row[9] ?? now) - row[8]) / 1e6))) : "–";
}

customElements.define("hf-jobs", Jobs);

for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form[data-auto]"))) {
  form.dataset.live = "";
  const go = () => {
    const wanted = new URLSearchParams([...new FormData(form)].filter(([, value]) => value).map(([key, value]) => [key, String(value)]));
    location.assign(wanted.size ? `/jobs?${wanted}` : "/jobs");
  };
  form.addEventListener("submit", (event) => (event.preventDefault(), go()));
  form.addEventListener("change", (event) => /** @type {HTMLElement} */ (event.target).matches("select") && go());
}
for (const menu of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-views]"))) views(menu);

document.addEventListener("keydown", (event) => {
  const typing = /** @type {HTMLElement} */ (event.target).closest("input, textarea, select, dialog");
  if (event.key === "n" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) location.assign("/jobs/new");
});
