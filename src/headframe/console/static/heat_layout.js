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
/** @typedef {{blocks: Block[], heads: {site: number, y: number}[], cw: number, ch: number, width: number, height: number, label: number, starts: Int32Array<ArrayBuffer>}} Layout */
/** @typedef {{block: Block, node: number, cell: number, index: number}} Hit `index` counts within the node */

const TALL = 32; // nodes of a block: one that is taller is parted
const HEAD = 26, MOST = 30, LEAST = 3;

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
 * Give each block its place: as many side by side as make the largest cells. Cells may be oblong, so that racks fill
 * the width; what does not fit the height goes on below.
 * @param {Fleet} fleet
 * @param {{blocks: Block[], starts: Int32Array<ArrayBuffer>}} parts
 * @param {number} width
 * @param {number} height
 * @returns {Layout}
 */
export function layOut(fleet, { blocks, starts }, width, height) {
  const wide = Math.max(...blocks.map((block) => block.wide), 1);
  const tall = Math.max(...blocks.map((block) => block.nodes), 1);
  const named = blocks.some((block) => block.name);
  const counts = fleet.sites.map((_, site) => blocks.filter((block) => block.site === site).length);
  const heads = fleet.sites.length > 1 || Boolean(fleet.sites[0]?.name) ? HEAD : 0;
  const many = blocks.length > 60;
  const gap = many ? 4 : 12, most = Math.max(...counts, 1);
  let best = { score: -1, each: 1, cw: LEAST, ch: LEAST, label: 0 };
  for (let each = 1; each <= most; each++) {
    let cw = Math.min((width - (each - 1) * gap) / (each * wide), MOST * 2.2);
    const label = named && cw * wide >= 36 ? 16 : 0;
    const rows = counts.reduce((sum, count) => sum + Math.ceil(count / each), 0);
    let ch = Math.min((height - heads * counts.length - rows * (gap + label)) / (rows * tall), MOST);
    cw = Math.min(cw, ch * 2.5);
    ch = Math.min(ch, cw * 1.6);
    const score = Math.min(cw, ch * 1.5) * ch;
    if (cw > 0 && ch > 0 && score > best.score) best = { score, each, cw, ch, label };
  }
  const cw = Math.max(best.cw, LEAST), ch = Math.max(best.ch, LEAST);
  const each = Math.max(Math.min(best.each, Math.floor((width + gap) / (cw * wide + gap))), 1);
  /** @type {{site: number, y: number}[]} */
  const titles = [];
  let y = 0;
  fleet.sites.forEach((_, site) => {
    titles.push({ site, y });
    y += heads;
    const own = blocks.filter((block) => block.site === site);
    own.forEach((block, place) => {
      block.x = (place % each) * (cw * wide + gap);
      block.y = y + Math.floor(place / each) * (ch * tall + gap + best.label) + best.label;
    });
    y += Math.ceil(own.length / each) * (ch * tall + gap + best.label);
  });
  return { blocks, heads: heads ? titles : [], cw, ch, width, height: Math.max(y - gap, 1), label: best.label, starts };
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
