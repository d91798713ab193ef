// Where each cell of the map stands: sites one below the other, racks side by side, a node a row, a GPU a cell.

/** @typedef {{name: string, first: number, nodes: number}} Rack */
/** @typedef {{id: string, name: string, region: string, racks: Rack[]}} Site */
/** @typedef {{id: string, sites: Site[], node_ids: string[], node_names: string[], kinds: string[], cells: number[]}} Fleet */
/**
 * One block of cells: a rack, or a part of one that is very tall.
 * @typedef {object} Block
 * @property {string} name
 * @property {number} site
 * @property {number} first node
 * @property {number} nodes
 * @property {number} cell the first one
 * @property {number} wide cells side by side
 * @property {number} x
 * @property {number} y
 */
/** @typedef {{blocks: Block[], heads: {site: number, x: number, y: number}[], cw: number, ch: number, width: number, height: number, label: number, gap: number, starts: Int32Array<ArrayBuffer>}} Layout `label` is the room above a block for its name */
/** @typedef {{block: Block, node: number, cell: number, index: number}} Hit `index` counts within the node */

const TALL = 32; // nodes of a block: one that is taller is parted
const HEAD = 26, MOST = 34, LEAST = 1.6;

/**
 * Blocks of a fleet, in order, without their places.
 * @param {Fleet} fleet
 * @returns {{blocks: Block[], starts: Int32Array<ArrayBuffer>}}
 */
export function blocksOf(fleet) {
  const starts = new Int32Array(fleet.cells.length + 1);
  fleet.cells.forEach((count, at) => (starts[at + 1] = (starts[at] ?? 0) + count));
  /** @type {Block[]} */
  const blocks = [];
  fleet.sites.forEach((site, number) => {
    for (const rack of site.racks) {
      const parts = Math.max(Math.ceil(rack.nodes / TALL), 1), tall = Math.ceil(rack.nodes / parts);
      for (let from = 0; from < rack.nodes; from += tall) {
        const first = rack.first + from, nodes = Math.min(tall, rack.nodes - from);
        let wide = 1;
        for (let node = first; node < first + nodes; node++) wide = Math.max(wide, fleet.cells[node] ?? 1);
        blocks.push({ name: rack.name, site: number, first, nodes, cell: starts[first] ?? 0, wide, x: 0, y: 0 });
      }
    }
  });
  return { blocks, starts };
}

/**
 * Sites side by side where they fit, racks within them, from the left to the right and on below, for cells of one size.
 * @param {Fleet} fleet
 * @param {Block[][]} own blocks by site
 * @param {number} width
 * @param {{cw: number, ch: number, gap: number, label: number, head: number}} size
 * @param {((block: Block | null, site: number, x: number, y: number) => void)} [put]
 * @returns {number} the height
 */
function flow(fleet, own, width, { cw, ch, gap, label, head }, put) {
  let left = 0, top = 0, high = 0;
  own.forEach((blocks, site) => {
    const line = blocks.reduce((sum, block) => sum + block.wide * cw + gap, -gap);
    const wide = Math.max(line, head ? 90 + 8 * (fleet.sites[site]?.name.length ?? 0) : 0);
    if (left && left + wide > width) [left, top, high] = [0, top + high + 2 * gap, 0];
    put?.(null, site, left, top);
    let x = left, y = top + head, row = 0;
    for (const block of blocks) {
      if (x > left && x + block.wide * cw > width + 0.5) [x, y, row] = [left, y + row + gap, 0];
      put?.(block, site, x, y + label);
      x += block.wide * cw + gap;
      row = Math.max(row, label + block.nodes * ch);
    }
    high = Math.max(high, y + row - top);
    left += Math.max(Math.min(wide, width), x - left - gap) + 3 * gap;
  });
  return top + high;
}

/**
 * Give each block its place, with the largest cells with which all fits into the height; what does not fit with the
 * least ones goes on below. Cells may be oblong, so that racks fill the width.
 * @param {Fleet} fleet
 * @param {{blocks: Block[], starts: Int32Array<ArrayBuffer>}} parts
 * @param {number} width
 * @param {number} height
 * @returns {Layout}
 */
