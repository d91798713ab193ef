// A node's page: its accelerators, who held them and how they are, kept true while one looks.

import "./chart/chart.js";
import "./chart/timeline.js";
import { ask } from "./api.js";
import { fill, html, state } from "./html.js";
import { follow } from "./live.js";
import { measured } from "./measured.js";
import { few } from "./series.js";

const host = /** @type {HTMLElement | null} */ (document.querySelector("[data-node]"));
const id = host?.dataset["node"] ?? "", began = Number(host?.dataset["from"] ?? 0), opened = Date.now();
const path = `/v1/nodes/${encodeURIComponent(id)}`;

/** The beginning of the time that is shown, which goes on with the clock; microseconds. */
const since = () => Math.round(began + (Date.now() - opened) * 1000);

/** @param {string} text @param {number} value @param {number} most */
const bar = (text, value, most) => html`<span class="meter-line"><meter min="0" max="${most}" value="${value}" aria-hidden="true"></meter><span>${text}</span></span>`;

/** @param {any} one */
function device(one) {
  const { accelerator: card, nominal_gib: size, holders, gauge } = one, of = gauge ?? {};
  const held = holders.map((/** @type {any} */ each, /** @type {number} */ at) => html`${at ? ", " : ""}${each.job_id ? html`<a href="/jobs/${encodeURIComponent(each.job_id)}">${each.job_name}</a>` : html`<span class="quiet">another organization</span>`}${each.milli < 1000 ? html` <span class="quieter">${Math.round(each.milli / 10)} %</span>` : ""}`);
  return html`<tr><td data-label="GPU" class="number">${card.index}</td><td data-label="Kind"><span>${card.kind} <span class="quieter">${size} GB</span></span></td><td data-label="Health">${card.healthy ? state("ready", "healthy") : state("failed", card.reason || "unhealthy")}</td><td data-label="Held by">${held.length ? held : html`<span class="quieter">nobody</span>`}</td><td data-label="Use" class="meter-cell">${of.use_percent == null ? "" : bar(`${of.use_percent} %`, of.use_percent, 100)}</td><td data-label="Memory" class="meter-cell">${of.memory_mib == null ? "" : bar(`${Math.round((100 * of.memory_mib) / card.memory_mib)} %`, of.memory_mib, card.memory_mib)}</td><td data-label="Power W" class="number">${of.power_w}</td><td data-label="Temp. °C" class="number">${of.temperature_c}</td><td data-label="Errors" class="number">${of.errors}</td></tr>`;
}

let holding = "";

/** @param {any} full */
function hear(full) {
  const body = document.querySelector("[data-devices]");
  if (body && !body.contains(document.activeElement)) fill(body, full.devices.map(device));
  const sign = document.querySelector("[data-node-state]");
  const shown = sign?.querySelector("[data-state]")?.getAttribute("data-state");
  // What can be done depends on the state: its forms come with the page.
  if (shown && shown !== full.state && !document.querySelector("details[open] form")) return location.reload();
  const running = document.querySelector("[data-running]");
  if (running) running.textContent = `${full.running} job${full.running === 1 ? " still holds" : "s still hold"} a part of it.`;
  const now = JSON.stringify(full.devices.map((/** @type {any} */ one) => one.holders)) + full.running;
  if (holding && now !== holding) void past();
  holding = now;
}

