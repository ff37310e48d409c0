// What a sample holds: its leaves by path, which of them are numbers, in what unit, and how to write them.

const DEPTH = 8;
const LEAVES = 250;
const SHORT_ARRAY = 8;

// By the end of a path, best guess first. ROS messages are in SI units; the rest is habit.
const UNITS = [
  [/(^|\.)(battery|cpu|memory|mem|disk|soc|humidity|battery_percent|battery_level|.*_percent)$/, "%"],
  [/(^|\.)(voltage|cell_voltage\.\d+|.*_voltage)$/, "V"],
  [/(^|\.)(current|.*_current)$/, "A"],
  [/(^|\.)(charge|capacity|design_capacity)$/, "Ah"],
  [/(^|\.)(temperature(\.\d+)?|.*_temperature|celsius)$/, "°C"],
  [/(^|\.)linear_acceleration\.[xyz]$/, "m/s²"],
  [/(^|\.)angular_velocity\.[xyz]$/, "rad/s"],
  [/(^|\.)angular\.[xyz]$/, "rad/s"],
  [/(^|\.)(linear\.[xyz]|speed|linear_speed)$/, "m/s"],
  [/(^|\.)position\.[xyz]$/, "m"],
  [/(^|\.)(theta|yaw|pitch|roll|heading)$/, "rad"],
  [/(^|\.)(uptime|.*_s)$/, "s"],
  [/(^|\.).*_ms$/, "ms"],
  [/(^|\.)(latitude|longitude)$/, "°"],
  [/(^|\.)(altitude|range|distance|odometer)$/, "m"],
];

const JOINT_UNITS = { position: "rad", velocity: "rad/s", effort: "N·m" };

/** [{key, label, value, kind}]: `key` is the dotted path that series take; `kind` number, text or list. */
export function leavesOf(payload) {
  const found = [];
  const names = jointNames(payload);
  walk(payload, [], 0);
  return found;

  function walk(value, path, depth) {
    if (found.length >= LEAVES) return;
    if (Array.isArray(value)) walkArray(value, path, depth);
    else if (value !== null && typeof value === "object") {
      if (depth >= DEPTH) return;
      for (const [name, inner] of Object.entries(value)) {
        if (name === "header" && inner?.stamp) continue;
        walk(inner, [...path, name], depth + 1);
      }
    } else if (path.length) add(path, value);
  }

  function walkArray(items, path, depth) {
    if (!items.length) return;
    const short = items.length <= SHORT_ARRAY || (names && items.length === names.length);
    if (short && depth < DEPTH) items.forEach((item, at) => walk(item, [...path, String(at)], depth + 1));
    else found.push({ key: path.join("."), label: labelOf(path), value: `${items.length} values`, kind: "list" });
  }

  function add(path, value) {
    const kind = typeof value === "number" ? "number" : "text";
    // A path with a dot inside a name cannot be told from a longer one.
    const plain = path.every((name) => !name.includes("."));
    const joint = names && path.length === 2 && path[0] in JOINT_UNITS;
    if (names && path[0] === "name") return;
    found.push({
      key: path.join("."),
      label: names && path.length === 2 && names[path[1]] ? [path[0], names[path[1]]] : labelOf(path),
      value,
      kind,
      chartable: kind === "number" && plain,
      unit: kind !== "number" ? "" : joint ? JOINT_UNITS[path[0]] : unitOf(path.join(".")),
    });
  }
}

function jointNames(payload) {
  const names = payload?.name;
  const fits = Array.isArray(names) && names.every((name) => typeof name === "string");
  return fits && Array.isArray(payload.position) ? names : null;
}

/** `pose.pose.position.x` is read as pose.position.x. */
function labelOf(path) {
  return path.filter((name, at) => name !== path[at - 1]);
}

export function unitOf(key) {
  return UNITS.find(([pattern]) => pattern.test(key))?.[1] ?? "";
}

export function valueAt(payload, key) {
  let value = payload;
  for (const name of key.split(".")) {
    if (value === null || typeof value !== "object") return undefined;
    value = value[name];
  }
  return value;
}

/** Writes the numbers of one field: as many decimals as the largest of them needs, so that they stand still. */
export class NumberFormat {
  #whole = true;
  #largest = 0;

  constructor(unit = "") {
    this.unit = unit;
  }

  text(value) {
    if (typeof value !== "number") return String(value ?? "–");
    this.#whole &&= Number.isInteger(value);
    this.#largest = Math.max(this.#largest, Math.abs(value));
    if (this.unit === "s" && this.#largest > 600) return duration(value);
    if (this.#whole) return this.#largest < 1e15 ? String(value) : value.toExponential(3);
    if (this.#largest >= 1e9 || (this.#largest < 1e-3 && this.#largest > 0)) return value.toExponential(2);
    const text = value.toFixed(this.#decimals());
    return Number(text) === 0 ? text.replace("-", "") : text;
  }

  #decimals() {
    if (this.unit === "%") return 1;
    if (this.#largest >= 1000) return 1;
    return this.#largest >= 10 ? 2 : 3;
  }

  /** The unit beside the number; a duration brings its own. */
  get suffix() {
    return this.unit === "s" && this.#largest > 600 ? "" : this.unit;
  }
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min ${Math.floor(seconds % 60)} s`;
}

// What people look at first, for sparklines and the charts that a page begins with.
const INTEREST = [
  /(^|\.)(speed|linear\.x)$/,
  /(^|\.)(battery|battery_percent|battery_level|percentage|soc)$/,
  /(^|\.)cpu$/,
  /(^|\.)(temperature(\.0)?|celsius)$/,
  /(^|\.)voltage$/,
  /(^|\.)position\.x$/,
  /(^|\.)(velocity|value|data)(\.0)?$/,
];

export function interestOf(key) {
  const at = INTEREST.findIndex((pattern) => pattern.test(key));
  return at < 0 ? INTEREST.length : at;
}

/** The number that stands for a sample. */
export function primaryOf(leaves) {
  const numbers = leaves.filter((leaf) => leaf.chartable);
  return numbers.sort((a, b) => interestOf(a.key) - interestOf(b.key))[0];
}
