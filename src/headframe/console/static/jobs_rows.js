// Rows of the list of jobs: how they are written, and in which order.
import { html, state } from "./html.js";
import { ago, exact, span } from "./times.js";

/** id, name, state, why, project, owner, asks, submitted, started, ended (microseconds), ran, attempt, whether an array.
 * @typedef {[string, string, string, string, string, string, string, number, number | null, number | null, number, number, boolean]} Row */

/** Room for rows that are not drawn. @param {number} height @param {number} odd */
export function spacer(height, odd) {
  return height > 0 ? html`<tr class="spacer" aria-hidden="true"><td colspan="8" data-height="${height}"></td></tr>${odd % 2 ? html`<tr hidden></tr>` : ""}` : html``;
}

/** @param {Row} row @param {number} number @param {number} now microseconds @param {boolean} changed */
export function line(row, number, now, changed) {
  const [id, name, word, why, project, owner, asks, submitted, , , , , parent] = row;
  return html`<tr data-id="${id}" aria-rowindex="${number}" class="${changed ? "changed" : ""}">
    <td class="job"><a href="/jobs/${id}" title="${id}">${name}</a>${parent ? html` <span class="tag">array</span>` : ""}</td>
    <td class="job-state">${state(word)}</td><td class="why quiet" title="${why}">${why.replaceAll("_", " ")}<span class="narrow">${why ? " · " : ""}${asks}</span></td>
    <td class="project">${project}</td><td class="owner">${owner}</td><td class="asks">${asks}</td>
    <td class="number since quiet"><time datetime="${new Date(submitted / 1000).toISOString()}" title="${exact(submitted)}" data-when>${ago(submitted / 1000)}</time></td><td class="number ran">${ran(row, now)}</td></tr>`;
}

/** How long it ran, or runs, in words. @param {Row} row @param {number} now microseconds */
export function ran(row, now) {
  const us = ranUs(row, now);
  return us === null ? "–" : span(Math.floor(us / 1e6));
}

/** @param {Row} row @param {number} now microseconds */
function ranUs(row, now) {
  const over = row[9] || ["queued", "pending"].includes(row[2]);
  if (over && row[10]) return row[10];
  return row[8] && row[2] !== "queued" ? Math.max(0, (row[9] ?? now) - row[8]) : null;
}

const STATES = ["pending", "scheduled", "queued", "starting", "running", "stopping", "succeeded", "failed", "stopped"];
/** @type {Record<string, (row: Row, now: number) => string | number | null>} */
const COLUMNS = {
  job: (row) => row[1], "job-state": (row) => STATES.indexOf(row[2]), why: (row) => row[3] || null, project: (row) => row[4],
  owner: (row) => row[5], asks: (row) => row[6], since: (row) => -row[7], ran: (row, now) => ranUs(row, now),
};

/**
 * Rows by a column, the other way round with "-" before its name; those without a value come last.
 * @param {Row[]} rows the newest first @param {string} order @param {number} now microseconds @returns {Row[]}
 */
export function ordered(rows, order, now) {
  const value = COLUMNS[order.replace("-", "")], way = order.startsWith("-") ? -1 : 1;
  if (!value) return rows;
  const words = new Intl.Collator("en", { numeric: true });
  const keyed = rows.map((row) => ({ row, key: value(row, now) }));
  keyed.sort(({ key: a }, { key: b }) => {
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return way * (typeof a === "number" && typeof b === "number" ? a - b : words.compare(String(a), String(b)));
  });
  return keyed.map((one) => one.row);
}

/**
 * Heads that order the list when they are pressed: upwards, then downwards, then as it was, the newest first. A list to
 * choose from does the same where there is no room for heads.
 * @param {HTMLTableElement} table @param {string} order @param {(order: string) => void} choose
 */
export function heads(table, order, choose) {
  let now = order;
  const list = /** @type {HTMLSelectElement | null} */ (document.querySelector("[data-orders]"));
  list?.addEventListener("change", (event) => {
    event.stopPropagation(); // the filters need not be asked anew
    now = list.value;
    mark();
    choose(now);
  });
  const mark = () => {
    table.dataset.by = now.replace("-", "");
    if (list) list.value = now;
    if (list && list.selectedIndex < 0) list.value = now.replace("-", "");
    for (const head of /** @type {NodeListOf<HTMLElement>} */ (table.querySelectorAll("th[data-order]"))) {
      const name = head.dataset.order ?? "", way = now === name ? "ascending" : now === `-${name}` ? "descending" : "none";
      head.setAttribute("aria-sort", way);
      const arrow = head.querySelector("i");
      if (arrow) arrow.textContent = way === "none" ? "" : way === "ascending" ? "↑" : "↓";
    }
  };
  for (const head of /** @type {NodeListOf<HTMLElement>} */ (table.querySelectorAll("th[data-order]"))) {
    const name = head.dataset.order ?? "", button = document.createElement("button"), arrow = document.createElement("i");
    button.type = "button";
    arrow.setAttribute("aria-hidden", "true");
    button.append(head.textContent ?? "", arrow);
    button.addEventListener("click", () => {
      now = now === name ? `-${name}` : now === `-${name}` ? "" : name;
      mark();
      choose(now);
    });
    head.replaceChildren(button);
  }
  mark();
}

