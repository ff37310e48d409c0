// One plot of fields that share a unit, with their names, colours and values above it.
import { color, lineColor } from "./colors.js";
import { el, setText } from "./dom.js";
import { NumberFormat } from "./fields.js";

const AXIS_WIDTH = 54;
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];
const TICK_FONT = "11px system-ui, sans-serif";

export class Lane {
  #cursor_s = null;

  constructor({ lines, unit, firstColor, alone, last, onZoom, onRemove }) {
    Object.assign(this, { lines, unit, firstColor, last, onZoom });
    this.formats = lines.map(() => new NumberFormat(unit));
    this.outputs = lines.map(() => el("output"));
    this.plot = el("div", { class: alone ? "plot alone" : "plot", role: "img", "aria-label": `Chart of ${lines.map((line) => line.key).join(", ")}` });
    this.element = el("div", { class: "lane" }, el("div", { class: "lane-head" }, ...lines.map((line, at) => this.#key(line, at, onRemove))), this.plot);
  }

  #key(line, at, onRemove) {
    const swatch = el("i", { class: "swatch" });
    swatch.style.background = lineColor(this.firstColor + at);
    const name = line.key.split(".").filter((part, i, all) => part !== all[i - 1]).join(".");
    const remove = el("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => onRemove(line) }, "×");
    const where = el("span", { class: "where", title: `${line.stream}: ${line.key}` }, `${line.stream} `, el("b", {}, name));
    return el("span", { class: "series-key" }, swatch, where, this.outputs[at], el("span", { class: "lane-unit" }, this.formats[at].unit), remove);
  }

  mount() {
    this.chart = new uPlot(this.#options(), this.#data(), this.plot);
  }

  destroy() {
    this.chart?.destroy();
  }

  resize() {
    const { width, height } = this.#size();
    if (width && width !== this.chart?.width) this.chart.setSize({ width, height });
  }

  draw(from_s, to_s) {
    if (!this.chart) return;
    this.chart.batch(() => {
      this.chart.setData(this.#data(), false);
      this.chart.setScale("x", { min: from_s, max: to_s });
    });
    this.#showValues();
  }

  #data() {
    const tables = this.lines.map((line) => [line.times, line.values]);
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  #showValues() {
    this.lines.forEach((line, at) => {
      const value = this.#cursor_s === null ? line.newest : line.at(this.#cursor_s);
      setText(this.outputs[at], value === null ? "–" : this.formats[at].text(value));
    });
  }

  #size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  #options() {
    const grid = { stroke: color("line"), width: 1 };
    const axis = { stroke: color("muted"), font: TICK_FONT, grid, ticks: { show: false } };
    return {
      ...this.#size(),
      legend: { show: false },
      padding: [8, 10, 0, 0],
      cursor: {
        sync: { key: "robot", setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
        bind: { dblclick: () => () => this.onZoom(null) },
      },
      scales: { x: { time: true, auto: false }, y: { range: yRange } },
      axes: [
        { ...axis, size: this.last ? 26 : 8, gap: 4, space: 64, incrs: TIME_STEPS_S, values: this.last ? timeLabels : () => [] },
        { ...axis, size: AXIS_WIDTH, gap: 6, space: 30, values: numberLabels },
      ],
      series: [{}, ...this.lines.map((line, at) => ({ label: line.key, stroke: lineColor(this.firstColor + at), width: 1.5, points: { show: false } }))],
      hooks: {
        setSelect: [(chart) => this.#selected(chart)],
        setCursor: [(chart) => this.#moved(chart)],
      },
    };
  }

  #selected(chart) {
    const { left, width } = chart.select;
    if (width < 4) return;
    const range = [left, left + width].map((x) => chart.posToVal(x, "x") * 1000);
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onZoom(range);
  }

  #moved(chart) {
    const { left } = chart.cursor;
    this.#cursor_s = left >= 0 ? chart.posToVal(left, "x") : null;
    this.#showValues();
  }
}

/** Room above and below, and a flat line in the middle instead of at the edge. */
function yRange(_, low, high) {
  if (low === null) return [0, 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

function numberLabels(_, splits) {
  const step = Math.abs(splits[1] - splits[0]) || 1;
  const decimals = [0, 1, 2, 3, 4, 5, 6, 7].find((digits) => Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) < 1e-6) ?? 8;
  return splits.map((value) => (Math.abs(value) >= 1e6 ? value.toExponential(1) : value.toFixed(decimals)));
}

const two = (number) => String(number).padStart(2, "0");

function timeLabels(_, splits, __, ___, step_s) {
  let day = null;
  return splits.map((time_s) => {
    const at = new Date(time_s * 1000);
    const text = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const date = at.getDate();
    const newDay = day !== null && date !== day;
    day = date;
    if (step_s >= 86_400 || newDay) return `${date}.${at.getMonth() + 1}.`;
    return step_s < 60 ? `${text}:${two(at.getSeconds())}` : text;
  });
}
