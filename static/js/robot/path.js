// The way a robot took over the plane: equal axes, a grid in metres, drawn on a canvas that fits itself.
import { serverNow } from "../age.js";
import { color, prepare } from "./colors.js";
import { getJson, oncePerFrame, setText } from "./dom.js";
import { poseOf, poseRank } from "./pose.js";

const TRAIL_MS = 10 * 60_000;
const POINTS = 600;
// A robot that was silent for this long may have been carried: no line is drawn over it.
const BREAK_MS = 15_000;
const SMALLEST_M = 4;
const MARGIN_PX = 34;

export class PathMap {
  #points = [];
  #pose = null;
  #stream = null;
  #rank = Infinity;
  #view = null;

  constructor({ panel, canvas, note, deviceId }) {
    Object.assign(this, { panel, canvas, note, deviceId });
    this.draw = oncePerFrame(() => this.#draw());
    new ResizeObserver(this.draw).observe(canvas);
    addEventListener("rosfit:theme", this.draw);
  }

  update(stream, { time, payload }) {
    const rank = poseRank(stream, payload);
    if (rank > this.#rank || rank === Infinity) return;
    if (stream !== this.#stream) this.#follow(stream, rank, poseOf(payload).prefix);
    this.#pose = poseOf(payload);
    if (!this.#pose) return;
    this.#add(Date.parse(time), this.#pose.x, this.#pose.y);
    this.draw();
  }

  #follow(stream, rank, prefix) {
    [this.#stream, this.#rank, this.#points] = [stream, rank, []];
    this.panel.hidden = false;
    this.#loadTrail(stream, prefix);
  }

  async #loadTrail(stream, prefix) {
    const key = (axis) => (prefix ? `${prefix}.${axis}` : axis);
    const query = new URLSearchParams([["stream", stream], ["field", key("x")], ["field", key("y")]]);
    query.append("from", new Date(serverNow() - TRAIL_MS).toISOString());
    query.append("to", new Date(serverNow()).toISOString());
    query.append("points", POINTS);
    const { times, series } = await getJson(`/robots/${this.deviceId}/series.json?${query}`).catch(() => ({ times: [] }));
    if (stream !== this.#stream) return;
    const first = this.#points[0]?.time_ms ?? Infinity;
    const old = times
      .map((time, at) => ({ time_ms: Date.parse(time), x: series[0].values[at], y: series[1].values[at] }))
      .filter(({ time_ms, x, y }) => x !== null && y !== null && time_ms < first);
    this.#points = [...old, ...this.#points];
    this.draw();
  }

  #add(time_ms, x, y) {
    const last = this.#points.at(-1);
    if (last && (time_ms <= last.time_ms || Math.hypot(x - last.x, y - last.y) < 0.02)) return;
    this.#points.push({ time_ms, x, y });
    const gone = this.#points.findIndex((point) => point.time_ms > time_ms - TRAIL_MS);
    if (gone > 32) this.#points.splice(0, gone);
  }

  #draw() {
    if (this.panel.hidden) return;
    const { context, width, height } = prepare(this.canvas);
    if (!width || !this.#pose) return;
    this.#fit(width, height);
    this.#drawGrid(context, width, height);
    this.#drawTrail(context);
    this.#drawRobot(context);
    const { x, y, theta } = this.#pose;
    const degrees = theta === null ? "" : ` · ${Math.round((theta * 180) / Math.PI)}°`;
    setText(this.note, `x ${x.toFixed(2)} · y ${y.toFixed(2)} m${degrees}`);
  }

  /** Everything seen, with a margin. The view only moves when something is about to leave it. */
  #fit(width, height) {
    const xs = [...this.#points.map((point) => point.x), this.#pose.x];
    const ys = [...this.#points.map((point) => point.y), this.#pose.y];
    const [left, right] = [Math.min(...xs), Math.max(...xs)];
    const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(
      (width - 2 * MARGIN_PX) / Math.max(right - left, SMALLEST_M),
      (height - 2 * MARGIN_PX) / Math.max(top - bottom, SMALLEST_M),
    );
    const known = this.#view;
    const same = known && known.width === width && known.height === height && scale <= known.scale * 1.6 && this.#inside(left, right, bottom, top, known);
    if (!same) this.#view = { width, height, scale, x: (left + right) / 2, y: (bottom + top) / 2 };
  }

  #inside(left, right, bottom, top, { width, height, scale, x, y }) {
    const [halfW, halfH] = [(width / 2 - 14) / scale, (height / 2 - 14) / scale];
    return left > x - halfW && right < x + halfW && bottom > y - halfH && top < y + halfH;
  }

  #at(x, y) {
    const { width, height, scale } = this.#view;
    return [width / 2 + (x - this.#view.x) * scale, height / 2 - (y - this.#view.y) * scale];
  }

  #drawGrid(context, width, height) {
    const { scale, x, y } = this.#view;
    const step = niceStep(64 / scale);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.fillStyle = color("faint");
    context.textAlign = "center";
    for (const [value, px] of ticks(x, width / scale, step, (v) => this.#at(v, 0)[0])) {
      stroke(context, px, 0, px, height, value === 0);
      if (px > 30 && px < width - 16) context.fillText(value.toFixed(digits), px, height - 8);
    }
    context.textAlign = "left";
    for (const [value, py] of ticks(y, height / scale, step, (v) => this.#at(0, v)[1])) {
      stroke(context, 0, py, width, py, value === 0);
      if (py > 14 && py < height - 24) context.fillText(`${value.toFixed(digits)}`, 8, py - 4);
    }
    context.fillText("m", 8, height - 8);
  }

  #drawTrail(context) {
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.lineCap = "round";
    context.strokeStyle = color("line-1");
    const points = this.#points;
    const newest = points.at(-1)?.time_ms ?? 0;
    // In eight strokes, the older the fainter.
    const size = Math.max(2, Math.ceil(points.length / 8));
    for (let start = 0; start < points.length; start += size) {
      const piece = points.slice(start, start + size + 1);
      context.globalAlpha = Math.max(0.18, 1 - (newest - piece.at(-1).time_ms) / TRAIL_MS);
      context.beginPath();
      piece.forEach((point, at) => {
        const broken = at === 0 || (point.time_ms - piece[at - 1].time_ms > BREAK_MS && far(point, piece[at - 1]));
        context[broken ? "moveTo" : "lineTo"](...this.#at(point.x, point.y));
      });
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  #drawRobot(context) {
    const { x, y, theta } = this.#pose;
    context.save();
    context.translate(...this.#at(x, y));
    context.fillStyle = color("accent");
    context.strokeStyle = color("surface");
    context.lineWidth = 2;
    context.beginPath();
    if (theta === null) context.arc(0, 0, 6, 0, 2 * Math.PI);
    else {
      context.rotate(-theta);
      context.moveTo(12, 0);
      context.lineTo(-8, 7.5);
      context.lineTo(-4.5, 0);
      context.lineTo(-8, -7.5);
      context.closePath();
    }
    context.fill();
    context.stroke();
    context.restore();
  }
}

const far = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) > 1;

function stroke(context, x1, y1, x2, y2, strong) {
  context.strokeStyle = color(strong ? "line-strong" : "line");
  context.beginPath();
  context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
  context.stroke();
}

function* ticks(center, span, step, toPixel) {
  const first = Math.ceil((center - span / 2) / step);
  const last = Math.floor((center + span / 2) / step);
  for (let number = first; number <= last; number += 1) yield [number * step, toPixel(number * step)];
}

/** The smallest of 1, 2, 5 times a power of ten that is at least `metres`. */
function niceStep(metres) {
  const power = 10 ** Math.floor(Math.log10(metres));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= metres);
}
