// The list of jobs: only the rows in view exist, changes come as they happen, filters apply as they are chosen.
import { ask } from "./api.js";
import { fill } from "./html.js";
import { heads, line, ordered, ran, spacer } from "./jobs_rows.js";
import { follow } from "./live.js";
import { present } from "./times.js";
import { views } from "./job_views.js";

/** @typedef {import("./jobs_rows.js").Row} Row */

const SPARE = 12; // rows drawn beyond what is in view
const ORDERED = 10_000; // of the newest: so many are put in order
const query = new URLSearchParams(location.search);

class Jobs extends HTMLElement {
  /** @type {Row[]} */ #rows = []; // the newest first
  /** @type {Row[]} */ #shown = []; // as they are ordered
  #order = query.get("order") ?? "";
  /** @type {Map<string, number>} */ #places = new Map();
  /** @type {string | null} */ #next = null;
  #total = 0;
  #loading = false;
  #drawn = "";
  /** @type {Set<string>} */ #changed = new Set();
  #asked = 0;

  connectedCallback() {
    this.#total = Number(this.dataset.total ?? 0);
    const table = this.querySelector("table");
    if (table) heads(table, this.#order, (order) => this.#arrange(order));
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
    if (this.#order) void this.#more(ORDERED);
  }

  /** Another order, kept in the address and in those that this page leads to. @param {string} order */
  #arrange(order) {
    this.#order = order;
    order ? query.set("order", order) : query.delete("order");
    history.replaceState(null, "", query.size ? `/jobs?${query}` : "/jobs");
    const kept = /** @type {HTMLInputElement | null} */ (document.querySelector('.filters [name="order"]'));
    if (kept) kept.value = order;
    for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll(".subnav a"))) {
      const address = new URL(link.href);
      order ? address.searchParams.set("order", order) : address.searchParams.delete("order");
      link.href = address.pathname + address.search;
    }
    this.#index();
    this.#draw(true);
    if (order) void this.#more(ORDERED);
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
    this.#shown = ordered(this.#rows, this.#order, present() * 1000);
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
      while (this.#next && this.#rows.length < (this.#order ? ORDERED : wanted)) {
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
    const total = this.#order ? this.#rows.length : this.#total;
    const until = Math.min(total, Math.ceil((innerHeight - top) / height) + SPARE);
    if (until > this.#rows.length) void this.#more(until);
    const drawn = `${first} ${until} ${this.#rows.length}`;
    if (drawn === this.#drawn && !anew) return;
    this.#drawn = drawn;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest("tr[data-id]"))?.dataset.id;
    const end = Math.min(until, this.#rows.length);
    const now = present() * 1000;
    fill(body, [
      spacer(first * height, first),
      ...this.#shown.slice(first, end).map((row, place) => line(row, first + place + 2, now, this.#changed.has(row[0]))),
      spacer((Math.max(total, this.#rows.length) - end) * height, 0),
    ]);
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll("tr.spacer td"))) one.style.height = `${one.dataset.height}px`;
    if (focused) /** @type {HTMLElement | null} */ (body.querySelector(`tr[data-id="${CSS.escape(focused)}"] a`))?.focus({ preventScroll: true });
    body.parentElement?.setAttribute("aria-rowcount", String(total + 1));
    const shown = this.querySelector("[data-shown]");
    if (shown) shown.textContent = `${this.#total.toLocaleString("en")} job${this.#total === 1 ? "" : "s"}${this.#order && this.#next ? `; the newest ${this.#rows.length.toLocaleString("en")} are put in order` : ""}`;
  }
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
