// The table of nodes: all of them, filtered and sorted here; kept true by the frames of the map.

import { Grid } from "./grid.js";
import { bytes } from "./heat_words.js";
import { HELD, TOP } from "./heat_paint.js";
import { html, state } from "./html.js";
import { ask, say } from "./api.js";
import { follow } from "./live.js";

/** @typedef {Record<string, any>} Row */

const grid = /** @type {Grid<Row> | null} */ (document.querySelector("hf-grid"));
const filter = /** @type {HTMLInputElement | null} */ (document.getElementById("filter"));
const gib = (/** @type {number} */ mib) => Math.round(mib / 1024).toLocaleString("en-US");
const part = (/** @type {Row} */ row, /** @type {string} */ held, /** @type {string} */ all) => (row[all] ? row[held] / row[all] : null);

/** @param {number} held @param {number} all @param {string} text */
const bar = (held, all, text) => (all ? html`<span class="held"><meter min="0" max="${all}" value="${held}" aria-hidden="true"></meter>${text}</span>` : "");

/** @type {import("./grid.js").Column<Row>[]} */
const columns = [
  { name: "name", title: "Node", value: (row) => row["name"], markup: (row) => html`<a href="/nodes/${encodeURIComponent(row["id"])}">${row["name"]}</a>${row["fake"] ? html` <span class="tag fake">pretended</span>` : ""}` },
  { name: "state", title: "State", value: (row) => row["state"], markup: (row) => state(row["state"]) },
  { name: "site", title: "Site", value: (row) => row["site"], wide: true },
  { name: "rack", title: "Rack", value: (row) => row["rack"], wide: true },
  { name: "kind", title: "GPU", value: (row) => row["kind"] || "none", wide: true },
  { name: "held", title: "GPUs held", right: true, exact: true, value: (row) => part(row, "gpu_held_milli", "all_milli"), markup: (row) => bar(row["gpu_held_milli"], row["all_milli"], `${row["gpu_held_milli"] / 1000} of ${row["all_milli"] / 1000}`) },
  { name: "use", title: "Use", unit: "%", right: true, exact: true, wide: true, value: (row) => row["use_percent"] },
  { name: "temperature", title: "Hottest", unit: "°C", right: true, exact: true, wide: true, value: (row) => row["temperature_c"] },
  { name: "power", title: "Power", unit: "W", right: true, exact: true, wide: true, value: (row) => row["power_w"], markup: (row) => row["power_w"]?.toLocaleString("en-US") ?? "" },
  { name: "cpu", title: "Cores held", right: true, exact: true, wide: true, value: (row) => part(row, "cpu_held_milli", "cpu_milli"), markup: (row) => `${row["cpu_held_milli"] / 1000} of ${row["cpu_milli"] / 1000}` },
  { name: "memory", title: "Memory held", unit: "GiB", right: true, exact: true, wide: true, value: (row) => part(row, "memory_held_mib", "memory_mib"), markup: (row) => `${gib(row["memory_held_mib"])} of ${gib(row["memory_mib"])}` },
  { name: "reason", title: "Why", value: (row) => row["reason"], wide: true },
];

let layout = "";
/** @type {Row[]} rows in the order of the map */
let rows = [];

async function load() {
  const table = await ask("/v1/fleet/nodes");
  layout = table.layout;
  rows = table.rows.map((/** @type {any[]} */ values) => {
    const row = Object.fromEntries(table.columns.map((/** @type {string} */ name, /** @type {number} */ at) => [name, values[at]]));
    row["all_milli"] = 1000 * (row["gpus"] + row["gpus_failed"]);
    return row;
  });
  if (grid) grid.rows = rows;
}

/** What a frame tells of the nodes: how many of their GPUs are held, and how busy they are. @param {any} frame */
function hear(frame) {
  if (frame.layout !== layout) return void later();
  const states = bytes(frame.states), values = bytes(frame.values);
  let cell = 0;
  for (const row of rows) {
    const count = Math.max(row["all_milli"] / 1000, 1);
    let held = 0, used = 0, known = 0;
    for (let at = cell; at < cell + count; at++) {
      if ((states[at] ?? 0) & HELD) held += 1;
      const value = values[at] ?? 255;
      if (value <= TOP) [used, known] = [used + value, known + 1];
    }
    cell += count;
    if (row["all_milli"] && Math.ceil(row["gpu_held_milli"] / 1000) !== held) row["gpu_held_milli"] = held * 1000;
    row["use_percent"] = known ? Math.round((100 * used) / known / TOP) : null;
  }
  grid?.refresh();
}

/** @type {number | undefined} */
let timer;

/** Fetch anew, soon, once for many calls. */
function later() {
  clearTimeout(timer);
  timer = setTimeout(() => load().catch((error) => say(error.message)), 400);
}

if (grid && filter) {
  grid.noun = "nodes";
  grid.begin(columns, "Nodes", grid.dataset["sort"]);
  grid.filter = filter.value;
  load().then(() => grid.querySelector("[data-first]")?.remove()).catch((error) => say(error.message));
  filter.form?.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", () => {
    grid.filter = filter.value;
    remember();
  });
  grid.addEventListener("grid-view", remember);
  follow("fleet:use", hear, later);
  follow("events", (event) => /^(node|cluster)_/.test(event.kind) && later(), later);
}

/** Let the address say what is shown. */
function remember() {
  const query = new URLSearchParams();
  if (filter?.value) query.set("q", filter.value);
  if (grid?.sort && grid.sort !== "name") query.set("sort", grid.sort);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}
