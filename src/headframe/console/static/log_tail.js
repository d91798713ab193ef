// <hf-log-tail data-job>: the last lines of a log, as they come; the whole of it has a page of its own.
import { ask } from "./api.js";
import { runs } from "./ansi.js";
import { fill, html } from "./html.js";
import { Lines } from "./log_lines.js";

const SHOWN = 13; // lines

class LogTail extends HTMLElement {
  #lines = new Lines();
  #place = 0;
  #ended = false;
  /** @type {EventSource | null} */ #stream = null;

  connectedCallback() {
    void this.#start();
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#follow()));
    addEventListener("pagehide", () => this.#close());
  }

  get #address() {
    return `/v1/jobs/${encodeURIComponent(this.dataset.job ?? "")}/log`;
  }

  async #start() {
    const found = await ask(`${this.#address}?tail=${SHOWN * 3}`).catch(() => null);
    if (!found) return fill(this, html`<p class="log-note">The log cannot be read now.</p>`);
    this.#take(found.pieces);
    this.#place = found.next;
    this.#ended = found.ended;
    this.#draw();
    this.#follow();
  }

  #close() {
    this.#stream?.close();
    this.#stream = null;
  }

  #follow() {
    if (this.#stream || this.#ended || document.hidden) return;
    const stream = (this.#stream = new EventSource(`${this.#address}/follow?offset=${this.#place}`));
    let due = false;
    stream.onmessage = (event) => {
      const piece = JSON.parse(event.data);
      if (piece.offset < this.#place) return;
      this.#place = piece.next;
      this.#take([piece]);
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        this.#draw();
      });
    };
    stream.addEventListener("end", () => {
      this.#ended = true;
      this.#close();
    });
    stream.onerror = () => {
      if (stream.readyState !== EventSource.CLOSED) return;
      this.#close();
      setTimeout(() => this.#follow(), 2000);
    };
  }

  /** @param {import("./log_lines.js").Piece[]} pieces */
  #take(pieces) {
    this.#lines.add(pieces);
    this.#lines.all.splice(0, this.#lines.all.length - SHOWN);
  }

  #draw() {
    const { all, progress } = this.#lines;
    const words = progress || (all.length ? "" : this.#ended ? "The job wrote nothing." : "Nothing has been written yet.");
    fill(this, words
      ? html`<p class="log-note">${words}</p>`
      : html`<div class="log-few" tabindex="0" role="log" aria-live="off" aria-label="The last lines of the log">${all.map((line) => html`<div class="log-line s-${line.stream}">${runs(line.text).map((run) => html`<span class="${run.look}">${run.text}</span>`)}</div>`)}</div>`);
  }
}

customElements.define("hf-log-tail", LogTail);
