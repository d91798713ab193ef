// A chart as a table: for those who read better than they see, and for copying.

import { placeText } from "./plot.js";
import { unitText, valueText } from "./scale.js";

const ROWS = 200;

/**
 * At most 200 rows of what is shown, the newest first; `caption` says of how many.
 * @param {import("./plot.js").Plot} plot
 * @param {[number, number]} range
 * @returns {HTMLTableElement}
 */
export function tableOf(plot, range) {
  const places = [];
  for (let at = 0; at < plot.x.length; at++) {
    const x = /** @type {number} */ (plot.x[at]);
    if (x >= range[0] && x <= range[1]) places.push(at);
  }
  const stride = Math.max(Math.ceil(places.length / ROWS), 1);
  const some = places.filter((_, at) => at % stride === (places.length - 1) % stride);
  const rows = (plot.names ? some : some.reverse()).map((at) => [
    placeText(plot, at, range[1] - range[0]),
    ...plot.all.map((each) => (each.y[at] === each.y[at] ? valueText(each.y[at] ?? NaN, plot.unit) : "–")),
    ...bandsOf(plot, at),
  ]);
  const unit = unitText(plot.unit);
  const more = stride > 1 ? `, every ${stride}. of ${places.length} samples` : "";
  const heads = plot.spec.band ? ["low", "high"] : [];
  return build(`${plot.spec.title}${unit && ` (${unit})`}${more}`, [
    plot.names ? "Group" : "Time", ...plot.all.map((each) => each.name), ...heads,
  ], rows);
}

/** @param {import("./plot.js").Plot} plot @param {number} at */
function bandsOf(plot, at) {
  const { low, high } = plot.band;
  if (!low || !high) return [];
  return [low, high].map((edge) => (edge[at] === edge[at] ? valueText(edge[at] ?? NaN, plot.unit) : "–"));
}

/**
 * @param {string} caption
 * @param {string[]} heads
 * @param {string[][]} rows the first cell names the row
 * @returns {HTMLTableElement}
 */
export function build(caption, heads, rows) {
  const table = document.createElement("table");
  table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow();
  for (const text of heads) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((text, at) => {
      const cell = document.createElement(at ? "td" : "th");
      if (cell instanceof HTMLTableCellElement && !at) cell.scope = "row";
      cell.textContent = text;
      line.append(cell);
    });
  }
  return table;
}
