// sensor_msgs/LaserScan as seen from above, the robot in the middle looking up.
import { setAge } from "../age.js";
import { color, prepare } from "./colors.js";
import { el, oncePerFrame } from "./dom.js";

export const isScan = (payload) => Array.isArray(payload?.ranges) && typeof payload.angle_min === "number" && typeof payload.angle_increment === "number";

export class Scans {
  #views = new Map();

  constructor(box) {
    this.box = box;
    addEventListener("rosfit:theme", () => this.#views.forEach((view) => view.draw()));
  }

  update(stream, { time, payload }) {
    let view = this.#views.get(stream);
    if (!view) this.#views.set(stream, (view = this.#add(stream)));
    view.scan = payload;
    setAge(view.age, time);
    view.draw();
  }

  #add(stream) {
    const canvas = el("canvas", { role: "img", "aria-label": `Laser scan ${stream}` });
    const age = el("time", { class: "age panel-note" });
    const panel = el("section", { class: "panel visual", "aria-label": stream }, el("div", { class: "panel-head" }, el("h2", {}, stream), age), el("div", { class: "panel-body scan-body" }, canvas));
    const view = { age, scan: null, draw: oncePerFrame(() => drawScan(canvas, view.scan)) };
    this.box.lastElementChild.before(panel);
    new ResizeObserver(view.draw).observe(canvas);
    return view;
  }
}

function drawScan(canvas, scan) {
  const { context, width, height } = prepare(canvas);
  if (!width || !scan) return;
  const reach = reachOf(scan);
  const scale = (Math.min(width, height) / 2 - 14) / reach;
  context.translate(width / 2, height / 2);
  drawRings(context, reach, scale);
  context.fillStyle = color("line-1");
  scan.ranges.forEach((metres, at) => {
    if (typeof metres !== "number" || metres < scan.range_min || metres > scan.range_max) return;
    // ROS counts angles from straight ahead to the left; on the screen ahead is up.
    const angle = scan.angle_min + at * scan.angle_increment;
    context.fillRect(-Math.sin(angle) * metres * scale - 1.25, -Math.cos(angle) * metres * scale - 1.25, 2.5, 2.5);
  });
  drawCentre(context);
}

/** What is nearly always in range decides, so that one far beam does not shrink the rest. */
function reachOf(scan) {
  const found = scan.ranges.filter((metres) => typeof metres === "number" && metres <= scan.range_max).sort((a, b) => a - b);
  const far = found[Math.floor(found.length * 0.97)] ?? (scan.range_max || 10);
  return [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200].find((metres) => metres >= far) ?? far;
}

function drawRings(context, reach, scale) {
  context.strokeStyle = color("line");
  context.fillStyle = color("faint");
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  for (const part of [0.5, 1]) {
    context.beginPath();
    context.arc(0, 0, reach * part * scale, 0, 2 * Math.PI);
    context.stroke();
    context.fillText(`${Number((reach * part).toFixed(1))} m`, 5, -reach * part * scale + 13);
  }
}

function drawCentre(context) {
  context.fillStyle = color("accent");
  context.beginPath();
  context.moveTo(0, -8);
  context.lineTo(6, 6);
  context.lineTo(0, 3);
  context.lineTo(-6, 6);
  context.fill();
}
