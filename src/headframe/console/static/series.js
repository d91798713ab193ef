// Series of the API as charts want them: by name, in the units of people, on one time axis.

/** @typedef {{subject: string, name: string, part: string, reported: boolean, at_us: number[], mean: (number | null)[], low: (number | null)[], high: (number | null)[], step: (number | null)[] | null}} Series */
/** @typedef {{key: string, title: string, unit: string, max?: number, reported: boolean, now: string, by: number, series: Series[]}} Group */

const MANY = 6; // lines that a chart shows; of more the mean and the extremes are
/** Title, divisor, unit of the chart, unit behind the figure, and the end of the axis, where it is fixed.
 * @type {Record<string, [string, number, string, string, number?]>} */
const KNOWN = {
  gpu_busy_milli: ["GPU use", 10, "percent", "%", 100],
  gpu_memory_mib: ["GPU memory", 1024, "gib", "GiB"],
  power_mw: ["Power", 1000, "watt", "W"],
  temperature_c: ["Temperature", 1, "celsius", "°C"],
  cpu_milli: ["CPU", 1000, "cores", "cores"],
  memory_mib: ["Memory", 1024, "gib", "GiB"],
  disk_mib: ["Disk", 1024, "gib", "GiB"],
  memory_errors: ["Memory errors", 1, "count", ""],
};
const ORDER = Object.keys(KNOWN);

/** Series of one name as one chart. @param {Series[]} items @returns {Group[]} */
export function collect(items) {
  /** @type {Map<string, Group>} */
  const groups = new Map();
  for (const one of items) {
    const key = `${one.reported ? "r" : "m"} ${one.name}`;
    const [title, by, unit, , max] = (!one.reported && KNOWN[one.name]) || [one.name, 1, "", ""];
    const group = groups.get(key) ?? { key, title, unit, max, reported: one.reported, now: "", by, series: [] };
    group.series.push(one);
    groups.set(key, group);
  }
  const found = [...groups.values()];
  for (const group of found) {
    // Less than half a GiB is told in MiB.
    const most = Math.max(...group.series.flatMap((one) => one.high.map((value) => value ?? 0)));
    if (group.unit === "gib" && most < 512) Object.assign(group, { unit: "mib", by: 1 });
  }
  for (const group of found) group.now = newest(group);
  return found.sort((one, other) => Number(other.reported) - Number(one.reported) || place(one) - place(other));
}

/** @param {Group} group */
const place = (group) => (group.reported ? 0 : (ORDER.indexOf(group.key.slice(2)) + 1 || 99));

/** What it is now, in words. @param {Group} group */
function newest(group) {
  const last = group.series.map((one) => one.mean.at(-1)).filter((value) => typeof value === "number");
  if (!last.length) return "not a number";
  const mean = last.reduce((sum, value) => sum + value, 0) / last.length / group.by;
  const unit = group.unit === "mib" ? "MiB" : (!group.reported && KNOWN[group.key.slice(2)]?.[3]) || "";
  const step = group.reported ? group.series[0]?.step?.at(-1) : null;
  const size = Math.abs(mean);
  const figure = size && (size < 1e-4 || size >= 1e12)
    ? mean.toExponential(3) : Number(mean.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  return `${figure}${unit ? ` ${unit}` : ""}${typeof step === "number" ? ` at step ${step.toLocaleString("en")}` : ""}`;
}

/** What tells a series from the others of its chart. @param {Series} one @param {boolean} reported */
function nameOf(one, reported) {
  if (one.part.startsWith("acc_")) return `GPU ${one.part.slice(one.part.lastIndexOf("_") + 1)}`;
  if (reported) return one.part ? `rank or run ${one.part}` : one.name;
  return one.part ? `rank ${one.part}` : "all";
}

/** All series of a group at the same moments: those of the longest; what was not measured then is a gap.
 * @param {Group} group @returns {{x: number[], series: {name: string, y: (number | null)[]}[]}} */
export function align(group) {
  const longest = group.series.reduce((one, other) => (other.at_us.length > one.at_us.length ? other : one));
  const ends = group.series.map((one) => one.at_us.at(-1) ?? 0);
  const base = longest.at_us.concat(Math.max(...ends) > (longest.at_us.at(-1) ?? 0) ? [Math.max(...ends)] : []);
  const step = base.length > 1 ? ((base.at(-1) ?? 0) - (base[0] ?? 0)) / (base.length - 1) : 1;
  const lines = group.series.map((one) => ({ name: nameOf(one, group.reported), y: at(one.at_us, one.mean, base, step * 1.5, group.by) }));
  return { x: base.map((us) => us / 1000), series: few(lines) };
}

/** Lines of one length, or of many their mean and extremes. @param {{name: string, y: (number | null)[]}[]} lines */
export function few(lines) {
  if (lines.length <= MANY) return lines;
  const across = (/** @type {(values: number[]) => number} */ fold) =>
    (lines[0]?.y ?? []).map((_, place) => {
      const values = lines.map((line) => line.y[place]).filter((value) => typeof value === "number");
      return values.length ? fold(/** @type {number[]} */ (values)) : null;
    });
  return [
    { name: `mean of ${lines.length}`, y: across((values) => values.reduce((sum, value) => sum + value, 0) / values.length) },
    { name: "highest", y: across((values) => Math.max(...values)) },
    { name: "lowest", y: across((values) => Math.min(...values)) },
  ];
}

/** The value nearest to each moment, as far as one is near. @param {number[]} own @param {(number | null)[]} values @param {number[]} base @param {number} near @param {number} by */
function at(own, values, base, near, by) {
  let next = 0;
  return base.map((moment) => {
    while (next + 1 < own.length && Math.abs((own[next + 1] ?? 0) - moment) <= Math.abs((own[next] ?? 0) - moment)) next += 1;
    const value = values[next];
    return typeof value === "number" && Math.abs((own[next] ?? 0) - moment) <= near ? value / by : null;
  });
}
