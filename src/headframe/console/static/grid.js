// <hf-grid>: a table of any length of which only the rows in view exist. Sorted by its heads, filtered by words.

import { fill, html } from "./html.js";

/**
 * One column. `text` is what is sorted and searched by; `markup` what is shown, when that is more than the text.
 * @template Row
 * @typedef {object} Column
 * @property {string} name
 * @property {string} title
 * @property {string} [unit]
 * @property {(row: Row) => string | number | null} value
 * @property {(row: Row) => unknown} [markup]
 * @property {boolean} [right]
 * @property {boolean} [wide] left out on a phone
 * @property {boolean} [exact] not searched by
 */

const ROW = 34, AHEAD = 12;

/** @template Row */
export class Grid extends HTMLElement {
  /** @type {Column<any>[]} */ #columns = [];
  /** @type {any[]} */ #rows = [];
  /** @type {any[]} */ #shown = [];
  /** @type {string[]} */ #words = [];
  #sort = "";
  #first = -1;
  #last = -1;
  #at = 0;
  #due = false;
  #scroll = document.createElement("div");
  #count = document.createElement("p");
  #body = document.createElement("tbody");
  /** What is said when there is no row at all. */
  empty = "Nothing here yet.";
  /** What rows are called. */
  noun = "rows";
  /** @type {(row: any) => string} */ key = (row) => row.id;

