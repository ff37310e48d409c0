// Charts of any numeric field: fields of one unit share a lane, all lanes share the time.
import { serverNow } from "../age.js";
import { el, getJson, oncePerFrame, setText } from "./dom.js";
import { unitOf } from "./fields.js";
import { Lane } from "./lane.js";
import { Line } from "./lines.js";
import { Picker } from "./picker.js";
import { RangeTools } from "./ranges.js";
import { readUrl, SPANS, writeUrl } from "./url.js";

const POINTS = 600;
const FIELDS = 12;

export class Charts {
  #lines = [];
  #lanes = [];
  #zoom = null;
  #loading = null;
  #error = "";

  constructor({ body, tools, deviceId, numbersOf, onChange }) {
    Object.assign(this, { body, deviceId, onChange });
    const { fields, window: shown } = readUrl();
    this.window = shown;
    this.chosen = fields.length > 0;
    this.#lines = fields.map(([stream, key]) => new Line(stream, key));
    this.ranges = new RangeTools(this.window, (chosen) => this.#show(chosen), () => this.zoom(null));
    this.picker = new Picker({ numbersOf, isShown: (stream, key) => this.has(stream, key), onPick: (stream, key) => this.toggle(stream, key) });
    tools.append(this.ranges.element, this.picker.button);
    document.body.append(this.picker.element, this.ranges.dialog);
    this.draw = oncePerFrame(() => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(body);
    addEventListener("rosfit:theme", () => this.#rebuild());
    setInterval(() => this.live && !document.hidden && this.draw(), 1000);
  }

  get live() {
    return !this.#zoom && !this.window.from;
  }

  has(stream, key) {
    return this.#lines.some((line) => line.stream === stream && line.key === key);
  }

  get charted() {
    return new Set(this.#lines.map((line) => line.id));
  }

  start(defaults) {
    if (!this.chosen) this.#lines = defaults.map(([stream, key]) => new Line(stream, key));
    this.#rebuild();
    this.onChange();
    return this.load();
  }

  toggle(stream, key) {
    if (this.has(stream, key)) this.#lines = this.#lines.filter((line) => line.stream !== stream || line.key !== key);
    else this.#lines = [...this.#lines.slice(1 - FIELDS), new Line(stream, key)];
    this.#changed();
  }

  zoom(range) {
    this.#zoom = range;
    this.ranges.showZoom(Boolean(range));
    this.load();
  }

  /** A live sample, for a window that ends now. */
  add(stream, time_ms, numberAt) {
    if (!this.live) return;
    for (const line of this.#lines) {
      if (line.stream !== stream) continue;
      const value = numberAt(line.key);
      if (typeof value === "number") line.add(time_ms / 1000, value);
    }
    this.draw();
  }

  async load() {
    this.#loading?.abort();
    const { signal } = (this.#loading = new AbortController());
    const [from, to] = this.#range_ms();
    const streams = [...new Set(this.#lines.map((line) => line.stream))];
    try {
      await Promise.all(streams.map((stream) => this.#loadStream(stream, from, to, signal)));
      this.#error = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#error = `The chart could not be loaded: ${error.message}`;
    }
    this.draw();
  }

  async #loadStream(stream, from, to, signal) {
    const lines = this.#lines.filter((line) => line.stream === stream);
    const query = new URLSearchParams([["stream", stream], ...lines.map((line) => ["field", line.key])]);
    query.append("from", new Date(from).toISOString());
    query.append("to", new Date(to).toISOString());
    query.append("points", POINTS);
    const { times, series } = await getJson(`/robots/${this.deviceId}/series.json?${query}`, signal);
    const bucket_s = times.length > 1 ? (Date.parse(times[1]) - Date.parse(times[0])) / 1000 : 1;
    lines.forEach((line, at) => line.load(times, series[at].values, bucket_s));
  }

  #show(chosen) {
    this.window = chosen;
    this.#zoom = null;
    this.ranges.showZoom(false);
    writeUrl(this.#lines, this.window);
    this.load();
  }

  #changed() {
    this.chosen = true;
    writeUrl(this.#lines, this.window);
    this.#rebuild();
    this.onChange();
    this.load();
  }

  #range_ms() {
    if (this.#zoom) return this.#zoom;
    if (this.window.from) return [this.window.from, this.window.to];
    const now = serverNow();
    return [now - SPANS[this.window.span], now];
  }

  #rebuild() {
    for (const lane of this.#lanes) lane.destroy();
    const groups = Map.groupBy ? Map.groupBy(this.#lines, groupOf) : groupBy(this.#lines, groupOf);
    let number = 0;
    this.#lanes = [...groups].map(([, lines], at, all) => {
      const first = number;
      number += lines.length;
      return new Lane({
        lines,
        unit: unitOf(lines[0].key),
        firstColor: first,
        alone: all.length === 1,
        last: at === all.length - 1,
        onZoom: (range) => this.zoom(range),
        onRemove: (line) => this.toggle(line.stream, line.key),
      });
    });
    this.foot ??= el("div", { class: "chart-foot" }, el("span"), el("span"));
    this.body.replaceChildren(...(this.#lanes.length ? [...this.#lanes.map((lane) => lane.element), this.foot] : [hint()]));
    for (const lane of this.#lanes) lane.mount();
    this.draw();
  }

  #resize() {
    for (const lane of this.#lanes) lane.resize();
  }

  #draw() {
    const [from, to] = this.#range_ms();
    for (const line of this.#lines) if (this.live) line.trim(from / 1000);
    for (const lane of this.#lanes) lane.draw(from / 1000, to / 1000);
    setText(this.foot.firstChild, this.#error || this.#silence());
    setText(this.foot.lastChild, this.#lanes.length ? (this.#zoom ? "Double click to zoom out" : "Drag to zoom") : "");
  }

  #silence() {
    return this.#lines.length && this.#lines.every((line) => !line.times.length) ? "No values in this time" : "";
  }
}

/** Fields that share a unit share a lane; one without a unit stands alone. */
function groupOf(line) {
  return unitOf(line.key) || line.id;
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

function hint() {
  return el("p", { class: "chart-hint" }, "Choose fields above, or click any number in the telemetry below, to see it over time.");
}
