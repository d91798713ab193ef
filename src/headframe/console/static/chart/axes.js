// What stands around the marks: grid, axes, thresholds, moments, and the names of series at the line's end.

import { across, down, sign } from "./draw.js";
import { lowerBound } from "./sample.js";
import { tickText, timeTicks, unitText, valueText } from "./scale.js";
import { shown, valueAxis } from "./plot.js";
import { inks, tone } from "./theme.js";

/** @typedef {import("./plot.js").Plot} Plot */
/** @typedef {import("./draw.js").Frame} Frame */
/** @typedef {import("./draw.js").Pen} Pen */
/** @typedef {{frame: Frame, at: number[], legend: {x: number, y: number, room: number}[] | null, room: number}} Layout places of names above, or the room beside */

const NARROW = 360; // below this the names stand above the plot, not at the lines' ends
const LABEL = 132, MOST_ROWS = 3; // pixels of a name beside the plot, at least; rows of names above it

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
  const legend = width < NARROW && plot.series.length > 1 ? rows(pen, plot, width) : null, room = Math.max(LABEL, width * 0.26);
  const right = legend || !names.length ? 12 : Math.min(Math.max(...names), room) + 22;
  const top = legend ? (legend.at(-1)?.y ?? 0) + 16 : 20;
  return {
    frame: { left, top, width: Math.max(width - left - right, 20), height: Math.max(height - top - 22, 20), from, to, low: axis.low, high: axis.high },
    at: axis.at, legend, room,
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
  if (plot.unit !== "percent") pen.fillText(unitText(plot.unit), 0, 6); // each tick has it
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
export function before(pen, plot, { frame, legend, room }) {
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
  if (legend) above(pen, plot, legend);
  else ends(pen, plot, frame, room);
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

/** Names at the ends of lines, moved apart where they would meet. @param {Pen} pen @param {Plot} plot @param {Frame} frame @param {number} room */
function ends(pen, plot, frame, room) {
  const found = labels(plot, frame.from, frame.to).map((each) => ({
    ...each, y: each.value === each.value ? Math.min(Math.max(down(frame, each.value), frame.top + 4), frame.top + frame.height - 4) : frame.top + frame.height,
  })).sort((a, b) => a.y - b.y || (plot.spec.kind === "bars" ? b.place - a.place : a.place - b.place)); // as bars stand on each other
  let least = frame.top + 2;
  for (const each of found) least = (each.y = Math.max(each.y, least)) + 15;
  let most = frame.top + frame.height;
  for (const each of [...found].reverse()) most = (each.y = Math.min(each.y, most)) - 15;
  const x = frame.left + frame.width + 10;
  for (const each of found) {
    sign(pen, each.place, x, each.y, 3.5);
    pen.fillStyle = inks()["text"] ?? "";
    pen.textAlign = "left";
    pen.fillText(cut(pen, each.text, room), x + 9, each.y);
  }
}

/** Where names stand above a narrow plot: in rows, and cut only when there are too many. @param {Pen} pen @param {Plot} plot @param {number} width */
function rows(pen, plot, width) {
  const all = plot.series.map((each) => pen.measureText(each.name).width + 26);
  const place = (/** @type {number} */ most) => {
    let x = 0, y = 24;
    return all.map((each) => {
      const wide = Math.min(each, most);
      if (x && x + wide > width + 12) [x, y] = [0, y + 16];
      x += wide;
      return { x: x - wide, y, room: wide - 20 };
    });
  };
  const whole = place(width);
  return (whole.at(-1)?.y ?? 0) <= 24 + 16 * (MOST_ROWS - 1) ? whole : place(width / Math.ceil(all.length / MOST_ROWS));
}

/** @param {Pen} pen @param {Plot} plot @param {{x: number, y: number, room: number}[]} places */
function above(pen, plot, places) {
  plot.series.forEach((one, at) => {
    const { x, y, room } = places[at] ?? { x: 0, y: 0, room: 0 };
    sign(pen, one.place, x + 5, y, 3.5);
    pen.fillStyle = inks()["text"] ?? "";
    pen.textAlign = "left";
    pen.fillText(cut(pen, one.name, room), x + 14, y);
  });
}

/** Text that fits, with an ellipsis where it does not. @param {Pen} pen @param {string} text @param {number} room */
export function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > room) end--;
  return end > 1 ? `${text.slice(0, end)}…` : "";
}

