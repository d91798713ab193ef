// The colours and type of the page, as the canvas needs them; the only module of the kit that reads CSS variables.

/** @typedef {{[name: string]: string}} Ink */

const NAMES = [
  "bg", "surface", "raised", "line", "text", "text-2", "text-3", "accent", "ok", "info", "warn", "bad",
  "series-1", "series-2", "series-3", "series-4", "series-5", "series-6",
  "heat-1", "heat-2", "heat-3", "heat-4", "heat-5", "heat-6",
  "cell-idle", "cell-reserved", "cell-draining", "cell-failed",
];

/** @type {Ink | null} */
let known = null;
/** @type {Set<() => void>} */
const watchers = new Set();

/** The inks of the theme that holds now. @returns {Ink} */
export function inks() {
  if (known === null) {
    const style = getComputedStyle(document.documentElement);
    known = {};
    for (const name of NAMES) known[name] = style.getPropertyValue(`--${name}`).trim() || "gray";
    known["font"] = getComputedStyle(document.body).fontFamily;
  }
  return known;
}

/** The ink of a name such as `s1`, `bad` or `idle`; `s7` is that of all others. @param {string} tone */
export function tone(tone) {
  const ink = inks();
  if (/^s[1-6]$/.test(tone)) return ink[`series-${tone[1]}`] ?? "gray";
  if (tone === "s7") return ink["text-3"] ?? "gray";
  return ink[`cell-${tone}`] ?? ink[tone] ?? "gray";
}

/** Call `draw` when the theme changes; returns the call that ends it. @param {() => void} draw */
export function onTheme(draw) {
  watchers.add(draw);
  return () => void watchers.delete(draw);
}

function changed() {
  known = null;
  for (const draw of watchers) draw();
}

new MutationObserver(changed).observe(document.documentElement, { attributes: true });
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "print"]) {
  matchMedia(query).addEventListener("change", changed);
}
document.fonts?.addEventListener?.("loadingdone", changed);
