// The map in words: what a cell is, what its colours mean, and the bytes that frames bring.

import { valueText } from "./chart/scale.js";
import { DRAINING, FAILED, HELD, HIDDEN, NOTHING, RESERVED, TOP, UNREACHABLE } from "./heat_paint.js";
import { fill, html } from "./html.js";

/** @typedef {import("./heat_paint.js").Frame} Frame */

/** Bytes of base64 text. @param {string} text @returns {Uint8Array} */
export function bytes(text) {
  const found = atob(text), into = new Uint8Array(found.length);
  for (let at = 0; at < found.length; at++) into[at] = found.charCodeAt(at);
  return into;
}

/** @param {number} state */
function stateWords(state) {
  const said = [];
  if (state & FAILED) said.push("failed");
  if (state & UNREACHABLE) said.push("its cluster is not heard of");
  if (state & DRAINING) said.push("draining");
  if (state & HELD) said.push("held");
  else if (state & RESERVED) said.push("reserved, unused now");
  else if (!state) said.push("idle");
  return said.join(", ");
}

/** @param {Frame} frame @param {number} value */
function valueWords(frame, value) {
  const { told } = frame;
  if (value === HIDDEN) return "somebody else's";
  if (value === NOTHING) return told.names.length || !told.unit ? "" : `${told.by} not known`;
  if (!told.unit) return told.names[value]?.name ?? "";
  const exact = told.low + ((told.high - told.low) * value) / TOP;
  return `${told.by} ${valueText(Math.round(exact), told.unit)}`;
}

/**
 * Where a cell is and how it is: rack, node, GPU, state, value.
 * @param {import("./heat_layout.js").Fleet} fleet
 * @param {Frame} frame
 * @param {import("./heat_layout.js").Hit} at
 */
export function words(fleet, frame, at) {
  const site = fleet.sites[at.block.site], kinds = fleet.kinds[at.node]?.split(",") ?? [], kind = kinds[at.index] ?? kinds[0];
  const state = frame.states[at.cell] ?? 0, value = state & HELD || frame.told.unit ? valueWords(frame, frame.values[at.cell] ?? NOTHING) : "";
  const device = kind ? `GPU ${at.index} (${kind})` : "CPU only";
  return [site?.name, at.block.name, fleet.node_names[at.node], device, stateWords(state), value].filter(Boolean).join(" · ");
}

const STATES = /** @type {[string, string][]} */ ([
  ["idle", "idle"], ["reserved", "reserved, unused"], ["draining", "draining"], ["failed", "failed"], ["unreachable", "not heard of"],
]);

/**
 * What the colours mean, with how many cells there are of each.
 * @param {HTMLElement} host
 * @param {Frame} frame
 */
export function legend(host, frame) {
  const { told } = frame, count = (/** @type {number} */ value) => value.toLocaleString("en-US");
  const ramp = told.unit
    ? html`<span class="heat-ramp"><span>${valueText(told.low, told.unit)}</span><i class="heat-scale"></i><span>${valueText(told.high, told.unit)}</span></span>`
    : told.names.map((one, at) => html`<span class="heat-key"><i class="heat-cell heat-${one.id ? `s${(at % 6) + 1}` : "others"}"></i>${one.name} <b>${count(one.cells)}</b></span>`);
  const states = STATES.filter(([name]) => told.counts[name]).map(
    ([name, text]) => html`<span class="heat-key"><i class="heat-cell heat-${name}"></i>${text} <b>${count(told.counts[name] ?? 0)}</b></span>`,
  );
  const hidden = frame.values.includes(HIDDEN) ? html`<span class="heat-key"><i class="heat-cell heat-hidden"></i>somebody else's</span>` : "";
  const unknown = told.unit && heldUnknown(frame) ? html`<span class="heat-key"><i class="heat-cell heat-hidden"></i>held, not measured</span>` : "";
  const markup = html`<span class="heat-key heat-total"><b>${count(told.counts["held"] ?? 0)}</b> of <b>${count(frame.states.length)}</b> held</span>${ramp}${states}${hidden}${unknown}`;
  if (markup.markup !== host.dataset["markup"]) fill(host, markup);
  host.dataset["markup"] = markup.markup;
}

/** @param {Frame} frame */
function heldUnknown(frame) {
  return frame.states.some((state, at) => state & HELD && frame.values[at] === NOTHING);
}
