// The lines of a log, put together from the pieces in which it comes; the oldest go when there are too many.

/** @typedef {{offset: number, next: number, at_us: number, attempt: number, rank: number, stream: string, text: string}} Piece */
/** @typedef {{text: string, rank: number, stream: string, at: number, attempt: number, number: number}} Line */

export const MOST = 200_000; // lines that a page holds
const DROPPED = 20_000;

export class Lines {
  /** @type {Line[]} */ all = [];
  /** @type {Map<string, Line>} */ #open = new Map();
  #number = 0;
  /** How many lines were let go of at the beginning. */
  dropped = 0;
  /** What the building of the environment says, while it lasts. */
  progress = "";

  /** @param {Piece[]} pieces */
  add(pieces) {
    for (const piece of pieces) {
      if (piece.stream === "progress") {
        this.progress = piece.text.trim();
        continue;
      }
      this.progress = "";
      const source = `${piece.attempt} ${piece.rank} ${piece.stream}`;
      const parts = piece.text.split("\n");
      const last = parts.length - 1;
      for (let at = 0; at <= last; at += 1) {
        const text = parts[at] ?? "";
        const begun = this.#open.get(source);
        if (begun && at === 0) begun.text = over(begun.text, text);
        else if (text || at < last) this.#begin(piece, text, source);
        if (at < last) this.#open.delete(source);
      }
    }
    if (this.all.length > MOST) {
      this.all.splice(0, this.all.length - MOST + DROPPED);
      this.dropped = this.all[0]?.number ?? 0;
    }
  }

  /** @param {Piece} piece @param {string} text @param {string} source */
  #begin(piece, text, source) {
    const line = { text: over("", text), rank: piece.rank, stream: piece.stream, at: piece.at_us, attempt: piece.attempt, number: this.#number++ };
    this.all.push(line);
    this.#open.set(source, line);
  }

  /** Older lines, to stand before these. @param {Line[]} older @returns {number} how many */
  before(older) {
    const room = Math.max(0, MOST - DROPPED - this.all.length);
    const taken = older.slice(Math.max(0, older.length - room));
    const first = this.all[0]?.number ?? 0;
    taken.forEach((line, place) => (line.number = first - taken.length + place));
    this.all = taken.concat(this.all);
    return taken.length;
  }
}

/** A line with more written to it: a carriage return goes back to its beginning. @param {string} line @param {string} more */
function over(line, more) {
  const text = (line + more).replace(/\r+$/, "\r");
  const back = text.endsWith("\r") ? text.lastIndexOf("\r", text.length - 2) : text.lastIndexOf("\r");
  return back < 0 ? text : text.slice(back + 1);
}
