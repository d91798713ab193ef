// The map's colours and how it is drawn: a picture of one dot a cell, stretched over the racks that are in view.

import { cut } from "./chart/axes.js";
import { inks } from "./chart/theme.js";

/** @typedef {import("./heat_layout.js").Layout} Layout */
/** @typedef {import("./heat_layout.js").Fleet} Fleet */
/** @typedef {{by: string, unit: string, low: number, high: number, names: {id: string, name: string, cells: number}[], counts: Record<string, number>, at_us: number, layout: string}} Told */
/** @typedef {{told: Told, states: Uint8Array, values: Uint8Array}} Frame */
/** @typedef {{x: number, y: number, zoom: number}} View what of the map stands at the left upper corner, and how large */

export const HELD = 1, RESERVED = 2, DRAINING = 4, FAILED = 8, UNREACHABLE = 16;
export const TOP = 253, HIDDEN = 254, NOTHING = 255;

/** Colour as 0xAABBGGRR, as ImageData keeps it. @param {string} text such as #12475f */
function packed(text) {
  const rgb = parseInt(text.replace("#", ""), 16);
  return ((255 << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

/** @param {number} a @param {number} b @param {number} part */
function mixed(a, b, part) {
  let found = 255 << 24;
  for (const shift of [0, 8, 16]) {
    const [from, to] = [(a >> shift) & 255, (b >> shift) & 255];
    found |= Math.round(from + (to - from) * part) << shift;
  }
  return found >>> 0;
}

/** The colour of every value, by the theme. @param {Frame} frame @returns {Uint32Array<ArrayBuffer>} */
function colours(frame) {
  const ink = inks(), steps = [1, 2, 3, 4, 5, 6].map((step) => packed(ink[`heat-${step}`] ?? "#000"));
  const found = new Uint32Array(256);
  for (let value = 0; value <= TOP; value++) {
    if (frame.told.names.length) {
      const others = frame.told.names[value]?.id === "";
      found[value] = others ? mixed(packed(ink["surface"] ?? "#000"), packed(ink["text-3"] ?? "#888"), 0.45) : packed(ink[`series-${(value % 6) + 1}`] ?? "#000");
      continue;
    }
    const at = (value / TOP) * 5, step = Math.min(Math.floor(at), 4);
    found[value] = mixed(steps[step] ?? 0, steps[step + 1] ?? 0, at - step);
  }
  found[HIDDEN] = found[NOTHING] = packed(ink["text-3"] ?? "#888");
  return found;
}

/**
 * The picture of one dot a cell: a row of it is a node, blocks stand one below the other.
 * @param {HTMLCanvasElement} picture
 * @param {Layout} layout
 * @param {Frame} frame
 */
export function dots(picture, layout, frame) {
  const wide = Math.max(...layout.blocks.map((block) => block.wide), 1), nodes = Math.max(layout.starts.length - 1, 1);
  // A canvas may not be endlessly tall: nodes stand in columns of 8192.
  const tall = Math.min(nodes, 8192), columns = Math.ceil(nodes / 8192);
  [picture.width, picture.height] = [wide * columns, tall];
  const pen = picture.getContext("2d");
  if (!pen) return;
  const image = pen.createImageData(picture.width, picture.height), into = new Uint32Array(image.data.buffer);
  const ink = inks(), table = colours(frame);
  const [idle, reserved, draining, failed] = ["cell-idle", "cell-reserved", "cell-draining", "cell-failed"].map((name) => packed(ink[name] ?? "#000"));
  const away = packed(ink["text-3"] ?? "#888");
  for (let node = 0; node < nodes; node++) {
    const first = layout.starts[node] ?? 0, count = (layout.starts[node + 1] ?? 0) - first;
    const row = (node % 8192) * picture.width + Math.floor(node / 8192) * wide;
    for (let at = 0; at < count; at++) {
      const state = frame.states[first + at] ?? 0, value = frame.values[first + at] ?? NOTHING;
      into[row + at] = (state & FAILED ? failed : state & UNREACHABLE ? away : state & DRAINING && !(state & HELD) ? draining
        : state & HELD ? table[value] : state & RESERVED ? reserved : idle) ?? 0;
    }
  }
  pen.putImageData(image, 0, 0);
}

/**
 * Draw what is in view.
 * @param {CanvasRenderingContext2D} pen
 * @param {HTMLCanvasElement} picture
 * @param {Layout} layout
 * @param {Fleet} fleet
 * @param {Frame} frame
 * @param {View} view
 * @param {number} width
 * @param {number} height
 */
export function paint(pen, picture, layout, fleet, frame, view, width, height) {
  const ink = inks(), { zoom } = view, cw = layout.cw * zoom, ch = layout.ch * zoom;
  const seen = layout.blocks.filter((block) => {
    const x = (block.x - view.x) * zoom, y = (block.y - view.y) * zoom;
    return x < width && y < height && x + block.wide * cw > 0 && y + block.nodes * ch > 0;
  });
  const wide = Math.max(...layout.blocks.map((block) => block.wide), 1);
  pen.imageSmoothingEnabled = false;
  for (const block of seen) {
    const x = (block.x - view.x) * zoom, y = (block.y - view.y) * zoom;
    for (let from = block.first; from < block.first + block.nodes; ) {
      const count = Math.min(block.first + block.nodes - from, 8192 - (from % 8192));
      pen.drawImage(picture, Math.floor(from / 8192) * wide, from % 8192, block.wide, count, x, y + (from - block.first) * ch, block.wide * cw, count * ch);
      from += count;
    }
  }
  pen.fillStyle = ink["surface"] ?? "";
  if (Math.min(cw, ch) >= 3.5) grid(pen, seen, view, cw, ch);
  if (Math.min(cw, ch) >= 6) signs(pen, seen, layout, frame, view, cw, ch, width, height);
  names(pen, seen, layout, fleet, view, cw, ch, width);
}

/** Hairs of surface between the cells. @param {CanvasRenderingContext2D} pen @param {import("./heat_layout.js").Block[]} blocks @param {View} view @param {number} cw @param {number} ch */
function grid(pen, blocks, view, cw, ch) {
  const hair = Math.min(cw, ch) >= 10 ? 2 : 1;
  for (const block of blocks) {
    const x = (block.x - view.x) * view.zoom, y = (block.y - view.y) * view.zoom;
    for (let at = 1; at <= block.wide; at++) pen.fillRect(Math.round(x + at * cw) - hair, y, hair, block.nodes * ch);
    for (let at = 1; at <= block.nodes; at++) pen.fillRect(x, Math.round(y + at * ch) - hair, block.wide * cw, hair);
  }
}

/**
 * Idle cells are outlines; draining ones have a slash, failed ones a cross, so that nobody needs their colours.
 * @param {CanvasRenderingContext2D} pen @param {import("./heat_layout.js").Block[]} blocks @param {Layout} layout
 * @param {Frame} frame @param {View} view @param {number} cw @param {number} ch @param {number} width @param {number} height
 */
function signs(pen, blocks, layout, frame, view, cw, ch, width, height) {
  const ink = inks(), hair = Math.min(cw, ch) >= 10 ? 2 : 1, hollow = new Path2D(), slash = new Path2D(), cross = new Path2D();
  for (const block of blocks) {
    for (let node = block.first; node < block.first + block.nodes; node++) {
      const y = Math.round((block.y - view.y) * view.zoom + (node - block.first) * ch);
      if (y > height || y + ch < 0) continue;
      const first = layout.starts[node] ?? 0, count = (layout.starts[node + 1] ?? 0) - first;
      const bottom = Math.round((block.y - view.y) * view.zoom + (node + 1 - block.first) * ch) - hair;
      for (let at = 0; at < count; at++) {
        const state = frame.states[first + at] ?? 0;
        const x = Math.round((block.x - view.x) * view.zoom + at * cw), right = Math.round((block.x - view.x) * view.zoom + (at + 1) * cw) - hair;
        if (x > width || right < 0) continue;
        if (!state) hollow.rect(x + 1, y + 1, right - x - 2, bottom - y - 2);
        if (state & (DRAINING | FAILED | UNREACHABLE)) {
          const path = state & DRAINING && !(state & (FAILED | UNREACHABLE)) ? slash : cross, inset = Math.min(cw, ch) * 0.18;
          path.moveTo(x + inset, bottom - inset);
          path.lineTo(right - inset, y + inset);
          if (path === cross) {
            path.moveTo(x + inset, y + inset);
            path.lineTo(right - inset, bottom - inset);
          }
        }
      }
    }
  }
  pen.fillStyle = ink["surface"] ?? "";
  pen.fill(hollow);
  for (const [path, name] of /** @type {[Path2D, string][]} */ ([[slash, "cell-draining"], [cross, "text"]])) {
    pen.lineWidth = Math.max(Math.min(cw, ch) / 6, 1.5) + 2;
    pen.strokeStyle = ink["surface"] ?? "";
    pen.stroke(path);
    pen.lineWidth -= 2;
    pen.strokeStyle = ink[name] ?? "";
    pen.stroke(path);
  }
}

/**
 * Sites, racks and, where cells are large, nodes by name.
 * @param {CanvasRenderingContext2D} pen @param {import("./heat_layout.js").Block[]} blocks @param {Layout} layout
 * @param {Fleet} fleet @param {View} view @param {number} cw @param {number} ch @param {number} width
 */
function names(pen, blocks, layout, fleet, view, cw, ch, width) {
  const ink = inks();
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  for (const head of layout.heads) {
    const one = fleet.sites[head.site], top = (head.y - view.y) * view.zoom + 11, left = (head.x - view.x) * view.zoom;
    if (!one || top < -20) continue;
    pen.font = `550 13px ${ink["font"]}`;
    pen.fillStyle = ink["text"] ?? "";
    const name = cut(pen, one.name, width / 2), after = pen.measureText(name).width + 10;
    pen.fillText(name, left, top);
    const count = one.racks.reduce((sum, rack) => sum + rack.nodes, 0);
    pen.font = `12px ${ink["font"]}`;
    pen.fillStyle = ink["text-3"] ?? "";
    pen.fillText(cut(pen, `${one.region && one.region !== one.name ? `${one.region} · ` : ""}${count.toLocaleString("en-US")} node${count === 1 ? "" : "s"}`, width - after), left + after, top);
  }
  pen.font = `11px ${ink["font"]}`;
  pen.fillStyle = ink["text-3"] ?? "";
  for (const block of blocks) {
    const x = (block.x - view.x) * view.zoom, y = (block.y - view.y) * view.zoom;
    if (block.name && block.wide * cw > 30 && (layout.label || layout.gap) * view.zoom >= 14) pen.fillText(cut(pen, block.name, block.wide * cw), x, y - 8);
    if (ch < 44 || cw * block.wide < 60) continue;
    for (let node = 0; node < block.nodes; node++) {
      const name = cut(pen, fleet.node_names[block.first + node] ?? "", block.wide * cw - 8);
      pen.lineWidth = 3;
      pen.strokeStyle = ink["surface"] ?? "";
      pen.strokeText(name, x + 4, y + (node + 1) * ch - 12);
      pen.fillStyle = ink["text"] ?? "";
      pen.fillText(name, x + 4, y + (node + 1) * ch - 12);
    }
  }
}
