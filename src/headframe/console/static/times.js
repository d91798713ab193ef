// Times as people read them, kept true while the page is open. `words.py` words them the same way.

/** `0.4 s`, `12m05s`, `3h20m`, `2d04h`. @param {number} seconds @returns {string} */
export function span(seconds) {
  if (seconds < 100) return `${seconds < 10 ? Number(seconds.toFixed(2)) : Math.round(seconds)} s`;
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const all = Math.round(seconds);
  const [days, hours, minutes] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60];
  if (days) return `${days}d${two(hours)}h`;
  return hours ? `${hours}h${two(minutes)}m` : `${minutes}m${two(all % 60)}s`;
}

/** How far the server's clock, by which all moments are told, is ahead of this one, in milliseconds. */
const ahead = Number(document.documentElement.dataset["now"] ?? Date.now()) - Date.now();

/** The moment by the server's clock. @returns {number} milliseconds since 1970 */
export const present = () => Date.now() + ahead;

/** `12 s ago`, `in 3h20m`. @param {number} moment milliseconds since 1970 @param {number} [now] @returns {string} */
export function ago(moment, now = present()) {
  const apart = Math.trunc((now - moment) / 1000);
  if (!apart) return "now";
  return apart > 0 ? `${span(apart)} ago` : `in ${span(-apart)}`;
}

/** An element that shows a moment and goes on doing so. @param {number} us microseconds since 1970 @returns {string} */
export const exact = (us) => `${new Date(us / 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** Bring every moment on the page up to date. */
export function refresh() {
  const now = present();
  for (const one of document.querySelectorAll("time[data-when]")) {
    const words = ago(Date.parse(/** @type {HTMLTimeElement} */ (one).dateTime), now);
    if (one.textContent !== words) one.textContent = words;
  }
}
