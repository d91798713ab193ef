// Lanes of a timeline: where each span lies, and how it is drawn.

import { cut } from "./axes.js";
import { across } from "./draw.js";
import { tickText, timeTicks } from "./scale.js";
import { inks, tone } from "./theme.js";

/** @typedef {{from: number, to: number | null, name: string, tone?: string, href?: string, text?: string}} Span */
/** @typedef {{name: string, spans: Span[]}} Lane */
/** @typedef {{title: string, from: number, to: number, now?: number, lanes: Lane[], empty?: string}} Spec */
/** @typedef {{lane: number, span: Span, row: number}} Place `row` counts from the top, more than one a lane where spans overlap */
/** @typedef {import("./draw.js").Frame} Frame */
/** @typedef {CanvasRenderingContext2D} Pen */

export const ROW = 26, BAR = 18, HEAD = 22;

/** Spans of a lane in as many rows as they need to lie side by side. @param {Span[]} spans @returns {number[]} */
function rowsOf(spans) {
  /** @type {number[]} */
  const ends = [];
  return spans.map((span) => {
    let row = ends.findIndex((end) => end <= span.from);
    if (row < 0) row = ends.length;
    ends[row] = span.to ?? Infinity;
    return row;
  });
}

/**
 * The place of every span, and the first row of every lane (and, at the end, how many rows there are).
 * @param {Spec} spec
 * @returns {{places: Place[], tops: number[]}}
 */
export function laid(spec) {
  /** @type {Place[]} */
  const places = [];
  /** @type {number[]} */
  const tops = [];
  let rows = 0;
  spec.lanes.forEach((lane, at) => {
    const spans = [...lane.spans].sort((a, b) => a.from - b.from), within = rowsOf(spans);
    tops.push(rows);
    spans.forEach((span, place) => places.push({ lane: at, span, row: rows + (within[place] ?? 0) }));
    rows += Math.max(...within, 0) + 1;
  });
  return { places, tops: [...tops, rows] };
}

/** Where the bars are on a canvas. @param {Pen} pen @param {Spec} spec @param {number} width @param {number} height @returns {Frame} */
export function frameOf(pen, spec, width, height) {
  pen.font = `12px ${inks()["font"]}`;
  const wide = spec.lanes.map((lane) => pen.measureText(lane.name).width);
  const names = Math.min(Math.max(...wide, 20), width < 460 ? 84 : 168);
  return { left: names + 12, top: 2, width: width - names - 16, height: height - HEAD, from: spec.from, to: spec.to, low: 0, high: 1 };
}

/** @param {Place} place @param {Spec} spec @param {Frame} frame @returns {[number, number, number]} left, top, width */
export function boxOf({ span, row }, spec, frame) {
  const left = across(frame, Math.max(span.from, spec.from));
  const right = across(frame, Math.min(span.to ?? spec.now ?? spec.to, spec.to));
  return [left, row * ROW + (ROW - BAR) / 2 + 1, Math.max(right - left, 3)];
}

/** @param {Pen} pen @param {Spec} spec @param {Frame} frame @param {Place[]} places @param {number[]} tops */
export function paint(pen, spec, frame, places, tops) {
  const ink = inks(), names = frame.left - 12, right = frame.left + frame.width + 4;
  pen.textBaseline = "middle";
  pen.strokeStyle = ink["line"] ?? "";
  const { step, at } = timeTicks(spec.from, spec.to, Math.max(frame.width / 90, 2));
  for (const each of at) {
    const x = Math.round(across(frame, each)) + 0.5, text = tickText(each, step), half = pen.measureText(text).width / 2;
    rule(pen, x, 0, x, frame.height);
    pen.fillStyle = ink["text-3"] ?? "";
    pen.textAlign = "center";
    if (x + half < right && x - half > names) pen.fillText(text, x, frame.height + HEAD - 9);
  }
  pen.textAlign = "left";
  spec.lanes.forEach((lane, place) => {
    const y = (tops[place] ?? 0) * ROW;
    if (place) rule(pen, 0, y + 0.5, right, y + 0.5);
    pen.fillStyle = ink["text-2"] ?? "";
    pen.fillText(cut(pen, lane.name, names), 0, y + ROW / 2 + 1);
  });
  for (const place of places) bar(pen, place, spec, frame);
  if (!places.length) {
    pen.fillStyle = ink["text-3"] ?? "";
    pen.fillText(spec.empty ?? "Nothing in this time", frame.left + 8, ROW / 2 + 1);
  }
  if (spec.now !== undefined && spec.now > spec.from && spec.now < spec.to) {
    pen.fillStyle = ink["accent"] ?? "";
    pen.fillRect(Math.round(across(frame, spec.now)), 0, 1.5, frame.height);
  }
}

/** @param {Pen} pen @param {number} x @param {number} y @param {number} x2 @param {number} y2 */
function rule(pen, x, y, x2, y2) {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x2, y2);
  pen.stroke();
}

/** @param {Pen} pen @param {Place} place @param {Spec} spec @param {Frame} frame */
function bar(pen, place, spec, frame) {
  const { span } = place, [left, top, wide] = boxOf(place, spec, frame);
  if (left > frame.left + frame.width || left + wide < frame.left) return;
  pen.fillStyle = tone(span.tone ?? "s1");
  pen.globalAlpha = 0.28;
  pen.fillRect(left, top, wide, BAR);
  pen.globalAlpha = 1;
  pen.fillRect(left, top, 3, BAR);
  if (span.to !== null && wide > 8) pen.fillRect(left + wide - 1.5, top, 1.5, BAR);
  pen.fillStyle = inks()["text"] ?? "";
  if (wide > 28) pen.fillText(cut(pen, span.name, wide - 12), left + 8, top + BAR / 2 + 0.5);
}