/** Who held it, anew. */
async function past() {
  const line = /** @type {import("./chart/timeline.js").Timeline | null} */ (document.querySelector("hf-timeline"));
  const spec = line?.dataset["spec"] ? JSON.parse(line.dataset["spec"]) : null;
  if (!line || !spec) return;
  const shift = Date.now() - opened, from = new Date(began / 1000 + shift).toISOString();
  const found = await ask(`${path}/past?from=${from}`);
  /** @type {Map<string, string>} */
  const tones = new Map();
  for (const lane of spec.lanes) lane.spans = [];
  for (const stay of found.stays) {
    const tone = stay.job_id ? (tones.get(stay.job_id) ?? `s${(tones.size % 6) + 1}`) : "text-3";
    if (stay.job_id) tones.set(stay.job_id, tone);
    const names = stay.devices.length ? stay.devices.map((/** @type {number} */ index) => `GPU ${index}`) : ["Cores only"];
    for (const name of names) {
      const lane = spec.lanes.find((/** @type {any} */ one) => one.name === name);
      lane?.spans.push({ from: stay.from_us / 1000, to: stay.to_us === null ? null : stay.to_us / 1000, name: stay.job_name ?? "another organization", tone, text: `${stay.cpu_milli / 1000} CPU`, ...(stay.job_id ? { href: `/jobs/${encodeURIComponent(stay.job_id)}` } : {}) });
    }
  }
  line.show({ ...spec, from: found.from_us / 1000, to: found.to_us / 1000, now: found.to_us / 1000 });
}

const CHARTS = /** @type {[string, string, string, number, number?][]} */ ([
  ["gpu_busy_milli", "Use of GPUs", "percent", 10, 100], ["gpu_memory_mib", "Memory of GPUs", "gib", 1024],
  ["power_mw", "Power", "watt", 1000], ["temperature_c", "Temperature", "celsius", 1], ["memory_errors", "Memory errors", "count", 1],
  ["cpu_milli", "Cores used", "cores", 1000], ["memory_mib", "Memory used", "gib", 1024],
]);

/** What was measured, as charts under one crosshair. @param {import("./measured.js").Found} found */
function health(found) {
  const place = document.querySelector("[data-charts]");
  if (!place) return;
  const from = since();
  // A node that is measured for a short time only fills its charts all the same.
  const first = Math.max(from, Math.min(...found.items.map((/** @type {any} */ one) => one.at_us[0] ?? Infinity), found.newest_us));
  const drawn = CHARTS.map(([name, title, unit, divisor, max]) => {
    const series = found.items.filter((/** @type {any} */ one) => one.name === name && one.at_us.length);
    const x = [...new Set(series.flatMap((/** @type {any} */ one) => one.at_us))].sort((a, b) => a - b);
    const columns = series.map((/** @type {any} */ one) => {
      const at = new Map(one.at_us.map((/** @type {number} */ moment, /** @type {number} */ place) => [moment, one.mean[place]]));
      const index = /_([0-9]+)$/.exec(one.subject)?.[1];
      return { name: one.subject === id ? title : `GPU ${index ?? one.subject}`, y: x.map((moment) => (at.get(moment) == null ? null : at.get(moment) / divisor)) };
    });
    columns.sort((/** @type {any} */ a, /** @type {any} */ b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const spec = { kind: "line", title, unit, x: x.map((moment) => moment / 1000), series: few(columns), group: "node", range: [first / 1000, found.newest_us / 1000 || Date.now()], ...(max ? { max } : {}), ...(gapless(series) ? { gap: gapless(series) } : {}) };
    return { title, spec, any: columns.length > 0 };
  }).filter((one) => one.any);
  if (!drawn.length) return;
  if (place.querySelectorAll("hf-chart").length !== drawn.length) fill(place, drawn.map((one) => html`<div><h3>${one.title}</h3><hf-chart height="150"></hf-chart></div>`));
  place.querySelectorAll("hf-chart").forEach((chart, at) => /** @type {any} */ (chart).show(drawn[at]?.spec));
}

/** Series of one node are measured together: how far apart two samples may be, in milliseconds. @param {any[]} series */
function gapless(series) {
  const at = series[0]?.at_us ?? [];
  return at.length > 2 ? (4 * (at[at.length - 1] - at[0])) / at.length / 1000 : 0;
}

if (host) {
  follow(`node:${id}`, hear);
  if (document.querySelector("[data-charts]")) measured(id, true, () => ask(`${path}/metrics?from_us=${since()}&points=400`), health);
}