export function layOut(fleet, { blocks, starts }, width, height) {
  const own = fleet.sites.map((_, site) => blocks.filter((block) => block.site === site));
  const wide = Math.max(...blocks.map((block) => block.wide), 1), named = blocks.some((block) => block.name);
  const head = fleet.sites.some((site) => site.name) ? HEAD : 0;
  const sized = (/** @type {number} */ cw, /** @type {number} */ ch) => ({
    cw, ch, head, gap: blocks.length > 300 ? 2 : blocks.length > 60 ? 5 : 12, label: named && cw * wide >= 36 && ch >= 5 ? 16 : 0,
  });
  let best = sized(LEAST, LEAST);
  for (const shape of [0.7, 0.85, 1, 1.2, 1.45, 1.75, 2.1, 2.5]) {
    let [low, high] = [LEAST, MOST];
    for (let step = 0; step < 12; step++) {
      const ch = (low + high) / 2, size = sized(Math.max(ch * shape, LEAST), ch);
      if (size.cw * wide <= width && flow(fleet, own, width, size) <= height) low = ch;
      else high = ch;
    }
    if (low > LEAST && low * low * Math.min(shape, 2) ** 0.8 > best.ch * best.ch * Math.min(best.cw / best.ch, 2) ** 0.8) best = sized(low * shape, low);
  }
  /** @type {{site: number, x: number, y: number}[]} */
  const heads = [];
  const tall = flow(fleet, own, width, best, (block, site, x, y) => {
    if (block) [block.x, block.y] = [x, y];
    else if (head) heads.push({ site, x, y });
  });
  const right = Math.max(...blocks.map((block) => block.x + block.wide * best.cw), width);
  return { blocks, heads, cw: best.cw, ch: best.ch, width: right, height: Math.max(tall, 1), label: best.label, gap: best.gap, starts };
}

/**
 * The cell at a place of the map, if any.
 * @param {Layout} layout
 * @param {number} x
 * @param {number} y
 * @returns {Hit | null}
 */
export function hit(layout, x, y) {
  for (const block of layout.blocks) {
    if (x < block.x || y < block.y || x >= block.x + block.wide * layout.cw || y >= block.y + block.nodes * layout.ch) continue;
    const node = block.first + Math.floor((y - block.y) / layout.ch), index = Math.floor((x - block.x) / layout.cw);
    const first = layout.starts[node] ?? 0;
    return first + index < (layout.starts[node + 1] ?? 0) ? { block, node, index, cell: first + index } : null;
  }
  return null;
}

/** The block whose name stands at a place of the map, if any. @param {Layout} layout @param {number} x @param {number} y */
export function named(layout, x, y) {
  const inside = (/** @type {Block} */ one) => x >= one.x && x < one.x + one.wide * layout.cw && y >= one.y - layout.label && y < one.y;
  return (layout.label && layout.blocks.find((one) => one.name && inside(one))) || null;
}

/** The node of a cell. @param {Layout} layout @param {number} cell */
export function nodeOf(layout, cell) {
  let low = 0, high = layout.starts.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((layout.starts[middle] ?? 0) <= cell) low = middle;
    else high = middle;
  }
  return low;
}

/** Where a cell is. @param {Layout} layout @param {number} cell @returns {(Hit & {x: number, y: number}) | null} */
export function place(layout, cell) {
  const node = nodeOf(layout, cell), index = cell - (layout.starts[node] ?? 0);
  let low = 0, high = layout.blocks.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((layout.blocks[middle]?.first ?? 0) <= node) low = middle;
    else high = middle - 1;
  }
  const block = layout.blocks[low];
  if (!block || cell < 0) return null;
  return { block, node, cell, index, x: block.x + index * layout.cw, y: block.y + (node - block.first) * layout.ch };
}

/**
 * The nearest cell in a direction, over gaps and from rack to rack; the same cell at the edge.
 * @param {Layout} layout
 * @param {number} cell
 * @param {number} dx -1, 0 or 1
 * @param {number} dy
 */
export function beside(layout, cell, dx, dy) {
  const from = place(layout, cell);
  if (!from) return cell;
  const reach = Math.max(layout.width, layout.height) + layout.cw;
  const stride = dx ? layout.cw / 2 : layout.ch / 2;
  for (let way = stride; way < reach; way += stride) {
    const x = from.x + layout.cw / 2 + dx * way, y = from.y + layout.ch / 2 + dy * way;
    const found = hit(layout, x, y) ?? (dy ? hit(layout, Math.max(lastIn(layout, y, x), 0), y) : null);
    if (found && found.cell !== cell) return found.cell;
  }
  return cell;
}

/** The last x in the row of blocks at y that has a cell, for rows that are shorter. @param {Layout} layout @param {number} y @param {number} x */
function lastIn(layout, y, x) {
  let last = -1;
  for (const block of layout.blocks) {
    if (y < block.y || y >= block.y + block.nodes * layout.ch || block.x > x) continue;
    const node = block.first + Math.floor((y - block.y) / layout.ch);
    const count = (layout.starts[node + 1] ?? 0) - (layout.starts[node] ?? 0);
    last = Math.max(last, block.x + (count - 0.5) * layout.cw);
  }
  return last;
}
