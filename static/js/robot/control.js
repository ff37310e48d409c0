// What acts on the robot: commands, the emergency stop, the stick and parameters, fed by the page's live events.
import { setServerTime } from "../age.js";
import { Commands } from "./commands.js";
import { EmergencyStop } from "./emergency_stop.js";
import { Parameters } from "./parameters.js";
import { Teleop } from "./teleop.js";

const byId = (id) => document.getElementById(id);
const deviceId = byId("robot-head").dataset.device;

const commands = new Commands({ panel: byId("commands"), form: byId("command-form"), list: byId("command-list"), tools: byId("command-tools"), deviceId });
const parameters = new Parameters({ panel: byId("parameters"), nodes: byId("parameter-nodes"), tools: byId("parameter-tools"), deviceId });
const teleop = byId("drive") && new Teleop(deviceId);
const stop =
  byId("emergency-stop") &&
  new EmergencyStop({ button: byId("emergency-stop"), note: byId("stop-note"), deviceId, onPress: () => teleop.end("Emergency stop: you no longer drive.") });

const told = (name, take) => document.addEventListener(name, (event) => take(JSON.parse(event.detail.data)));

function refresh() {
  commands.refresh();
  teleop?.refresh().catch(() => {});
}

// Events flow from the snapshot on, so what is asked for then misses none of them.
told("snapshot", ({ now, device }) => {
  setServerTime(now);
  commands.setStatus(device.status);
  refresh();
});

// The first snapshot may have come before this script; what it said stands in the head.
commands.setStatus(byId("head-status").querySelector(".status").dataset.status);
refresh();

told("changes", (changes) => commands.setStatus(changes.at(-1).status));
told("teleop", (changes) => teleop?.showLease(changes.at(-1).lease));
told("params", (changes) => changes.forEach((change) => parameters.follow(change)));
told("samples", ({ samples }) => samples.forEach(({ data }) => teleop?.measure(data.payload)));
told("commands", (steps) => {
  for (const step of steps) {
    commands.take(step);
    stop?.take(step);
  }
});
