// What stands around the marks: grid, axes, thresholds, moments, and the names of series at the line's end.

import { across, down, sign } from "./draw.js";
import { lowerBound } from "./sample.js";
import { tickText, timeTicks, unitText, valueText } from "./scale.js";
import { shown, valueAxis } from "./plot.js";
import { inks, tone } from "./theme.js";

/** @typedef {import("./plot.js").Plot} Plot */
/** @typedef {import("./draw.js").Frame} Frame */
/** @typedef {import("./draw.js").Pen} Pen */
/** @typedef {{frame: Frame, at: number[], legend: boolean}} Layout */

const NARROW = 360; // below this the names stand above the plot, not at the lines' ends
const LABEL = 132;

/**
 * Where everything stands on a canvas of this size.
 * @param {Pen} pen @param {Plot} plot @param {number} width @param {number} height @param {[number, number] | null} range
 * @returns {Layout}
 */
export function layOut(pen, plot, width, height, range) {
  const [from, to] = shown(plot, range);
  const axis = valueAxis(plot, from, to, Math.max(Math.floor(height / 48), 2));
  pen.font = `12px ${inks()["font"]}`;
  const left = Math.max(...axis.at.map((value) => pen.measureText(valueText(value, plot.unit, true)).width), 14) + 10;
  const names = labels(plot, from, to).map((each) => pen.measureText(each.text).width);
  const legend = width < NARROW && plot.series.length > 1;
  const right = legend || !names.length ? 12 : Math.min(Math.max(...names), LABEL) + 22;
  const top = legend ? 40 : 20;
  return {
    frame: { left, top, width: Math.max(width - left - right, 20), height: Math.max(height - top - 22, 20), from, to, low: axis.low, high: axis.high },
    at: axis.at, legend,
  };
}

/** What stands at the end of each series. @param {Plot} plot @param {number} from @param {number} to */
function labels(plot, from, to) {
  return plot.series.map((each) => {
    let at = Math.min(lowerBound(plot.x, to + 0.5), plot.x.length) - 1;
    while (at > 0 && each.y[at] !== each.y[at] && (plot.x[at] ?? 0) > from) at--;
    const value = each.y[at] ?? NaN;
    const upper = each.top[at] ?? NaN;
    const stacked = plot.spec.kind === "stacked" || plot.spec.kind === "bars";
    const middle = stacked ? upper - (value || 0) / 2 : value;
    const alone = plot.series.length === 1;
    return { text: alone && !stacked ? valueText(value, plot.unit) : alone ? "" : each.name, value: middle, place: each.place };
  }).filter((each) => each.text);
}

/** Grid, axes and thresholds: drawn before the marks. @param {Pen} pen @param {Plot} plot @param {Layout} layout */
export function behind(pen, plot, { frame, at }) {
  const ink = inks();
  pen.font = `12px ${ink["font"]}`;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (const value of at) {
    if (value > frame.high + 1e-9) continue;
    const y = Math.round(down(frame, value)) + 0.5;
    pen.strokeStyle = ink["line"] ?? "";
    pen.beginPath();
    pen.moveTo(frame.left, y);
    pen.lineTo(frame.left + frame.width, y);
    pen.stroke();
    pen.fillStyle = ink["text-3"] ?? "";
    pen.fillText(valueText(value, plot.unit, true), frame.left - 8, y);
  }
  pen.textAlign = "left";
  pen.fillText(unitText(plot.unit), 0, 6);
  below(pen, plot, frame);
}

/** The axis of x: moments, or names. @param {Pen} pen @param {Plot} plot @param {Frame} frame */
function below(pen, plot, frame) {
  const y = frame.top + frame.height + 14;
  pen.textAlign = "center";
  if (plot.names) {
    const slot = frame.width / Math.max(plot.names.length, 1);
    plot.names.forEach((name, at) => pen.fillText(cut(pen, name, slot - 6), across(frame, at), y));
    return;
  }
  const { step, at } = timeTicks(frame.from, frame.to, Math.max(frame.width / 72, 2));
  for (const each of at) {
    const x = across(frame, each), text = tickText(each, step), half = pen.measureText(text).width / 2;
    if (x - half >= frame.left - 20 && x + half <= frame.left + frame.width + 12) pen.fillText(text, x, y);
  }
}

