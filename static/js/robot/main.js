// The page of one robot: the newest sample of each stream goes to every view that can show it.
import { setAge, setServerTime } from "../age.js";
import { setBattery, setStatus } from "../vitals.js";
import { Cards } from "./cards.js";
import { Charts } from "./charts.js";
import { Diagnostics, isDiagnostics } from "./diagnostics.js";
import { interestOf, leavesOf, unitOf, valueAt } from "./fields.js";
import { Frames, isFrame } from "./frames.js";
import { Logs } from "./logs.js";
import { PathMap } from "./path.js";
import { isScan, Scans } from "./scans.js";

const byId = (id) => document.getElementById(id);
const head = byId("robot-head");
const deviceId = head.dataset.device;
const samples = new Map();

const charts = new Charts({
  body: byId("chart-body"),
  tools: byId("chart-tools"),
  deviceId,
  numbersOf,
  onChange: () => cards.showCharted(charts.charted),
});
const cards = new Cards({ box: byId("cards"), note: byId("streams-note"), deviceId, onField: (stream, key) => charts.toggle(stream, key) });
const path = new PathMap({ panel: byId("path"), canvas: byId("path-canvas"), note: byId("path-note"), deviceId });
const diagnostics = new Diagnostics({ panel: byId("diagnostics"), list: byId("diagnostic-list"), note: byId("diagnostics-note") });
const scans = new Scans(byId("visuals"));
const frames = new Frames({ box: byId("visuals"), deviceId });
const logs = new Logs({ box: byId("log-lines"), tools: byId("log-tools"), deviceId });

function take(stream, sample) {
  if (isFrame(stream)) return frames.update(stream, sample);
  const known = samples.get(stream);
  if (known && sample.time < known.time) return;
  samples.set(stream, sample);
  if (isDiagnostics(sample.payload)) return diagnostics.update(stream, sample);
  if (isScan(sample.payload)) return scans.update(stream, sample);
  cards.update(stream, sample);
  path.update(stream, sample);
}

/** Every number that can be charted, by stream. */
function* numbersOf() {
  for (const stream of [...samples.keys()].sort()) {
    const { payload } = samples.get(stream);
    if (isDiagnostics(payload) || isScan(payload)) continue;
    const numbers = leavesOf(payload).filter((leaf) => leaf.chartable);
    if (numbers.length) yield [stream, numbers];
  }
}

/** Speed in one lane, battery and load in another: what people look at first, if there is any. */
function defaults() {
  const all = [...numbersOf()].flatMap(([stream, numbers]) => numbers.map(({ key }) => ({ stream, key, interest: interestOf(key), unit: unitOf(key) })));
  const known = all.filter(({ unit, interest }) => unit && interest < 4).sort((a, b) => a.interest - b.interest);
  const chosen = known.filter((one, at) => known.findIndex((other) => other.interest === one.interest) === at).slice(0, 3);
  return (chosen.length ? chosen : all.slice(0, 1)).map(({ stream, key }) => [stream, key]);
}

function showDevice({ status, status_reason, last_seen, battery }) {
  setStatus(head.querySelector(".status"), status, status_reason);
  setAge(head.querySelector(".age"), last_seen);
  setBattery(head.querySelector(".battery"), battery);
}

function showPanels() {
  const panel = byId("connect-panel");
  if (!panel || !samples.size) return;
  panel.remove();
  byId("panels").hidden = false;
}

function begin() {
  try {
    showState();
  } finally {
    byId("panels").classList.remove("starting");
  }
}

function showState() {
  const state = JSON.parse(byId("robot-state").textContent);
  for (const { stream, received_at, payload } of state.samples) take(stream, { time: received_at, payload });
  for (const frame of state.frames) take(`blob/${frame.name}`, { payload: frame });
  logs.replace(state.logs);
  charts.start(defaults());
}

let connections = 0;

document.addEventListener("snapshot", (event) => {
  const state = JSON.parse(event.detail.data);
  setServerTime(state.now);
  showDevice(state.device);
  for (const { stream, received_at, payload } of state.samples) take(stream, { time: received_at, payload });
  for (const frame of state.frames) take(`blob/${frame.name}`, { payload: frame });
  showPanels();
  connections += 1;
  // The first one is as new as the page; after a break there is something to make up for.
  if (connections === 1) return;
  askForUpdate();
  logs.replace(state.logs);
  if (charts.live) charts.load();
});

document.addEventListener("samples", (event) => {
  const { now, battery, samples: arrived } = JSON.parse(event.detail.data);
  setServerTime(now);
  setBattery(head.querySelector(".battery"), battery);
  for (const { stream, time, data } of arrived) {
    setAge(head.querySelector(".age"), time);
    take(stream, { time, payload: data.payload });
    charts.add(stream, Date.parse(time), (key) => valueAt(data.payload, key));
  }
  showPanels();
  if (!charts.chosen && !charts.charted.size) charts.start(defaults());
});

document.addEventListener("changes", (event) => {
  for (const { status, reason, last_seen } of JSON.parse(event.detail.data)) {
    showDevice({ status, status_reason: reason, last_seen, battery: null });
  }
});

const askForUpdate = () => htmx.trigger("#head-update", "update-changed");

document.addEventListener("update-changed", (event) => {
  // The event that htmx dispatches on the part itself comes by here, too.
  if (event.target.id !== "head-update") askForUpdate();
});

document.addEventListener("logs", (event) => logs.add(JSON.parse(event.detail.data)));

begin();
