// A line without axes, as wide as a word.

import { column, drawn } from "./sample.js";
import { tone } from "./theme.js";

/**
 * Draw values into a canvas of any size; gaps stay gaps.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number | null>} values
 * @param {{max?: number, tone?: string}} [more]
 */
export function spark(canvas, values, more = {}) {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const [width, height, dots] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  canvas.width = width * dots;
  canvas.height = height * dots;
  pen.scale(dots, dots);
  const y = column(values), x = Float64Array.from(y, (_, at) => at);
  const most = more.max ?? Math.max(...y.filter((value) => value === value), 1e-9);
  const found = drawn(x, y, 0, Math.max(y.length - 1, 1), width, 1.5);
  pen.strokeStyle = tone(more.tone ?? "s1");
  pen.lineWidth = 1.25;
  pen.lineJoin = "round";
  pen.beginPath();
  let open = false;
  found.x.forEach((at, place) => {
    const value = found.y[place] ?? NaN;
    if (value !== value) return void (open = false);
    const px = (at / Math.max(y.length - 1, 1)) * (width - 2) + 1, py = (height - 2) * (1 - Math.min(value / most, 1)) + 1;
    if (open) pen.lineTo(px, py);
    else pen.moveTo(px, py);
    open = true;
  });
  pen.stroke();
}
