// What is measured of a job or a node: fetched whole once, then grown by what the stream tells.

import { follow } from "./live.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {{items: Series[], newest_us: number}} Found */

const COLUMNS = /** @type {const} */ (["at_us", "mean", "low", "high"]);
const MOST = 1500; // points of one series, beyond which it is fetched anew, thinned

/**
 * Show series as they grow; returns the call that fetches them anew.
 * @param {string} id of a job or a node @param {boolean} live whether there is more to come
 * @param {() => Promise<Found>} fetch @param {(found: Found) => void} show @param {() => void} [fail]
 * @returns {() => void}
 */
export function measured(id, live, fetch, show, fail) {
  /** @type {Found | null} */
  let found = null;
  let turn = 0, fetching = false;
  const load = async () => {
    const mine = ++turn;
    fetching = true;
    try {
      const fresh = await fetch();
      if (mine === turn) show((found = fresh));
    } catch {
      if (mine === turn && !found) fail?.();
    } finally {
      if (mine === turn) fetching = false;
    }
  };
  if (live) {
    follow(`metrics:${id}`, (/** @type {{from_us: number, items: Series[]}} */ news) => {
      if (fetching) return; // the next frame overlaps with this one
      if (!found || news.from_us > found.newest_us) return void (news.items.length && load());
      const grown = grow(found, news.items);
      if (grown > MOST) void load();
      else if (grown) show(found);
    });
  }
  void load();
  return () => void load();
}

/** Add the points that are new; how many points the longest series that grew has now.
 * @param {Found} found @param {Series[]} items */
function grow(found, items) {
  let longest = 0;
  for (const news of items) {
    const known = found.items.find((one) => one.name === news.name && one.part === news.part && one.subject === news.subject);
    if (!known) {
      found.items.push(news);
      longest = Math.max(longest, news.at_us.length);
      continue;
    }
    const last = known.at_us.at(-1) ?? 0;
    const first = news.at_us.findIndex((at) => at > last);
    if (first < 0) continue;
    if (known.step ?? news.step) {
      known.step = [...(known.step ?? known.at_us.map(() => null)), ...(news.step ?? news.at_us.map(() => null)).slice(first)];
    }
    for (const name of COLUMNS) /** @type {any} */ (known)[name] = [...known[name], ...news[name].slice(first)];
    longest = Math.max(longest, known.at_us.length);
  }
  found.newest_us = Math.max(found.newest_us, ...found.items.map((one) => one.at_us.at(-1) ?? 0));
  return longest;
}
