// From what a page asks for to what is drawn: typed columns, six series at most, stacks, and the ends of the axes.

import { column, extent, usualGap } from "./sample.js";
import { momentText, ticks, valueText } from "./scale.js";

/** @typedef {import("./sample.js").Numbers} Numbers */
/** @typedef {{name: string, y: ArrayLike<number | null>, rest?: boolean}} Given `rest` is what is none of the others */
/** @typedef {{value: number, name: string, tone?: string}} Threshold */
/** @typedef {{x: number, name: string, tone?: string}} Mark */
/** @typedef {{low: ArrayLike<number | null>, high: ArrayLike<number | null>, low2?: ArrayLike<number | null>, high2?: ArrayLike<number | null>}} Band */
/**
 * @typedef {object} Spec
 * @property {"line" | "area" | "stacked" | "bars" | "bands"} kind
 * @property {string} title
 * @property {string} [unit]
 * @property {ArrayLike<number> | string[]} x
 * @property {Given[]} series
 * @property {number} [min]
 * @property {number} [max]
 * @property {Threshold[]} [thresholds]
 * @property {Mark[]} [marks]
 * @property {Band} [band]
 * @property {number} [now]
 * @property {number} [gap]
 * @property {string} [group]
 * @property {[number, number]} [range]
 * @property {number} [keep]
 * @property {string} [empty] what is said when there is no sample
 */
/** @typedef {{name: string, y: Numbers, top: Numbers, place: number}} Series `top` is the upper edge in a stack */
/**
 * @typedef {object} Plot
 * @property {Spec} spec
 * @property {string} unit
 * @property {Numbers} x
 * @property {string[] | null} names of categories, when x is none of time
 * @property {Series[]} series those that are drawn
 * @property {Series[]} all
 * @property {Record<"low" | "high" | "low2" | "high2", Numbers | null>} band
 * @property {number} gap
 * @property {number} step of bars
 */

export const MOST = 6;
const REST = 6; // the place of what is none of the others: no colour of its own

/** @param {Spec} spec @returns {Plot} */
export function prepare(spec) {
  const names = spec.x.length && typeof spec.x[0] === "string" ? [.../** @type {string[]} */ (spec.x)] : null;
  const x = names ? Float64Array.from(names, (_, at) => at) : column(/** @type {ArrayLike<number>} */ (spec.x));
  const all = spec.series.map((each, place) => {
    const y = column(each.y);
    return { name: each.name, y, top: y, place: each.rest ? REST : place };
  });
  const stacked = spec.kind === "stacked" || spec.kind === "bars";
  const series = stacked ? stack(gathered(all)) : all.slice(0, MOST);
  let step = names ? 1 : Infinity;
  for (let at = 1; at < x.length && !names; at++) {
    step = Math.min(step, /** @type {number} */ (x[at]) - /** @type {number} */ (x[at - 1]));
  }
  const given = spec.band;
  const band = {
    low: given ? column(given.low) : null, high: given ? column(given.high) : null,
    low2: given?.low2 ? column(given.low2) : null, high2: given?.high2 ? column(given.high2) : null,
  };
  return {
    spec, unit: spec.unit ?? "", x, names, series, all, band, gap: spec.gap ?? usualGap(x),
    step: step === Infinity ? 86_400_000 : step,
  };
}

/** The largest five, and the rest as one. @param {Series[]} all @returns {Series[]} */
function gathered(all) {
  if (all.length <= MOST) return all;
  const sums = all.map((each) => each.y.reduce((sum, value) => sum + (value || 0), 0));
  const order = all.map((_, at) => at).sort((a, b) => (sums[b] ?? 0) - (sums[a] ?? 0) || a - b);
  const kept = order.slice(0, MOST - 1).sort((a, b) => a - b).map((at) => /** @type {Series} */ (all[at]));
  const rest = order.slice(MOST - 1).map((at) => /** @type {Series} */ (all[at]));
  const y = new Float64Array(kept[0]?.y.length ?? 0);
  for (const each of rest) each.y.forEach((value, at) => (y[at] = (y[at] ?? 0) + (value || 0)));
  return [...kept.map((each, place) => ({ ...each, place })), { name: `${rest.length} others`, y, top: y, place: REST }];
}

/** Each series on top of those before it; where no series has a value there is a gap. @param {Series[]} series */
function stack(series) {
  let below = new Float64Array(series[0]?.y.length ?? 0);
  return series.map((each) => {
    const top = below.map((value, at) => value + (each.y[at] || 0));
    below = top;
    return { ...each, top: top.map((value, at) => (series.some((one) => one.y[at] === one.y[at]) ? value : NaN)) };
  });
}

/** What of x is shown. @param {Plot} plot @param {[number, number] | null} range @returns {[number, number]} */
export function shown(plot, range) {
  if (range && !plot.names) return range;
  const [first, last] = [plot.x[0] ?? 0, plot.x[plot.x.length - 1] ?? 1];
  const half = plot.spec.kind === "bars" ? plot.step / 2 : 0;
  return last > first || half ? [first - half, last + half] : [first - 30_000, last + 30_000];
}

/**
 * Round ends of the value axis. Bars, areas and stacks begin at zero.
 * @param {Plot} plot
 * @param {number} from
 * @param {number} to
 * @param {number} count of ticks, about
 * @returns {{low: number, high: number, at: number[]}}
 */
export function valueAxis(plot, from, to, count) {
  let low = Infinity, high = -Infinity;
  const columns = plot.series.map((each) => each.top);
  for (const edge of Object.values(plot.band)) if (edge) columns.push(edge);
  for (const values of columns) {
    const [least, most] = extent(plot.x, values, from, to);
    if (least === least) low = Math.min(low, least);
    if (most === most) high = Math.max(high, most);
  }
  for (const each of plot.spec.thresholds ?? []) high = Math.max(high, each.value);
  if (plot.spec.kind !== "line" || low > 0) low = Math.min(low, 0);
  if (!(high > -Infinity)) high = 1;
  low = plot.spec.min ?? Math.min(low, 0);
  high = Math.max(plot.spec.max ?? high, low);
  const at = ticks(low, high > low ? high : low + 1, count).filter((value) => plot.unit !== "count" || Number.isInteger(value));
  const last = at[at.length - 1] ?? high;
  return { low: Math.min(low, at[0] ?? low), high: plot.spec.max === undefined ? last : Math.max(plot.spec.max, high), at };
}

/** A chart in a sentence, for those who do not see it. @param {Plot} plot @param {[number, number]} range */
export function summary(plot, range) {
  const { spec, unit } = plot;
  if (!plot.x.length) return `${spec.title}: nothing to show yet.`;
  const span = range[1] - range[0];
  const said = plot.series.map((each) => {
    const [least, most] = extent(plot.x, each.y, range[0], range[1]);
    if (least !== least) return `${each.name}: no values`;
    return `${each.name} from ${valueText(least, unit)} to ${valueText(most, unit)}`;
  });
  const where = plot.names
    ? `${plot.names.length} groups`
    : `${momentText(range[0], span)} to ${momentText(range[1], span)}`;
  return `${spec.title}, ${where}: ${said.join("; ")}.`;
}

/** What is said of one place of x. @param {Plot} plot @param {number} at @param {number} span */
export function placeText(plot, at, span) {
  return plot.names ? (plot.names[at] ?? "") : momentText(plot.x[at] ?? 0, span);
}
