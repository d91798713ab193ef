// Columns of numbers: how they grow, where a moment lies in them, and what of them a pixel shows.

/** @typedef {Float64Array<ArrayBuffer>} Numbers */

/**
 * A typed column of what a page was given; null and absent values are gaps (NaN).
 * @param {ArrayLike<number | null>} values
 * @returns {Numbers}
 */
export function column(values) {
  const found = new Float64Array(values.length);
  for (let at = 0; at < values.length; at++) found[at] = values[at] ?? NaN;
  return found;
}

/**
 * The column with one value more; the oldest go when there are more than `keep`.
 * @param {Numbers} values
 * @param {number} value
 * @param {number} keep
 * @returns {Numbers}
 */
export function grown(values, value, keep) {
  const from = Math.max(values.length + 1 - keep, 0);
  const found = new Float64Array(values.length + 1 - from);
  found.set(values.subarray(from));
  found[found.length - 1] = value;
  return found;
}

/**
 * The first place in an ascending column whose value is not less than `wanted`.
 * @param {Numbers} values
 * @param {number} wanted
 */
export function lowerBound(values, wanted) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {number} */ (values[middle]) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The place of the value nearest to `wanted`, or -1 in an empty column.
 * @param {Numbers} values
 * @param {number} wanted
 */
export function nearest(values, wanted) {
  const after = lowerBound(values, wanted);
  if (after === 0) return values.length ? 0 : -1;
  if (after === values.length) return after - 1;
  const [before, behind] = [/** @type {number} */ (values[after - 1]), /** @type {number} */ (values[after])];
  return wanted - before <= behind - wanted ? after - 1 : after;
}

/**
 * How far apart two samples may be and still be joined: three times the median step, unless the page says.
 * @param {Numbers} x
 */
export function usualGap(x) {
  if (x.length < 3) return Infinity;
  const steps = new Float64Array(Math.min(x.length - 1, 500));
  const stride = (x.length - 1) / steps.length;
  for (let at = 0; at < steps.length; at++) {
    const place = Math.floor(at * stride);
    steps[at] = /** @type {number} */ (x[place + 1]) - /** @type {number} */ (x[place]);
  }
  steps.sort();
  return 3 * /** @type {number} */ (steps[steps.length >> 1]);
}

/**
 * What of a series is drawn: at most four points for each pixel column (first, least, greatest, last), so that no peak
 * is lost however many samples there are. A gap becomes a NaN between two points.
 * @param {Numbers} x
 * @param {Numbers} y
 * @param {number} from
 * @param {number} to
 * @param {number} pixels how many columns [from, to] covers
 * @param {number} gap
 * @returns {{x: number[], y: number[]}}
 */
export function drawn(x, y, from, to, pixels, gap) {
  const begin = Math.max(lowerBound(x, from) - 1, 0);
  const end = Math.min(lowerBound(x, to) + 1, x.length);
  const found = { x: /** @type {number[]} */ ([]), y: /** @type {number[]} */ ([]) };
  const wide = (to - from) / Math.max(pixels, 1);
  const whole = end - begin <= 4 * pixels;
  let at = begin;
  while (at < end) {
    const pixel = Math.floor((/** @type {number} */ (x[at]) - from) / wide);
    let least = at, most = at, last = at;
    while (!whole && last + 1 < end && Math.floor((/** @type {number} */ (x[last + 1]) - from) / wide) === pixel) {
      last++;
      const value = /** @type {number} */ (y[last]);
      if (!(value >= /** @type {number} */ (y[least]))) least = value === value ? last : least;
      if (!(value <= /** @type {number} */ (y[most]))) most = value === value ? last : most;
    }
    const places = whole ? [at] : [...new Set([at, ...(least < most ? [least, most] : [most, least]), last])];
    const apart = /** @type {number} */ (x[at]) - (x[at - 1] ?? NaN);
    if (apart > gap && at > begin) push(found, /** @type {number} */ (x[at]) - apart / 2, NaN);
    for (const place of places) push(found, /** @type {number} */ (x[place]), /** @type {number} */ (y[place]));
    at = last + 1;
  }
  return found;
}

/** @param {{x: number[], y: number[]}} found @param {number} x @param {number} y */
function push(found, x, y) {
  found.x.push(x);
  found.y.push(y);
}

/**
 * The least and greatest value inside [from, to]; NaN where there is none.
 * @param {Numbers} x
 * @param {Numbers} y
 * @param {number} from
 * @param {number} to
 * @returns {[number, number]}
 */
export function extent(x, y, from, to) {
  let least = Infinity, most = -Infinity;
  for (let at = lowerBound(x, from); at < x.length && /** @type {number} */ (x[at]) <= to; at++) {
    const value = /** @type {number} */ (y[at]);
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least === Infinity ? NaN : least, most === -Infinity ? NaN : most];
}
