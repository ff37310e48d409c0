// One card per stream, made from what the robot publishes: a table of its leaves and a line of its main number.
import { serverNow, setAge } from "../age.js";
import { el, getJson, setText, svg } from "./dom.js";
import { leavesOf, NumberFormat, primaryOf, valueAt } from "./fields.js";

const ROWS = 9;
const SPARK_MS = 5 * 60_000;
const SPARK_POINTS = 150;
const STALE_MS = 60_000;
// Heartbeats come every few seconds; over a longer silence no line is drawn.
const GAP_MS = 20_000;

export class Cards {
  #cards = new Map();

  constructor({ box, note, deviceId, onField }) {
    Object.assign(this, { box, note, deviceId, onField });
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.#seen(entry)), { rootMargin: "300px" });
    setInterval(() => this.#markStale(), 5000);
  }

  update(stream, sample) {
    let card = this.#cards.get(stream);
    if (!card) {
      card = new Card(stream, this.deviceId, this.onField);
      this.#insert(card);
    }
    card.update(sample);
  }

  showCharted(charted) {
    for (const card of this.#cards.values()) card.showCharted(charted);
  }

  #insert(card) {
    this.#cards.set(card.stream, card);
    const names = [...this.#cards.keys()].sort();
    const after = this.#cards.get(names[names.indexOf(card.stream) + 1]);
    this.box.insertBefore(card.element, after?.element ?? null);
    this.seen.observe(card.element);
    setText(this.note, `${names.length} stream${names.length === 1 ? "" : "s"}`);
  }

  #seen(entry) {
    if (!entry.isIntersecting) return;
    this.seen.unobserve(entry.target);
    for (const card of this.#cards.values()) if (card.element === entry.target) card.loadSpark();
  }

  #markStale() {
    for (const card of this.#cards.values()) card.markStale();
  }
}

class Card {
  #rows = new Map();
  #points = [];
  #open = false;
  #shape = "";
  #charted = new Set();

  constructor(stream, deviceId, onField) {
    Object.assign(this, { stream, deviceId, onField, time: "" });
    this.age = el("time", { class: "age" });
    this.line = svg("path");
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.line);
    this.rows = el("div", { class: "rows" });
    this.more = el("button", { type: "button", class: "link more", onclick: () => this.#toggle() });
    this.element = el(
      "article",
      { class: "card", "aria-label": stream },
      el("div", { class: "card-head" }, el("h3", { title: stream }, stream), this.spark, this.age),
      this.rows,
    );
  }

  update({ time, payload }) {
    if (time < this.time) return;
    this.time = time;
    this.payload = payload;
    setAge(this.age, time);
    this.element.classList.remove("stale");
    const leaves = leavesOf(payload);
    const shape = leaves.map((leaf) => leaf.key).join("\n");
    if (shape !== this.#shape) this.#rebuild(leaves, shape);
    for (const leaf of leaves) this.#rows.get(leaf.key)?.show(leaf.value);
    this.#extendSpark(Date.parse(time));
  }

  showCharted(charted) {
    this.#charted = charted;
    for (const row of this.#rows.values()) row.mark(charted.has(`${this.stream}\n${row.key}`));
  }

  markStale() {
    this.element.classList.toggle("stale", serverNow() - Date.parse(this.time) > STALE_MS);
  }

  #rebuild(leaves, shape) {
    this.#shape = shape;
    const known = this.#rows;
    this.#rows = new Map();
    const ordered = [...leaves].sort((a, b) => weightOf(a) - weightOf(b));
    for (const leaf of ordered) {
      this.#rows.set(leaf.key, known.get(leaf.key) ?? new Row(leaf, () => this.onField(this.stream, leaf.key)));
    }
    this.primary = primaryOf(leaves)?.key;
    this.spark.classList.toggle("none", !this.primary);
    this.rows.replaceChildren(...[...this.#rows.values()].map((row) => row.element), this.more);
    this.showCharted(this.#charted);
    this.#fold();
  }

  #fold() {
    const elements = [...this.#rows.values()].map((row) => row.element);
    // One row more is not worth a button.
    const hidden = elements.length > ROWS + 1 ? elements.length - ROWS : 0;
    elements.forEach((row, at) => (row.hidden = !this.#open && hidden > 0 && at >= ROWS));
    this.more.hidden = !hidden;
    setText(this.more, this.#open ? "Show less" : `Show ${hidden} more`);
  }

  #toggle() {
    this.#open = !this.#open;
    this.#fold();
  }

  #extendSpark(time_ms) {
    if (!this.primary) return;
    const value = valueAt(this.payload, this.primary);
    const last = this.#points.at(-1);
    if (typeof value !== "number" || (last && time_ms <= last[0])) return;
    // Two points a pixel are more than anybody sees.
    if (last && time_ms - last[0] < SPARK_MS / SPARK_POINTS) last[1] = value;
    else this.#points.push([time_ms, value]);
    this.#drawSpark();
  }

  async loadSpark() {
    if (!this.primary) return;
    const query = new URLSearchParams({
      stream: this.stream,
      field: this.primary,
      from: new Date(serverNow() - SPARK_MS).toISOString(),
      to: new Date(serverNow()).toISOString(),
      points: SPARK_POINTS,
    });
    const { times, series } = await getJson(`/robots/${this.deviceId}/series.json?${query}`).catch(() => ({ times: [], series: [] }));
    const old = times.map((time, at) => [Date.parse(time), series[0].values[at]]).filter(([, value]) => value !== null);
    const first = this.#points[0]?.[0] ?? Infinity;
    this.#points = [...old.filter(([time_ms]) => time_ms < first), ...this.#points];
    this.#drawSpark();
  }

  #drawSpark() {
    const until = this.#points.at(-1)?.[0] ?? 0;
    this.#points = this.#points.filter(([time_ms]) => time_ms > until - SPARK_MS);
    const values = this.#points.map(([, value]) => value);
    const low = Math.min(...values);
    const span = Math.max(...values) - low;
    const y = (value) => (span > 0 ? 21 - ((value - low) / span) * 18 : 12);
    const x = (time_ms) => 100 - ((until - time_ms) / SPARK_MS) * 100;
    const step = ([t, v], at) => `${at && t - this.#points[at - 1][0] < GAP_MS ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
    this.line.setAttribute("d", this.#points.map(step).join(""));
  }
}

/** Quaternions, names of frames and lists say little to people, so they come last. */
function weightOf({ key, kind }) {
  if (kind === "list") return 2;
  return /(^|\.)(orientation\.[xyzw]|.*frame_id)$/.test(key) ? 1 : 0;
}

class Row {
  constructor(leaf, onClick) {
    this.key = leaf.key;
    this.format = new NumberFormat(leaf.unit);
    this.number = document.createTextNode("");
    this.unit = el("span", { class: "unit" });
    const name = leaf.label.at(-1);
    const parents = leaf.label.slice(0, -1).map((part) => `${part}.`).join("");
    const key = el("span", { class: "key", title: leaf.key }, parents, el("b", {}, name));
    const value = el("span", { class: "val" }, this.number, leaf.kind === "number" ? this.unit : null);
    this.element = leaf.chartable
      ? el("button", { class: "row", type: "button", "aria-pressed": "false", title: "Show in the chart", onclick: onClick }, key, value)
      : el("div", { class: "row" }, key, value);
  }

  show(value) {
    const text = this.format.text(value);
    if (this.number.data !== text) this.number.data = text;
    setText(this.unit, typeof value === "number" ? ` ${this.format.suffix}` : "");
  }

  mark(charted) {
    if (this.element.tagName === "BUTTON") this.element.setAttribute("aria-pressed", String(charted));
  }
}