  connectedCallback() {
    if (this.#scroll.isConnected) return;
    this.#scroll.className = "grid-scroll";
    this.#count.className = "grid-count quiet";
    this.#count.setAttribute("aria-live", "polite");
    this.append(this.#count, this.#scroll);
    this.#scroll.addEventListener("scroll", () => this.#window());
    this.#scroll.addEventListener("keydown", (event) => this.#key(event));
    this.#scroll.addEventListener("focusin", (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest("tr")?.dataset["row"];
      if (row) this.#at = Number(row);
    });
    new ResizeObserver(() => this.#window()).observe(this.#scroll);
  }

  /** What it holds, and how it is sorted: a column's name, "-" before it for the largest first.
   * @param {Column<Row>[]} columns @param {string} label @param {string} [sort] */
  begin(columns, label, sort = "") {
    this.#columns = columns;
    this.#sort = columns.some((one) => one.name === sort.replace("-", "")) ? sort : (columns[0]?.name ?? "");
    const table = document.createElement("table"), head = document.createElement("thead");
    table.setAttribute("aria-label", label);
    table.append(head, this.#body);
    this.#scroll.replaceChildren(table);
    head.addEventListener("click", (event) => {
      const name = /** @type {HTMLElement} */ (event.target).closest("button")?.dataset["column"];
      if (name) this.sort = this.#sort === name ? `-${name}` : name;
    });
    this.#head();
  }

  /** All rows, filtered or not. */
  get rows() {
    return this.#rows;
  }

  set rows(rows) {
    this.#rows = rows;
    this.#arrange();
  }

  get sort() {
    return this.#sort;
  }

  set sort(name) {
    this.#sort = name;
    this.#head();
    this.#arrange();
    this.dispatchEvent(new CustomEvent("grid-view", { bubbles: true, detail: { sort: name } }));
  }

  /** Words that a row must all have. @param {string} text */
  set filter(text) {
    this.#words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.#scroll.scrollTop = 0;
    this.#arrange();
  }

  /** Rows have changed in themselves: sort and show them again, once for many calls. */
  refresh() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#arrange();
    });
  }

  #head() {
    const [name, down] = [this.#sort.replace("-", ""), this.#sort.startsWith("-")];
    const head = this.#scroll.querySelector("thead");
    if (!head) return;
    const held = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset["column"];
    fill(head, html`<tr aria-rowindex="1">${this.#columns.map((one) => html`<th scope="col" class="${kind(one)}" aria-sort="${one.name === name ? (down ? "descending" : "ascending") : "none"}"><button type="button" data-column="${one.name}">${one.title}${one.unit ? html` <span class="unit">${one.unit}</span>` : ""}<i aria-hidden="true">${one.name === name ? (down ? "↓" : "↑") : ""}</i></button></th>`)}</tr>`);
    if (held) /** @type {HTMLElement | null} */ (head.querySelector(`[data-column="${CSS.escape(held)}"]`))?.focus();
  }

  #arrange() {
    const searched = this.#columns.filter((one) => !one.exact), words = this.#words;
    this.#shown = words.length
      ? this.#rows.filter((row) => {
          const text = searched.map((one) => one.value(row) ?? "").join(" ").toLowerCase();
          return words.every((word) => text.includes(word));
        })
      : [...this.#rows];
    const column = this.#columns.find((one) => one.name === this.#sort.replace("-", "")), way = this.#sort.startsWith("-") ? -1 : 1;
    if (column) this.#shown.sort((a, b) => way * order(column.value(a), column.value(b)) || order(this.key(a), this.key(b)));
    const [all, some] = [this.#rows.length.toLocaleString("en-US"), this.#shown.length.toLocaleString("en-US")];
    const told = `${words.length ? `${some} of ${all}` : all} ${this.noun}`;
    if (this.#count.textContent !== told) this.#count.textContent = told;
    this.#scroll.querySelector("table")?.setAttribute("aria-rowcount", String(this.#shown.length + 1));
    this.#first = -1;
    this.#window();
  }

  /** Let the rows in view, and some around them, exist. */
  #window() {
    const top = Math.floor(this.#scroll.scrollTop / ROW), room = Math.ceil((this.#scroll.clientHeight || 400) / ROW);
    const first = Math.max(top - AHEAD, 0), last = Math.min(top + room + AHEAD, this.#shown.length);
    if (first === this.#first && last === this.#last) return;
    [this.#first, this.#last] = [first, last];
    this.#at = Math.min(this.#at, Math.max(this.#shown.length - 1, 0));
    const focus = this.#body.contains(document.activeElement) ? this.#at : -1;
    const stop = this.#at >= first && this.#at < last ? this.#at : Math.max(top, 0);
    if (!this.#shown.length) {
      fill(this.#body, html`<tr><td class="quiet" colspan="${this.#columns.length}">${this.#rows.length ? "Nothing matches these words." : this.empty}</td></tr>`);
      return;
    }
    fill(this.#body, [
      html`<tr aria-hidden="true" class="grid-space"><td colspan="${this.#columns.length}"></td></tr>`,
      ...this.#shown.slice(first, last).map((row, at) => html`<tr aria-rowindex="${first + at + 2}" data-row="${first + at}">${this.#columns.map((one) => html`<td class="${kind(one)}">${one.markup ? one.markup(row) : one.value(row)}</td>`)}</tr>`),
      html`<tr aria-hidden="true" class="grid-space"><td colspan="${this.#columns.length}"></td></tr>`,
    ]);
    const spaces = this.#body.querySelectorAll(".grid-space");
    /** @type {HTMLElement} */ (spaces[0]).style.height = `${first * ROW}px`;
    /** @type {HTMLElement} */ (spaces[1]).style.height = `${(this.#shown.length - last) * ROW}px`;
    for (const link of this.#body.querySelectorAll("a")) link.tabIndex = Number(link.closest("tr")?.dataset["row"]) === stop ? 0 : -1;
    if (focus >= 0) this.#focus(focus);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.#body.contains(/** @type {Node} */ (event.target))) return;
    const page = Math.max(Math.floor(this.#scroll.clientHeight / ROW) - 2, 1), last = this.#shown.length - 1;
    const to = /** @type {Record<string, number>} */ ({ ArrowDown: this.#at + 1, ArrowUp: this.#at - 1, PageDown: this.#at + page, PageUp: this.#at - page, Home: 0, End: last })[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#at = Math.min(Math.max(to, 0), last);
    const [top, high] = [this.#at * ROW, this.#scroll.clientHeight - 2 * ROW];
    if (top < this.#scroll.scrollTop) this.#scroll.scrollTop = top;
    else if (top > this.#scroll.scrollTop + high) this.#scroll.scrollTop = top - high;
    this.#window();
    this.#focus(this.#at);
  }

  /** @param {number} at */
  #focus(at) {
    for (const link of this.#body.querySelectorAll("a")) link.tabIndex = -1;
    const link = /** @type {HTMLElement | null} */ (this.#body.querySelector(`tr[data-row="${at}"] a`));
    if (link) link.tabIndex = 0;
    link?.focus({ preventScroll: true });
  }
}

/** @param {Column<any>} column */
const kind = (column) => `${column.right ? "number" : ""}${column.wide ? " grid-wide" : ""}`;

/** Absent values come last when sorted upwards. @param {string | number | null} a @param {string | number | null} b */
function order(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

customElements.define("hf-grid", Grid);