/** Thresholds, moments, and the names of series: drawn over the marks. @param {Pen} pen @param {Plot} plot @param {Layout} layout */
export function before(pen, plot, { frame, legend }) {
  const ink = inks(), right = frame.left + frame.width;
  pen.font = `12px ${ink["font"]}`;
  for (const each of plot.spec.thresholds ?? []) {
    const y = Math.round(down(frame, each.value)) + 0.5;
    if (y < frame.top - 1 || y > frame.top + frame.height) continue;
    ruled(pen, tone(each.tone ?? "warn"), frame.left, y, right, y);
    written(pen, each.name, frame.left + 6, y - 8 < frame.top - 4 ? y + 9 : y - 8);
  }
  for (const each of plot.spec.marks ?? []) {
    if (each.x < frame.from || each.x > frame.to) continue;
    const x = Math.round(across(frame, each.x)) + 0.5;
    ruled(pen, tone(each.tone ?? "text-3"), x, frame.top, x, frame.top + frame.height);
    const wide = pen.measureText(each.name).width;
    written(pen, each.name, x + wide + 6 > right ? x - wide - 5 : x + 5, frame.top + 7);
  }
  if (legend) above(pen, plot);
  else ends(pen, plot, frame);
}

/** @param {Pen} pen @param {string} ink @param {number} x @param {number} y @param {number} x2 @param {number} y2 */
function ruled(pen, ink, x, y, x2, y2) {
  pen.strokeStyle = ink;
  pen.lineWidth = 1.25;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x2, y2);
  pen.stroke();
}

/** Text that stays readable over marks. @param {Pen} pen @param {string} text @param {number} x @param {number} y */
function written(pen, text, x, y) {
  pen.textAlign = "left";
  pen.lineWidth = 3;
  pen.strokeStyle = inks()["surface"] ?? "";
  pen.strokeText(text, x, y);
  pen.fillStyle = inks()["text-2"] ?? "";
  pen.fillText(text, x, y);
}

/** Names at the ends of lines, moved apart where they would meet. @param {Pen} pen @param {Plot} plot @param {Frame} frame */
function ends(pen, plot, frame) {
  const found = labels(plot, frame.from, frame.to).map((each) => ({
    ...each, y: each.value === each.value ? Math.min(Math.max(down(frame, each.value), frame.top + 4), frame.top + frame.height - 4) : frame.top + frame.height,
  })).sort((a, b) => a.y - b.y || a.place - b.place);
  let least = frame.top + 2;
  for (const each of found) least = (each.y = Math.max(each.y, least)) + 15;
  let most = frame.top + frame.height;
  for (const each of [...found].reverse()) most = (each.y = Math.min(each.y, most)) - 15;
  const x = frame.left + frame.width + 10;
  for (const each of found) {
    sign(pen, each.place, x, each.y, 3.5);
    pen.fillStyle = inks()["text"] ?? "";
    pen.textAlign = "left";
    pen.fillText(cut(pen, each.text, LABEL - 6), x + 9, each.y);
  }
}

/** Names in a row above a narrow plot. @param {Pen} pen @param {Plot} plot */
function above(pen, plot) {
  const room = pen.canvas.clientWidth, wide = plot.series.map((each) => pen.measureText(each.name).width + 26);
  const most = Math.max(...wide, 1), all = wide.reduce((sum, each) => sum + each, 0);
  const least = all > room ? room / plot.series.length : most;
  let left = 0;
  plot.series.forEach((one, at) => {
    sign(pen, one.place, left + 5, 24, 3.5);
    pen.fillStyle = inks()["text"] ?? "";
    pen.textAlign = "left";
    pen.fillText(cut(pen, one.name, least - 20), left + 14, 24);
    left += Math.min(wide[at] ?? 0, least);
  });
}

/** Text that fits, with an ellipsis where it does not. @param {Pen} pen @param {string} text @param {number} room */
export function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > room) end--;
  return end > 1 ? `${text.slice(0, end)}…` : "";
}

