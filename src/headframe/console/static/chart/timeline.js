// <hf-timeline>: who had what from when to when, a lane each; with the same cursor and the same table as a chart.

import { BAR, boxOf, frameOf, HEAD, laid, paint, ROW } from "./lanes.js";
import { momentText } from "./scale.js";
import { beside, given, penOf, stage } from "./stage.js";
import { build } from "./table.js";
import { inks, onTheme } from "./theme.js";

/** @typedef {import("./lanes.js").Spec} Spec */
/** @typedef {import("./lanes.js").Place} Place */

export class Timeline extends HTMLElement {
  /** @type {Spec | null} */ #spec = null;
  /** @type {import("./stage.js").Stage | null} */ #parts = null;
  /** @type {Place[]} */ #places = [];
  /** @type {number[]} */ #tops = [];
  /** @type {(() => void)[]} */ #ends = [];
  /** @type {import("./draw.js").Frame | null} */ #frame = null;
  #at = -1;
  #due = false;

  connectedCallback() {
    const spec = this.#spec ?? given(this); // before the stage takes the element's place
    if (!this.#parts) {
      this.#parts = stage(this, "timeline", () => this.#table());
      const plot = this.#parts.plot;
      plot.addEventListener("pointermove", (event) => this.#go(this.#under(event), true));
      plot.addEventListener("pointerleave", () => this.#go(-1, false));
      plot.addEventListener("blur", () => this.#go(-1, false));
      plot.addEventListener("click", (event) => this.#open(this.#under(event)));
      plot.addEventListener("keydown", (event) => this.#key(event));
    }
    const sized = new ResizeObserver(() => this.#draw());
    sized.observe(this.#parts.plot);
    this.#ends = [onTheme(() => this.#draw()), () => sized.disconnect()];
    if (spec) this.show(spec);
  }

  disconnectedCallback() {
    for (const end of this.#ends) end();
  }

  /** Show these spans. @param {Spec} spec */
  show(spec) {
    this.#spec = spec;
    ({ places: this.#places, tops: this.#tops } = laid(spec));
    const rows = this.#tops[this.#tops.length - 1] ?? 0;
    this.#at = Math.min(this.#at, this.#places.length - 1);
    if (this.#parts) this.#parts.plot.style.height = `${Math.max(rows, 1) * ROW + HEAD + 4}px`;
    this.#draw();
  }

  /** @param {import("./lanes.js").Span} span */
  #text(span) {
    const spec = /** @type {Spec} */ (this.#spec), wide = spec.to - spec.from;
    const until = span.to === null ? "still" : momentText(span.to, wide);
    return `${momentText(span.from, wide)} to ${until}`;
  }

  #table() {
    const rows = this.#places.map(({ lane, span }) => [
      this.#spec?.lanes[lane]?.name ?? "", span.name, ...this.#text(span).split(" to "), span.text ?? "",
    ]);
    return build(this.#spec?.title ?? "", ["Where", "What", "From", "To", "More"], rows);
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      const parts = this.#parts, spec = this.#spec;
      const width = parts?.plot.clientWidth ?? 0, height = parts?.plot.clientHeight ?? 0;
      const pen = parts && width ? penOf(parts.base, width, height) : null;
      if (!pen || !parts || !spec) return;
      this.#frame = frameOf(pen, spec, width, height);
      paint(pen, spec, this.#frame, this.#places, this.#tops);
      const count = this.#places.length;
      parts.plot.setAttribute("aria-label", `${spec.title}: ${count ? `${count} spans in ${spec.lanes.length} rows` : (spec.empty ?? "nothing")}, ${momentText(spec.from, spec.to - spec.from)} to ${momentText(spec.to, spec.to - spec.from)}.`);
      parts.table.setAttribute("aria-label", `${spec.title} as a table`);
      parts.button.setAttribute("aria-label", `${parts.table.hidden ? "Show as table" : "Hide the table"}: ${spec.title}`);
      if (!parts.table.hidden) parts.table.replaceChildren(this.#table());
      this.#mark();
    });
  }

  /** @param {MouseEvent} event */
  #under(event) {
    const box = this.#parts?.plot.getBoundingClientRect();
    const [x, y] = [event.clientX - (box?.left ?? 0), event.clientY - (box?.top ?? 0)];
    const spec = this.#spec, frame = this.#frame;
    if (!spec || !frame) return -1;
    return this.#places.findLastIndex((place) => {
      const [left, top, wide] = boxOf(place, spec, frame);
      return x >= left - 2 && x <= left + wide + 2 && y >= top && y <= top + BAR;
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#places.length - 1, at = this.#at;
    const place = /** @type {Record<string, number>} */ ({ ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last, Escape: -1 })[event.key];
    if (event.key === "Enter") this.#open(at);
    if (place === undefined || last < 0) return;
    event.preventDefault();
    this.#go(event.key === "Escape" ? -1 : Math.min(Math.max(place, 0), last), true);
    const found = this.#places[this.#at];
    if (found && this.#parts) this.#parts.said.textContent = [this.#spec?.lanes[found.lane]?.name, found.span.name, this.#text(found.span), found.span.text].filter(Boolean).join(", ");
  }

  /** @param {number} at */
  #open(at) {
    const href = this.#places[at]?.span.href;
    if (href?.startsWith("/")) location.assign(href);
  }

  /** @param {number} at @param {boolean} note */
  #go(at, note) {
    this.#at = at;
    this.#mark();
    const parts = this.#parts, place = this.#places[at];
    if (!parts) return;
    parts.plot.style.cursor = place?.span.href ? "pointer" : "default";
    if (!note || !place || !this.#frame) return void (parts.note.hidden = true);
    const [left, top, wide] = boxOf(place, /** @type {Spec} */ (this.#spec), this.#frame);
    beside(parts, Math.min(left + wide, parts.plot.clientWidth - 20), top + BAR, place.span.name, [
      { text: this.#text(place.span) }, ...(place.span.text ? [{ text: place.span.text }] : []),
    ]);
  }

  #mark() {
    const parts = this.#parts, place = this.#places[this.#at];
    const pen = parts ? penOf(parts.over, parts.plot.clientWidth, parts.plot.clientHeight) : null;
    if (!pen || !place || !this.#frame) return;
    const [left, top, wide] = boxOf(place, /** @type {Spec} */ (this.#spec), this.#frame);
    pen.strokeStyle = inks()["text"] ?? "";
    pen.lineWidth = 1.5;
    pen.strokeRect(left - 1, top - 1, wide + 2, BAR + 2);
  }
}

customElements.define("hf-timeline", Timeline);
