// Where the lines of a log come from: its end first, what is older when it is asked for, and what is new as it comes.
import { ask } from "./api.js";
import { Lines } from "./log_lines.js";

const FIRST = 2_000; // lines
const MOST_TAIL = 100_000; // that the server finds the beginning of
const BYTES = 1 << 20;

export class Source {
  lines = new Lines();
  ended = false;
  /** Where the oldest line begins, in bytes; 0: nothing is older. */
  begin = 0;
  #place = 0;
  #tail = FIRST;
  /** @type {EventSource | null} */ #stream = null;
  #busy = false;

  /** @param {string} job @param {() => void} changed @param {(words: string) => void} tell */
  constructor(job, changed, tell) {
    this.address = `/v1/jobs/${encodeURIComponent(job)}/log`;
    this.changed = changed;
    this.tell = tell;
  }

  async start() {
    const found = await ask(`${this.address}?tail=${FIRST}&limit=${BYTES}`);
    this.begin = found.pieces[0]?.offset ?? 0;
    this.lines.add(found.pieces);
    this.#place = found.next;
    this.ended = found.ended;
    this.changed();
    if (!this.ended) this.#follow();
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#follow()));
    addEventListener("pagehide", () => this.#close());
  }

  #close() {
    this.#stream?.close();
    this.#stream = null;
  }

  /** From where it stands on, as it grows; taken up again after a lost connection. */
  #follow() {
    if (this.#stream || this.ended || document.hidden) return;
    const stream = new EventSource(`${this.address}/follow?offset=${this.#place}`);
    this.#stream = stream;
    /** @type {any[]} */
    let waiting = [];
    stream.onopen = () => this.tell("");
    stream.onmessage = (event) => {
      const piece = JSON.parse(event.data);
      if (piece.offset < this.#place) return; // told before
      this.#place = piece.next;
      waiting.push(piece);
      if (waiting.length > 1) return;
      requestAnimationFrame(() => {
        this.lines.add(waiting);
        waiting = [];
        this.changed();
      });
    };
    stream.addEventListener("end", () => {
      this.ended = true;
      this.#close();
      this.changed();
    });
    stream.onerror = () => {
      this.tell("The connection was lost; it is sought again.");
      if (stream.readyState !== EventSource.CLOSED) return;
      this.#close();
      setTimeout(() => this.#follow(), 1000 + Math.random() * 2000);
    };
  }

  /** Whether there is more before the oldest line. */
  get older() {
    return this.begin > 0 && this.#tail < MOST_TAIL && !this.lines.dropped;
  }

  /** Older lines; how many were put before the others. */
  async more() {
    if (this.#busy || !this.older) return 0;
    this.#busy = true;
    try {
      this.#tail = Math.min(MOST_TAIL, this.#tail * 5);
      const before = new Lines();
      let place = -1;
      let begin = this.begin;
      for (;;) {
        const from = place < 0 ? `tail=${this.#tail}` : `offset=${place}`;
        const found = await ask(`${this.address}?${from}&limit=${BYTES}`);
        if (place < 0) begin = Math.min(begin, found.pieces[0]?.offset ?? begin);
        const pieces = found.pieces.filter((/** @type {any} */ piece) => piece.offset < this.begin);
        before.add(pieces.map((/** @type {any} */ piece) => (piece.next > this.begin ? { ...piece, text: cut(piece, this.begin) } : piece)));
        if (found.next >= this.begin || !found.pieces.length) break;
        place = found.next;
      }
      this.begin = begin;
      return this.lines.before(before.all);
    } finally {
      this.#busy = false;
    }
  }

  /** The beginning of the log in place of its end. */
  async fromBeginning() {
    this.#close();
    const fresh = new Lines();
    let place = 0;
    let ended = false;
    while (fresh.all.length < MOST_TAIL && !ended) {
      const found = await ask(`${this.address}?offset=${place}&limit=${BYTES}`);
      fresh.add(found.pieces);
      ended = found.ended || found.next <= place;
      place = found.next;
    }
    this.lines = fresh;
    this.begin = 0;
    this.#place = place;
    this.cut = !ended;
    if (ended) this.#follow();
    this.changed();
  }

  /** Whether the end is not shown. */
  cut = false;
}

/** The part of a piece that stands before a place, in bytes. @param {any} piece @param {number} until */
function cut(piece, until) {
  const bytes = new TextEncoder().encode(piece.text).slice(0, until - piece.offset);
  return new TextDecoder().decode(bytes);
}
