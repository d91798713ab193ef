// The table of nodes: the server filters and sorts; the window that is looked at comes, and is kept true, by the stream.

import { ask, say } from "./api.js";
import { Grid } from "./grid.js";
import { html, state } from "./html.js";
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
  { name: "held", title: "GPUs held", right: true, value: (row) => part(row, "gpu_held_milli", "all_milli"), markup: (row) => bar(row["gpu_held_milli"], row["all_milli"], `${row["gpu_held_milli"] / 1000} of ${row["all_milli"] / 1000}`) },
  { name: "use", title: "Use", unit: "%", right: true, wide: true, value: (row) => row["use_percent"] },
  { name: "temperature", title: "Hottest", unit: "°C", right: true, wide: true, value: (row) => row["temperature_c"] },
  { name: "power", title: "Power", unit: "W", right: true, wide: true, value: (row) => row["power_w"], markup: (row) => row["power_w"]?.toLocaleString("en-US") ?? "" },
  { name: "cpu", title: "Cores held", right: true, wide: true, value: (row) => part(row, "cpu_held_milli", "cpu_milli"), markup: (row) => `${row["cpu_held_milli"] / 1000} of ${row["cpu_milli"] / 1000}` },
  { name: "memory", title: "Memory held", unit: "GiB", right: true, wide: true, value: (row) => part(row, "memory_held_mib", "memory_mib"), markup: (row) => `${gib(row["memory_held_mib"])} of ${gib(row["memory_mib"])}` },
  { name: "reason", title: "Why", value: (row) => row["reason"], wide: true },
];

const LONGEST = 200; // characters of a topic behind its name
let unfollow = () => {};
/** @type {number | undefined} */
let timer;

/** Look at the window in view, a moment after the last call. @param {number} [wait] milliseconds */
function look(wait = 120) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (!grid) return;
    const { first, limit } = grid.view, q = filter?.value.trim() ?? "";
    const query = new URLSearchParams({ ...(q ? { q } : {}), sort: grid.sort, first: String(first), limit: String(limit) });
    unfollow();
    if (String(query).length <= LONGEST) unfollow = follow(`nodes:${query}`, show);
    else void ask(`/v1/fleet/nodes?${query}`).then(show, (error) => say(error.message)); // too many words to be followed
  }, wait);
}

/** @param {any} table */
function show(table) {
  const rows = table.rows.map((/** @type {any[]} */ values) => {
    const row = Object.fromEntries(table.columns.map((/** @type {string} */ name, /** @type {number} */ at) => [name, values[at]]));
    return { ...row, all_milli: 1000 * (row["gpus"] + row["gpus_failed"]) };
  });
  grid?.querySelector("[data-first]")?.remove();
  grid?.put(rows, table.first, table.sums.nodes, table.total);
}

if (grid && filter) {
  const begin = Number(grid.dataset["from"] ?? 0), total = Number(grid.dataset["total"] ?? 0);
  grid.noun = "node";
  grid.begin(columns, "Nodes", grid.dataset["sort"]);
  if (begin) {
    grid.querySelector("[data-first]")?.remove();
    grid.put([], 0, Number(grid.dataset["found"] ?? 0), total);
    grid.to(begin);
  }
  look(0);
  filter.form?.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", () => {
    grid.to(0);
    remember();
    look();
  });
  grid.addEventListener("grid-view", () => {
    remember();
    look();
  });
}

/** Let the address say what is shown. */
function remember() {
  const query = new URLSearchParams();
  if (filter?.value) query.set("q", filter.value);
  if (grid?.sort && grid.sort !== "name") query.set("sort", grid.sort);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}
