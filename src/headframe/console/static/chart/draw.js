// Marks on a canvas: lines, areas, stacks, bars, bands, and the signs that tell series apart without colour.

import { drawn, lowerBound } from "./sample.js";
import { tone } from "./theme.js";

/** @typedef {import("./plot.js").Plot} Plot */
/** @typedef {import("./sample.js").Numbers} Numbers */
/** @typedef {CanvasRenderingContext2D} Pen */
/**
 * @typedef {object} Frame
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {number} from
 * @property {number} to
 * @property {number} low
 * @property {number} high
 */

/** @param {Frame} frame @param {number} x */
export const across = (frame, x) => frame.left + ((x - frame.from) / (frame.to - frame.from)) * frame.width;
/** @param {Frame} frame @param {number} y */
export const down = (frame, y) => frame.top + frame.height * (1 - (y - frame.low) / (frame.high - frame.low || 1));

/** Draw all series of a plot inside its frame. @param {Pen} pen @param {Plot} plot @param {Frame} frame */
export function marks(pen, plot, frame) {
  pen.save();
  pen.beginPath();
  pen.rect(frame.left, frame.top - 2, frame.width, frame.height + 3);
  pen.clip();
  pen.lineJoin = "round";
  if (plot.spec.kind === "bars") bars(pen, plot, frame);
  else if (plot.spec.kind === "stacked") stacks(pen, plot, frame);
  else {
    if (plot.spec.kind === "bands") bands(pen, plot, frame);
    for (const each of plot.series) {
      const ink = tone(`s${each.place + 1}`);
      if (plot.spec.kind === "area") fill(pen, plot, frame, each.y, null, ink, 0.16);
      line(pen, plot, frame, each.y, ink, 1.75);
    }
  }
  pen.restore();
}

/** @param {Pen} pen @param {Plot} plot @param {Frame} frame @param {Numbers} y */
function trace(pen, plot, frame, y) {
  const found = drawn(plot.x, y, frame.from, frame.to, frame.width, plot.gap);
  let open = false;
  for (let at = 0; at < found.x.length; at++) {
    const value = /** @type {number} */ (found.y[at]);
    if (value !== value) {
      open = false;
      continue;
    }
    const px = across(frame, /** @type {number} */ (found.x[at])), py = down(frame, value);
    if (open) pen.lineTo(px, py);
    else {
      pen.moveTo(px, py);
      const next = found.y[at + 1];
      if (next === undefined || next !== next) pen.lineTo(px + 1.5, py); // a sample that stands alone is seen, too
    }
    open = true;
  }
}

/** @param {Pen} pen @param {Plot} plot @param {Frame} frame @param {Numbers} y @param {string} ink @param {number} width */
function line(pen, plot, frame, y, ink, width) {
  const now = plot.spec.now;
  pen.strokeStyle = ink;
  pen.lineWidth = width;
  if (now === undefined) {
    pen.beginPath();
    trace(pen, plot, frame, y);
    pen.stroke();
    return;
  }
  for (const [from, to, dash] of /** @type {[number, number, number[]][]} */ ([[-1e9, now, []], [now, Infinity, [5, 4]]])) {
    pen.save();
    pen.beginPath();
    const left = Math.max(across(frame, Math.max(from, frame.from)), frame.left);
    pen.rect(left, 0, Math.max(across(frame, Math.min(to, frame.to)) - left, 0), frame.top + frame.height + 2);
    pen.clip();
    pen.setLineDash(dash);
    pen.beginPath();
    trace(pen, plot, frame, y);
    pen.stroke();
    pen.restore();
  }
}

/**
 * Fill between a column and another one, or zero; each run between gaps by itself.
 * @param {Pen} pen @param {Plot} plot @param {Frame} frame @param {Numbers} y @param {Numbers | null} base
 * @param {string} ink @param {number} alpha
 */
