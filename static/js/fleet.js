// The fleet, live: rows by what is heard of each robot, counts and order by asking for the list again.
import { setAge, setServerTime } from "./age.js";
import { setBattery, setStatus } from "./vitals.js";

// A storm of status changes asks for the list once in this time.
const REFRESH_EVERY_MS = 2000;

let lastRefresh_ms = 0;
let waiting = 0;

document.addEventListener("rows", (event) => {
  const { now, rows } = JSON.parse(event.detail.data);
  setServerTime(now);
  for (const { id, last_seen, battery } of rows) {
    const row = document.getElementById(`row-${id}`);
    if (!row) continue;
    setAge(row.querySelector(".cell-age .age"), last_seen);
    setBattery(row.querySelector(".battery"), battery);
  }
});

document.addEventListener("changes", (event) => {
  for (const { device_id, status, reason } of JSON.parse(event.detail.data)) {
    const row = document.getElementById(`row-${device_id}`);
    if (!row) continue;
    row.dataset.status = status;
    setStatus(row.querySelector(".status"), status, reason);
  }
  refreshSoon();
});

document.addEventListener("drifted", refreshSoon);

document.addEventListener("rosfit:dialog-closed", refreshSoon);

function refreshSoon() {
  if (waiting) return;
  const wait_ms = Math.max(100, lastRefresh_ms + REFRESH_EVERY_MS - Date.now());
  waiting = setTimeout(() => {
    waiting = 0;
    lastRefresh_ms = Date.now();
    const refresh = document.getElementById("refresh");
    if (refresh) htmx.trigger(refresh, "fleet-changed");
  }, wait_ms);
}

// The server sends news of the robots it found when the stream began: with others on the page, begin again.
const shown = () => [...document.querySelectorAll("tr[data-device]")].map((row) => row.dataset.device).join();
let stream = document.getElementById("live");
let watched = shown();
let connection = null;

document.addEventListener("htmx:after:swap", () => {
  const live = document.getElementById("live");
  if (!live || (live === stream && shown() === watched)) return;
  if (live === stream) {
    stream = live.cloneNode();
    live.replaceWith(stream);
    // The old stream would only notice with its next message, and keep its connection until then.
    connection?.reader?.cancel();
    htmx.process(stream);
  } else {
    stream = live;
  }
  watched = shown();
});

// After a break the list may have changed unseen.
document.addEventListener("htmx:sse:after:connection", (event) => {
  connection = event.detail.connection;
  if (connection.attempt > 0) refreshSoon();
});
