// Terminal colours of log lines as classes; every other sequence is left out. Text stays text.

/** @typedef {{text: string, look: string}} Run */

// eslint-disable-next-line no-control-regex
const SEQUENCE = /\u001b(?:\[([0-9;:?]*)([ -/]*[@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])/g;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** Text without sequences and without what is not seen. @param {string} text */
export function plain(text) {
  return text.includes("\u001b") || /[^\x20-\x7e]/.test(text) ? shown(text.replace(SEQUENCE, "")) : text;
}

/** What a terminal would leave of a line that was written over, with tabs as spaces. @param {string} text */
function shown(text) {
  return text.replaceAll("\t", "    ").replace(CONTROLS, "");
}

/** A line as runs of one look each. @param {string} text @returns {Run[]} */
export function runs(text) {
  if (!text.includes("\u001b")) return [{ text: plain(text), look: "" }];
  /** @type {Run[]} */
  const found = [];
  const look = { fore: "", back: "", bold: false, dim: false, italic: false, under: false };
  let place = 0;
  const add = (/** @type {string} */ part) => part && found.push({ text: shown(part), look: words(look) });
  for (const match of text.matchAll(SEQUENCE)) {
    add(text.slice(place, match.index));
    place = match.index + match[0].length;
    if (match[2] === "m") apply(look, (match[1] ?? "").split(/[;:]/).map(Number));
  }
  add(text.slice(place));
  return found;
}

/** @param {{fore: string, back: string, bold: boolean, dim: boolean, italic: boolean, under: boolean}} look */
function words(look) {
  return [look.fore && `a-${look.fore}`, look.back && `b-${look.back}`, look.bold && "a-bold", look.dim && "a-dim", look.italic && "a-italic", look.under && "a-under"].filter(Boolean).join(" ");
}

/** @param {Parameters<typeof words>[0]} look @param {number[]} codes */
function apply(look, codes) {
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at] || 0;
    if (code === 0) Object.assign(look, { fore: "", back: "", bold: false, dim: false, italic: false, under: false });
    else if (code === 1) look.bold = true;
    else if (code === 2) look.dim = true;
    else if (code === 3) look.italic = true;
    else if (code === 4) look.under = true;
    else if (code === 22) look.bold = look.dim = false;
    else if (code === 23) look.italic = false;
    else if (code === 24) look.under = false;
    else if (code >= 30 && code <= 37) look.fore = NAMES[code - 30] ?? "";
    else if (code >= 90 && code <= 97) look.fore = NAMES[code - 90] ?? "";
    else if (code === 39) look.fore = "";
    else if (code >= 40 && code <= 47) look.back = NAMES[code - 40] ?? "";
    else if (code >= 100 && code <= 107) look.back = NAMES[code - 100] ?? "";
    else if (code === 49) look.back = "";
    else if (code === 38 || code === 48) {
      const [name, used] = wide(codes, at + 1);
      look[code === 38 ? "fore" : "back"] = name;
      at += used;
    }
  }
}

/** One of 256 colours, or any, as the nearest of eight. @param {number[]} codes @param {number} at @returns {[string, number]} */
function wide(codes, at) {
  if (codes[at] === 2) return [nearest(codes[at + 1] || 0, codes[at + 2] || 0, codes[at + 3] || 0), 4];
  const number = codes[at + 1] || 0;
  if (number < 16) return [NAMES[number % 8] ?? "", 2];
  if (number > 231) return [number < 244 ? "black" : "white", 2];
  const cube = number - 16;
  return [nearest(Math.floor(cube / 36) * 51, (Math.floor(cube / 6) % 6) * 51, (cube % 6) * 51), 2];
}

/** @param {number} red @param {number} green @param {number} blue */
function nearest(red, green, blue) {
  const most = Math.max(red, green, blue);
  const on = (/** @type {number} */ part) => (most > 60 && part > most * 0.6 ? 1 : 0);
  return NAMES[on(red) + 2 * on(green) + 4 * on(blue)] ?? "";
}