function fill(pen, plot, frame, y, base, ink, alpha) {
  const upper = drawn(plot.x, y, frame.from, frame.to, frame.width, plot.gap);
  const lower = base ? drawn(plot.x, base, frame.from, frame.to, frame.width, plot.gap) : null;
  pen.globalAlpha = alpha;
  pen.fillStyle = ink;
  /** @type {number[]} */
  let run = [];
  const close = () => {
    if (run.length) {
      const [first, last] = [/** @type {number} */ (upper.x[run[0] ?? 0]), /** @type {number} */ (upper.x[run[run.length - 1] ?? 0])];
      pen.beginPath();
      for (const at of run) pen.lineTo(across(frame, /** @type {number} */ (upper.x[at])), down(frame, /** @type {number} */ (upper.y[at])));
      if (lower) {
        for (let at = lower.x.length - 1; at >= 0; at--) {
          const lx = /** @type {number} */ (lower.x[at]), ly = /** @type {number} */ (lower.y[at]);
          if (lx >= first && lx <= last && ly === ly) pen.lineTo(across(frame, lx), down(frame, ly));
        }
      } else {
        pen.lineTo(across(frame, last), down(frame, Math.max(frame.low, 0)));
        pen.lineTo(across(frame, first), down(frame, Math.max(frame.low, 0)));
      }
      pen.fill();
    }
    run = [];
  };
  upper.y.forEach((value, at) => (value === value ? run.push(at) : close()));
  close();
  pen.globalAlpha = 1;
}

/** From the highest edge down, each over the one behind it. @param {Pen} pen @param {Plot} plot @param {Frame} frame */
function stacks(pen, plot, frame) {
  for (const each of [...plot.series].reverse()) {
    fill(pen, plot, frame, each.top, null, tone("surface"), 1);
    fill(pen, plot, frame, each.top, null, tone(`s${each.place + 1}`), 0.82);
    line(pen, plot, frame, each.top, tone("surface"), 1);
  }
}

/** @param {Pen} pen @param {Plot} plot @param {Frame} frame */
function bars(pen, plot, frame) {
  const slot = (plot.step / (frame.to - frame.from)) * frame.width;
  const wide = Math.max(Math.min(slot * 0.72, 64), 1);
  const end = Math.min(lowerBound(plot.x, frame.to + plot.step), plot.x.length);
  for (let at = lowerBound(plot.x, frame.from - plot.step); at < end; at++) {
    const left = across(frame, /** @type {number} */ (plot.x[at])) - wide / 2;
    let below = 0;
    for (const each of plot.series) {
      const value = /** @type {number} */ (each.y[at]);
      if (!value) continue;
      const [top, foot] = [down(frame, below + value), down(frame, below)];
      pen.fillStyle = tone(`s${each.place + 1}`);
      const gap = below && foot - top > 2 ? 1 : 0; // a hair of surface between parts
      pen.fillRect(left, top, wide, Math.max(foot - top - gap, 0.75));
      below += value;
    }
  }
}

/** @param {Pen} pen @param {Plot} plot @param {Frame} frame */
function bands(pen, plot, frame) {
  const { low, high, low2, high2 } = plot.band;
  if (low && high) fill(pen, plot, frame, high, low, tone("s1"), 0.16);
  if (low2 && high2) fill(pen, plot, frame, high2, low2, tone("s1"), 0.24);
}

/** The sign of a series: circle, square, triangle, diamond, and two more. @param {Pen} pen @param {number} place @param {number} x @param {number} y @param {number} [size] */
export function sign(pen, place, x, y, size = 4) {
  pen.fillStyle = tone(`s${place + 1}`);
  pen.beginPath();
  if (place === 0) pen.arc(x, y, size, 0, 7);
  else if (place === 1 || place === 6) pen.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
  else {
    const corners = /** @type {Record<number, number[][]>} */ ({
      2: [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]], 3: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
      4: [[0, 1.15], [1.1, -0.85], [-1.1, -0.85]], 5: [[-1.2, -0.5], [1.2, -0.5], [1.2, 0.5], [-1.2, 0.5]],
    })[place] ?? [];
    for (const [dx = 0, dy = 0] of corners) pen.lineTo(x + dx * size, y + dy * size);
  }
  pen.fill();
}
