// Parts of a page made anew by the server and put in place of the old ones, so that a page is written only once.

import { say } from "./api.js";

/** @type {number | undefined} */
let timer;
let last = 0, failed = false;

/**
 * Fetch the page again soon, at most every `least` milliseconds, and renew all that is marked with `data-fresh`.
 * What has the focus, or is being read from a menu, stays until the next time.
 * @param {number} [least]
 */
export function freshen(least = 3000) {
  clearTimeout(timer);
  timer = setTimeout(() => void renew(), Math.max(400, last + least - Date.now()));
}

async function renew() {
  if (document.hidden) return;
  last = Date.now();
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) {
    if (!failed) say("The server does not answer: what you see may be old.");
    failed = true;
    return freshen(10_000);
  }
  failed = false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const name = old.getAttribute("data-fresh") ?? "", fresh = page.querySelector(`[data-fresh="${CSS.escape(name)}"]`);
    if (!fresh || old.contains(document.activeElement) || old.querySelector("details[open], dialog[open]")) continue;
    if (old.outerHTML !== fresh.outerHTML) old.replaceWith(document.adoptNode(fresh));
  }
}
