// A window over lines: only those in view exist. Heights are exact, as the type is of one width; what is not is measured.
import { plain, runs } from "./ansi.js";
import { fill, html } from "./html.js";

/** @typedef {import("./log_lines.js").Line} Line */
/** @typedef {{wrap: boolean, times: boolean, ranks: boolean, needle: string}} Looks */

const ROW = 20; // px, as in log.css
const SPARE = 20; // lines drawn beyond what is in view

export class View {
  /** @type {Line[]} */ #lines = [];
  /** @type {Looks} */ #looks = { wrap: false, times: false, ranks: false, needle: "" };
  #tops = new Float64Array(1025); // where each line begins, in rows, where lines wrap
  #known = 0; // of how many lines the beginning is known
  #columns = 80;
  #width = 0;
  #due = false;
  marked = -1; // the line that a search stands on
  stick = true; // to the end

  /** @param {HTMLElement} scroller */
  constructor(scroller) {
    this.scroller = scroller;
    this.room = document.createElement("div");
    this.room.className = "log-room";
    this.rows = document.createElement("div");
    this.rows.className = "log-rows";
    this.room.append(this.rows);
    scroller.append(this.room);
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => {
      this.#known = 0;
      this.draw();
    }).observe(scroller);
  }

  /** @param {Line[]} lines @param {Looks} looks @param {boolean} more whether lines were only added at the end */
  show(lines, looks, more) {
    if (!more || looks.wrap !== this.#looks.wrap || looks.times !== this.#looks.times || lines.length < this.#known) this.#known = 0;
    else this.#known = Math.max(0, Math.min(this.#known, lines.length) - 1); // the last one may have grown
    this.#lines = lines;
    this.#looks = { ...looks };
    this.draw();
  }

  atEnd() {
    return this.scroller.scrollTop + this.scroller.clientHeight >= this.scroller.scrollHeight - ROW * 1.5;
  }

  toEnd() {
    this.stick = true;
    this.#drawNow();
  }

  /** Bring a line into view. @param {number} place */
  to(place) {
    this.#measure();
    this.marked = place;
    this.stick = false;
    this.scroller.scrollTop = Math.max(0, this.#top(place) - this.scroller.clientHeight / 3);
    this.#drawNow();
  }

  /** Keep what is in view in its place when lines were put before it. @param {number} count */
  keep(count) {
    const top = this.scroller.scrollTop;
    this.#known = 0;
    this.#measure();
    this.scroller.scrollTop = top + this.#top(count);
    this.#drawNow();
  }

  draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#drawNow();
    });
  }

  #top(/** @type {number} */ place) {
    return (this.#looks.wrap ? (this.#tops[Math.min(place, this.#known)] ?? 0) : place) * ROW;
  }

  /** Where every line begins. */
  #measure() {
    const width = this.scroller.clientWidth;
    if (this.#looks.wrap) {
      if (width !== this.#width) this.#known = 0;
      const gutter = (this.#looks.times ? 13 : 0) + (this.#looks.ranks ? 4 : 0);
      this.#columns = Math.max(10, Math.floor((width - 24) / letter(this.scroller)));
      if (this.#tops.length <= this.#lines.length + 1) {
        const wider = new Float64Array(this.#lines.length * 2 + 2);
        wider.set(this.#tops.subarray(0, this.#known + 1));
        this.#tops = wider;
      }
      for (let at = this.#known; at < this.#lines.length; at += 1) {
        const size = gutter + plain(this.#lines[at]?.text ?? "").length;
        this.#tops[at + 1] = (this.#tops[at] ?? 0) + Math.max(1, Math.ceil(size / this.#columns));
      }
    }
    this.#known = this.#lines.length;
    this.#width = width;
    this.room.style.height = `${this.#top(this.#lines.length) + 12}px`;
  }

  /** The line that stands at a height. @param {number} height */
  #at(height) {
    if (!this.#looks.wrap) return Math.min(Math.floor(height / ROW), this.#lines.length);
    let low = 0;
    let high = this.#lines.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#tops[middle] ?? 0) * ROW <= height) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #drawNow() {
    this.#measure();
    if (this.stick) this.scroller.scrollTop = this.scroller.scrollHeight;
    const top = this.scroller.scrollTop;
    const first = Math.max(0, this.#at(top) - SPARE);
    const until = Math.min(this.#lines.length, this.#at(top + this.scroller.clientHeight) + SPARE);
    this.rows.style.transform = `translateY(${this.#top(first)}px)`;
    this.rows.classList.toggle("wrap", this.#looks.wrap);
    fill(this.rows, this.#lines.slice(first, until).map((line, place) => this.#line(line, first + place)));
    if (this.#looks.wrap) {
      // Each line has the room that was reckoned with, so that none is moved by what it holds.
      [...this.rows.children].forEach((row, place) => {
        const at = first + place;
        /** @type {HTMLElement} */ (row).style.height = `${this.#top(at + 1) - this.#top(at)}px`;
      });
    }
  }

  /** @param {Line} line @param {number} place */
  #line(line, place) {
    const { times, ranks, needle } = this.#looks;
    const clock = times ? html`<span class="log-time">${new Date(line.at / 1000).toISOString().slice(11, 23)} </span>` : "";
    const rank = ranks ? html`<span class="log-rank r${line.rank % 6}">${String(line.rank).padStart(3)} </span>` : "";
    const text = runs(line.text).map((run) => (run.look ? html`<span class="${run.look}">${marked(run.text, needle)}</span>` : marked(run.text, needle)));
    return html`<div class="log-line s-${line.stream === "system" || line.stream === "stderr" ? line.stream : "stdout"}${place === this.marked ? " is-marked" : ""}">${clock}${rank}${text}</div>`;
  }
}

/** Text with what is sought in marks. @param {string} text @param {string} needle */
function marked(text, needle) {
  if (!needle) return html`${text}`;
  const low = text.toLowerCase();
  const found = [];
  let place = 0;
  for (let at = low.indexOf(needle); at >= 0; at = low.indexOf(needle, place)) {
    found.push(html`${text.slice(place, at)}<mark>${text.slice(at, at + needle.length)}</mark>`);
    place = at + needle.length;
  }
  return [...found, html`${text.slice(place)}`];
}

let wide = 0;
/** How wide a letter is. @param {HTMLElement} scroller */
function letter(scroller) {
  if (!wide) {
    const probe = document.createElement("span");
    probe.textContent = "0".repeat(100);
    probe.className = "log-probe";
    scroller.append(probe);
    wide = probe.getBoundingClientRect().width / 100 || 8;
    probe.remove();
  }
  return wide;
}
