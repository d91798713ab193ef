// Scales, ticks and how values are written: pure functions of numbers.

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const STEPS = [
  SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY,
];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const UNITS = /** @type {Record<string, [string, string]>} */ ({
  percent: [" %", "%"], gib: [" GiB", "GiB"], mib: [" MiB", "MiB"], watt: [" W", "W"], celsius: [" °C", "°C"],
  gpu: [" GPUs", "GPUs"], hours: [" h", "h"], count: ["", ""],
});

/**
 * Round values from `low` to `high` or beyond, about `count` of them.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.999) ?? 10);
  const found = [];
  for (let at = Math.floor(low / step + 1e-9); at * step < high - step * 1e-9; at++) found.push(at * step);
  found.push((found.length ? Math.round((found[found.length - 1] ?? 0) / step) + 1 : 1) * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

/**
 * Round moments inside [from, to] (milliseconds since 1970), about `count` of them, in the zone of the page.
 * @param {number} from
 * @param {number} to
 * @param {number} count
 * @returns {{step: number, at: number[]}}
 */
export function timeTicks(from, to, count) {
  const rough = (to - from) / Math.max(count, 1);
  const step = STEPS.find((each) => each >= rough) ?? 364 * DAY;
  const shift = isUtc() ? 0 : new Date(from).getTimezoneOffset() * MINUTE;
  const at = [];
  for (let each = Math.ceil((from - shift) / step) * step + shift; each <= to; each += step) at.push(each);
  return { step, at };
}

/** Whether the page shows UTC (its zone switch) or the reader's own zone. */
export function isUtc() {
  return document.documentElement.dataset["zone"] === "utc";
}

/** @param {number} ms */
function parts(ms) {
  const date = new Date(ms);
  const zoned = isUtc() ? date : new Date(ms - date.getTimezoneOffset() * MINUTE);
  const [day, time] = /** @type {[string, string]} */ (zoned.toISOString().split("T"));
  return { day, month: MONTHS[zoned.getUTCMonth()] ?? "", date: zoned.getUTCDate(), time: time.slice(0, 8) };
}

/**
 * A moment under an axis whose ticks are `step` apart: `14:05`, `14:05:10`, `22 Nov`.
 * @param {number} ms
 * @param {number} step
 */
export function tickText(ms, step) {
  const { month, date, time } = parts(ms);
  if (step >= DAY || time === "00:00:00") return `${date} ${month}`;
  return step < MINUTE ? time : time.slice(0, 5);
}

/**
 * A moment in full, as exact as the span that is shown asks for.
 * @param {number} ms
 * @param {number} span
 */
export function momentText(ms, span) {
  const { day, month, date, time } = parts(ms);
  if (span >= 20 * DAY && time === "00:00:00") return day;
  if (span >= DAY) return `${date} ${month} ${time.slice(0, 5)}`;
  return span < 2 * HOUR ? time : time.slice(0, 5);
}

/**
 * A value with its unit: `83 %`, `1.2 GiB`, `$1.2k` when `short`, `USD 1,234.50` else.
 * @param {number} value
 * @param {string} unit
 * @param {boolean} [short] on an axis, where the unit may be left out
 */
export function valueText(value, unit, short = false) {
  if (!Number.isFinite(value)) return "no value";
  if (/^[a-z]{3}$/i.test(unit) && !UNITS[unit]) return moneyText(value, unit.toUpperCase(), short);
  const known = UNITS[unit.toLowerCase()];
  const suffix = known ? known[0] : unit && ` ${unit}`;
  return numberText(value, short) + (short && unit.toLowerCase() !== "percent" ? "" : suffix);
}

/** The unit in short, as it stands above the axis or in the head of a table. @param {string} unit */
export function unitText(unit) {
  if (/^[a-z]{3}$/i.test(unit) && !UNITS[unit]) return unit.toUpperCase();
  return UNITS[unit.toLowerCase()]?.[1] ?? unit;
}

/** @param {number} value @param {boolean} short */
function numberText(value, short) {
  const size = Math.abs(value);
  if (short && size >= 1e9) return `${trim(value / 1e9)}G`;
  if (short && size >= 1e6) return `${trim(value / 1e6)}M`;
  if (short && size >= 1e4) return `${trim(value / 1e3)}k`;
  if (size && size < 0.001) return value.toExponential(1);
  return value.toLocaleString("en-US", size < 1 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: size >= 100 ? 0 : 1 });
}

/** @param {number} value */
function trim(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.abs(value) >= 100 ? 0 : 1 });
}

const SIGNS = /** @type {Record<string, string>} */ ({ USD: "$", EUR: "€", GBP: "£", CNY: "¥", JPY: "¥" });

/** @param {number} value @param {string} currency @param {boolean} short */
function moneyText(value, currency, short) {
  const sign = SIGNS[currency] ?? `${currency} `;
  const minus = value < 0 ? "-" : "";
  const size = Math.abs(value);
  if (short) return minus + sign + (size >= 1e4 ? numberText(size, true) : size.toLocaleString("en-US", {
    maximumFractionDigits: size >= 100 ? 0 : 2, minimumFractionDigits: 0,
  }));
  return `${minus}${sign}${size.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}
