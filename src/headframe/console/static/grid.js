// <hf-grid>: a table of any length of which only the rows in view exist, here as well as on their way from the server.

import { fill, html } from "./html.js";

/**
 * One column. `markup` is what is shown where that is more than the value.
 * @template Row
 * @typedef {object} Column
 * @property {string} name what the server sorts by
 * @property {string} title
 * @property {string} [unit]
 * @property {(row: Row) => string | number | null} value
 * @property {(row: Row) => unknown} [markup]
 * @property {boolean} [right]
 * @property {boolean} [wide] left out on a phone
 */

const ROW = 34, AHEAD = 12;

/** @template Row */
export class Grid extends HTMLElement {
  /** @type {Column<any>[]} */ #columns = [];
  /** @type {any[]} */ #rows = [];
  #from = 0; // the place of the first of them
  #found = 0;
  #total = 0;
  #sort = "";
  #first = -1;
  #last = -1;
  #at = 0;
  #wanted = -1; // the row that gets the focus when it comes
  #scroll = document.createElement("div");
  #count = document.createElement("p");
  #body = document.createElement("tbody");
  /** What is said when there is no row at all. */
  empty = "Nothing here yet.";
  /** What a row is called. */
  noun = "row";

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

  /** The window that is here: its rows, the place of the first, how many match and how many there are.
   * @param {Row[]} rows @param {number} from @param {number} found @param {number} total */
  put(rows, from, found, total) {
    [this.#rows, this.#from, this.#found, this.#total] = [rows, from, found, total];
    const [all, some] = [total.toLocaleString("en-US"), found.toLocaleString("en-US")];
    const told = `${found < total ? `${some} of ${all}` : all} ${this.noun}${total === 1 ? "" : "s"}`;
    if (this.#count.textContent !== told) this.#count.textContent = told;
    this.#scroll.querySelector("table")?.setAttribute("aria-rowcount", String(found + 1));
    this.#first = -1;
    this.#window();
    if (this.#wanted >= 0) this.#focus(this.#wanted);
  }

  /** The rows that are to be here: those in view, and as many around them. @returns {{first: number, limit: number}} */
  get view() {
    const top = Math.floor(this.#scroll.scrollTop / ROW), room = Math.ceil((this.#scroll.clientHeight || 680) / ROW);
    return { first: Math.max(top - room, 0), limit: Math.min(3 * room, 300) };
  }

  get sort() {
    return this.#sort;
  }

  set sort(name) {
    this.#sort = name;
    this.#head();
    this.#tell();
  }

  /** To a row. @param {number} place */
  to(place) {
    this.#scroll.scrollTop = place * ROW;
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("grid-view", { bubbles: true }));
  }

  #head() {
    const [name, down] = [this.#sort.replace("-", ""), this.#sort.startsWith("-")];
    const head = this.#scroll.querySelector("thead");
    if (!head) return;
    const held = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset["column"];
    fill(head, html`<tr aria-rowindex="1">${this.#columns.map((one) => html`<th scope="col" class="${kind(one)}" aria-sort="${one.name === name ? (down ? "descending" : "ascending") : "none"}"><button type="button" data-column="${one.name}">${one.title}${one.unit ? html` <span class="unit">${one.unit}</span>` : ""}<i aria-hidden="true">${one.name === name ? (down ? "↓" : "↑") : ""}</i></button></th>`)}</tr>`);
    if (held) /** @type {HTMLElement | null} */ (head.querySelector(`[data-column="${CSS.escape(held)}"]`))?.focus();
  }

  /** Let the rows in view, and some around them, exist. */
  #window() {
    const top = Math.floor(this.#scroll.scrollTop / ROW), room = Math.ceil((this.#scroll.clientHeight || 400) / ROW);
    const first = Math.max(Math.min(top, this.#found - room) - AHEAD, 0), last = Math.min(top + room + AHEAD, this.#found);
    if (first === this.#first && last === this.#last) return;
    [this.#first, this.#last] = [first, last];
    if (first < this.#from || last > this.#from + this.#rows.length) this.#tell();
    this.#at = Math.min(this.#at, Math.max(this.#found - 1, 0));
    const focus = this.#body.contains(document.activeElement) ? this.#at : -1;
    const stop = this.#at >= first && this.#at < last ? this.#at : Math.max(top, 0);
    if (!this.#found) {
      fill(this.#body, html`<tr><td class="quiet" colspan="${this.#columns.length}">${this.#total ? "Nothing matches these words." : this.empty}</td></tr>`);
      return;
    }
    const space = html`<tr aria-hidden="true" class="grid-space"><td colspan="${this.#columns.length}"></td></tr>`;
    fill(this.#body, [space, ...Array.from({ length: last - first }, (_, at) => this.#line(first + at)), space]);
    const spaces = this.#body.querySelectorAll(".grid-space");
    /** @type {HTMLElement} */ (spaces[0]).style.height = `${first * ROW}px`;
    /** @type {HTMLElement} */ (spaces[1]).style.height = `${(this.#found - last) * ROW}px`;
    for (const link of this.#body.querySelectorAll("a")) link.tabIndex = Number(link.closest("tr")?.dataset["row"]) === stop ? 0 : -1;
    if (focus >= 0) this.#focus(focus);
  }

  /** A row, or its room while it is on its way. @param {number} at */
  #line(at) {
    const row = this.#rows[at - this.#from];
    const cells = row ? this.#columns.map((one) => html`<td class="${kind(one)}">${one.markup ? one.markup(row) : one.value(row)}</td>`) : html`<td class="quieter" colspan="${this.#columns.length}">…</td>`;
    return html`<tr aria-rowindex="${at + 2}" data-row="${at}">${cells}</tr>`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.#body.contains(/** @type {Node} */ (event.target))) return;
    const page = Math.max(Math.floor(this.#scroll.clientHeight / ROW) - 2, 1), last = this.#found - 1;
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
    this.#wanted = link ? -1 : at;
    if (link) link.tabIndex = 0;
    link?.focus({ preventScroll: true });
  }
}

/** @param {Column<any>} column */
const kind = (column) => `${column.right ? "number" : ""}${column.wide ? " grid-wide" : ""}`;

customElements.define("hf-grid", Grid);
