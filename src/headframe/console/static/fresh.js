// Parts of a page made anew by the server and put in place of the old ones, so that a page is written only once.

import { say } from "./api.js";

/** @type {number | undefined} */
let timer;
let last = 0, due = Infinity, turn = 0, failed = false;

/**
 * Fetch the page again soon, at most every `least` milliseconds, and renew all that is marked with `data-fresh`.
 * What has the focus, or is being read from a menu, stays until the next time.
 * @param {number} [least]
 */
export function freshen(least = 3000) {
  const wanted = Math.max(Date.now() + 400, last + least);
  if (wanted >= due) return; // sooner already: events that never cease must not put it off for ever
  clearTimeout(timer);
  due = wanted;
  timer = setTimeout(() => void renew(), due - Date.now());
}

const shown = () => freshen(0);

async function renew() {
  due = Infinity;
  if (document.hidden) return document.addEventListener("visibilitychange", shown, { once: true });
  last = Date.now();
  const mine = ++turn;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) {
    if (!failed) say("The server does not answer: what you see may be old.");
    failed = true;
    return freshen(10_000);
  }
  failed = false;
  const text = await answer.text();
  if (mine !== turn) return; // a later look is on its way: this one may be older than what it will find
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const name = old.getAttribute("data-fresh") ?? "", fresh = page.querySelector(`[data-fresh="${CSS.escape(name)}"]`);
    if (!fresh || old.contains(document.activeElement) || old.querySelector("details[open], dialog[open]")) continue;
    if (old.outerHTML !== fresh.outerHTML) old.replaceWith(document.adoptNode(fresh));
  }
}
