// <hf-chart>: lines, areas, stacks, bars and bands on a canvas, with a cursor for the mouse and for the keyboard.

import { before, behind, layOut } from "./axes.js";
import { across, down, marks, sign } from "./draw.js";
import { placeText, prepare, shown, summary } from "./plot.js";
import { grown, nearest } from "./sample.js";
import { valueText } from "./scale.js";
import { join, tell } from "./share.js";
import { beside, given, penOf, stage } from "./stage.js";
import { tableOf } from "./table.js";
import { onTheme, tone } from "./theme.js";

/** @typedef {import("./plot.js").Spec} Spec */
/** @typedef {import("./plot.js").Plot} Plot */

export class Chart extends HTMLElement {
  /** @type {Plot | null} */ #plot = null;
  /** @type {import("./stage.js").Stage | null} */ #parts = null;
  /** @type {import("./axes.js").Layout | null} */ #layout = null;
  /** @type {[number, number] | null} */ #range = null;
  /** @type {number | null} */ #dragged = null;
  /** @type {(() => void)[]} */ #ends = [];
  #at = -1;
  #noted = false;
  #due = false;

  connectedCallback() {
    const spec = this.#plot ? null : given(this);
    if (!this.#parts) {
      this.#parts = stage(this, "chart", () => (this.#plot ? tableOf(this.#plot, this.#shown()) : document.createElement("table")));
      this.#listen(this.#parts.plot);
    }
    const sized = new ResizeObserver(() => this.#draw());
    sized.observe(this.#parts.plot);
    this.#ends = [onTheme(() => this.#draw()), () => sized.disconnect()];
    if (spec) this.show(spec);
    else this.#joinGroup();
  }

  disconnectedCallback() {
    for (const end of this.#ends.splice(0)) end();
  }

  /** Show these values. @param {Spec} spec */
  show(spec) {
    const group = this.#plot?.spec.group;
    this.#plot = prepare(spec);
    this.#range = spec.range ?? null;
    const parts = this.#parts, tall = Number(this.getAttribute("height")) || 180, none = !this.#plot.x.length;
    if (parts) [parts.plot.style.height, parts.button.hidden] = [`${none ? Math.min(tall, 120) : tall}px`, none];
    if (spec.group !== group) this.#joinGroup();
    this.#draw();
  }

  /** One sample more of every series. @param {number} x @param {ArrayLike<number | null>} values */
  add(x, values) {
    const spec = this.#plot?.spec;
    if (!spec || !this.#plot) return;
    const keep = spec.keep ?? 3600;
    spec.series.forEach((each, at) => (each.y = grown(/** @type {any} */ (Float64Array.from(each.y, (y) => y ?? NaN)), values[at] ?? NaN, keep)));
    spec.x = grown(this.#plot.x, x, keep);
    this.#plot = prepare(spec);
    this.#draw();
  }

  #shown() {
    return this.#plot ? shown(this.#plot, this.#range) : /** @type {[number, number]} */ ([0, 1]);
  }

  #joinGroup() {
    const group = this.#plot?.spec.group;
    if (!group || !this.isConnected) return;
    this.#ends.push(join(group, this, ({ cursor, range }) => {
      if (range !== this.#range && range) {
        this.#range = range;
        this.#draw();
      }
      this.#at = cursor === null || !this.#plot ? -1 : nearest(this.#plot.x, cursor);
      this.#cursor(false);
    }));
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      const parts = this.#parts, plot = this.#plot;
      const width = parts?.plot.clientWidth ?? 0, height = parts?.plot.clientHeight ?? 0;
      const pen = parts && width && height ? penOf(parts.base, width, height) : null;
      if (!pen || !parts || !plot) return;
      this.#layout = layOut(pen, plot, width, height, this.#range);
      if (plot.x.length) {
        behind(pen, plot, this.#layout);
        marks(pen, plot, this.#layout.frame);
        before(pen, plot, this.#layout);
      } else {
        pen.fillStyle = tone("text-3");
        pen.textAlign = "center";
        pen.fillText(plot.spec.empty ?? "Nothing measured yet", width / 2, height / 2);
      }
      parts.plot.setAttribute("aria-label", summary(plot, this.#shown()));
      parts.table.setAttribute("aria-label", `${plot.spec.title} as a table`);
      parts.button.setAttribute("aria-label", `${parts.table.hidden ? "Show as table" : "Hide the table"}: ${plot.spec.title}`);
      if (!parts.table.hidden) parts.table.replaceChildren(tableOf(plot, this.#shown()));
      this.#cursor(this.#noted);
    });
  }

  /** @param {HTMLElement} plot */
  #listen(plot) {
    plot.addEventListener("pointermove", (event) => this.#point(event));
    plot.addEventListener("pointerleave", () => this.#leave());
    plot.addEventListener("blur", () => this.#leave());
    plot.addEventListener("keydown", (event) => this.#key(event));
    plot.addEventListener("pointerdown", (event) => (this.#dragged = event.button ? null : this.#xOf(event)));
    plot.addEventListener("pointerup", (event) => {
      const from = this.#dragged, to = this.#xOf(event), layout = this.#layout;
      this.#dragged = null;
      if (from === null || !layout || this.#plot?.names) return;
      if (Math.abs(across(layout.frame, to) - across(layout.frame, from)) < 8) return;
      const detail = { from: Math.round(Math.min(from, to)), to: Math.round(Math.max(from, to)) };
      this.dispatchEvent(new CustomEvent("chart-range", { bubbles: true, detail }));
    });
  }

  /** @param {PointerEvent} event */
  #xOf(event) {
    const frame = this.#layout?.frame;
    if (!frame) return 0;
    const place = (event.clientX - (this.#parts?.plot.getBoundingClientRect().left ?? 0) - frame.left) / frame.width;
    return frame.from + Math.min(Math.max(place, 0), 1) * (frame.to - frame.from);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    if (this.#plot) this.#go(nearest(this.#plot.x, this.#xOf(event)), true);
  }

  #leave() {
    this.#dragged = null;
    this.#go(-1, false);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [from, to] = this.#shown(), x = this.#plot?.x;
    if (!x?.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const [first, last] = [nearest(x, from), nearest(x, to)];
    const stride = event.shiftKey ? Math.max(Math.round((last - first) / 10), 1) : 1;
    const place = /** @type {Record<string, number>} */ ({
      ArrowLeft: (this.#at < 0 ? last + stride : this.#at) - stride, ArrowRight: (this.#at < 0 ? last - stride : this.#at) + stride,
      Home: first, End: last, Escape: -1,
    })[event.key];
    if (place === undefined) return;
    event.preventDefault();
    this.#go(place < 0 && event.key === "Escape" ? -1 : Math.min(Math.max(place, first), last), true);
    if (this.#parts && this.#at >= 0) this.#parts.said.textContent = this.#text().join(", ");
  }

  /** @param {number} at @param {boolean} note */
  #go(at, note) {
    this.#at = at;
    this.#noted = note && at >= 0;
    this.#cursor(this.#noted);
    const cursor = at < 0 ? null : (this.#plot?.x[at] ?? null), group = this.#plot?.spec.group;
    if (group) tell(group, this, { cursor });
    this.dispatchEvent(new CustomEvent("chart-cursor", { bubbles: true, detail: { x: cursor } }));
  }

  #text() {
    const plot = /** @type {Plot} */ (this.#plot), [from, to] = this.#shown();
    return [placeText(plot, this.#at, to - from), ...plot.series.map((each) => `${plot.series.length > 1 ? `${each.name} ` : ""}${valueText(each.y[this.#at] ?? NaN, plot.unit)}`)];
  }

  /** The line through the place that the cursor is at. @param {boolean} note with the values beside it */
  #cursor(note) {
    const parts = this.#parts, frame = this.#layout?.frame, plot = this.#plot;
    if (!parts || !frame || !plot) return;
    const pen = penOf(parts.over, parts.plot.clientWidth, parts.plot.clientHeight);
    if (!note) parts.note.hidden = true;
    const x = plot.x[this.#at];
    if (!pen || x === undefined || x < frame.from || x > frame.to) return;
    const px = across(frame, x);
    pen.strokeStyle = tone("text-3");
    pen.beginPath();
    pen.moveTo(Math.round(px) + 0.5, frame.top);
    pen.lineTo(Math.round(px) + 0.5, frame.top + frame.height);
    pen.stroke();
    for (const each of plot.series) {
      const value = each.top[this.#at] ?? NaN;
      if (value === value && plot.spec.kind !== "bars") sign(pen, each.place, px, down(frame, value));
    }
    if (!note) return;
    const [head = "", ...lines] = this.#text();
    beside(parts, px, frame.top, head, lines.map((text, at) => ({ text, tone: tone(`s${(plot.series[at]?.place ?? 0) + 1}`) })));
  }
}

customElements.define("hf-chart", Chart);
