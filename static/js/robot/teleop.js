// Driving by hand. Whatever ends it (finger lifted, page hidden, line lost) puts zero out, and nothing resumes by itself.
import { getJson, setText } from "./dom.js";
import { DriveLink } from "./drive_link.js";
import { valueAt } from "./fields.js";
import { Gamepad, Keys, takesKeys } from "./held_inputs.js";
import { Joystick } from "./joystick.js";

const EVERY_MS = 20;
// QoS 0 may lose one.
const ZEROS = 3;
const TRIES = 5;
const RETRY_MS = 1000;

const byId = (id) => document.getElementById(id);
// Without the sign of what rounds to zero.
const rounded = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1");
const speedText = (linear, angular) => `${rounded(linear)} m/s · ${rounded(angular)} rad/s`;

export class Teleop {
  #limits = { linear: 1, angular: 2 };
  #level = 0.25;
  #state = "off";
  #loop = 0;
  #zeros = 0;
  #tries = 0;
  #retry = 0;
  #lease = null;
  #me = "";

  constructor(deviceId) {
    this.deviceId = deviceId;
    this.panel = byId("drive");
    const act = () => this.#tick();
    this.stick = new Joystick({ pad: byId("pad"), knob: byId("knob"), onChange: act });
    this.keys = new Keys(act, () => this.#state === "held");
    this.gamepad = new Gamepad();
    this.link = new DriveLink({
      deviceId,
      onHeld: () => this.#held(),
      onTrip: (ms) => setText(byId("drive-trip"), `${Math.max(1, Math.round(ms))} ms`),
      onGone: (refusal) => this.#gone(refusal),
    });
    byId("drive-begin").addEventListener("click", () => this.#begin());
    byId("drive-end").addEventListener("click", () => this.end());
    for (const id of ["drive-stop", "drive-bar-stop"]) byId(id).addEventListener("click", () => this.halt());
    byId("drive-levels").addEventListener("click", (event) => this.#choose(event.target.closest("[data-level]")));
    for (const type of ["keydown", "keyup"]) addEventListener(type, (event) => this.#stopKey(event));
    document.addEventListener("visibilitychange", () => document.hidden && this.halt());
    addEventListener("blur", () => this.halt());
    addEventListener("pagehide", () => this.end());
    this.#show();
  }

  /** Who drives and how fast one may, as the server knows it. */
  async refresh() {
    const driving = await getJson(`/robots/${this.deviceId}/driving.json`);
    this.#me = driving.user_id;
    this.#limits = { linear: driving.linear_x, angular: driving.angular_z };
    this.showLease(driving.lease);
  }

  showLease(lease) {
    this.#lease = lease;
    this.#show();
  }

  /** The robot's own odometry, whatever stream it comes in. */
  measure(payload) {
    const linear = valueAt(payload, "twist.twist.linear.x");
    const angular = valueAt(payload, "twist.twist.angular.z");
    if (typeof linear === "number") setText(byId("drive-measured"), speedText(linear, angular ?? 0));
  }

  /** Let go of everything that is held: zero goes out at once, and the stick stays ours. */
  halt() {
    this.#release();
    if (this.#state === "held") this.#tick();
  }

  end(note = "") {
    this.halt();
    this.link.close();
    this.#enter("off", note);
  }

  #begin() {
    this.#tries = 0;
    this.#enter("opening", "");
    this.link.open(this.#others());
  }

  #held() {
    this.#release();
    this.#tries = 0;
    this.#enter("held", "Drag the stick, or hold W A S D or the arrows. Space stops.");
  }

  #gone({ code, message }) {
    const held = this.#state === "held";
    this.#release();
    const lost = !code || (this.#tries > 0 && code === "LEASE_HELD");
    if (code === "LEASE_LOST") this.#enter("off", "Somebody else has taken the stick. The robot stands still.");
    else if (!lost) this.#enter("off", message);
    else if ((held || this.#tries > 0) && this.#tries < TRIES && !document.hidden) this.#tryAgain();
    else this.#enter("off", "No connection to the robot's stick. Try again.");
    if (code === "LEASE_HELD" && !lost) this.refresh();
  }

  #tryAgain() {
    this.#tries += 1;
    this.#enter("opening", "The line was lost, and the robot stands still. Connecting again…");
    this.#retry = setTimeout(() => this.#reopen(), RETRY_MS);
  }

  /** The server may not have noticed yet that our old line is gone; a stick that others took stays theirs. */
  async #reopen() {
    await this.refresh().catch(() => {});
    if (this.#state === "opening") this.link.open(this.#lease?.user_id === this.#me);
  }

  #enter(state, note) {
    clearTimeout(this.#retry);
    clearInterval(this.#loop);
    this.#state = state;
    if (state === "held") this.#loop = setInterval(() => this.#tick(), EVERY_MS);
    setText(byId("drive-note"), note);
    this.#show();
  }

  #tick() {
    if (this.#state !== "held") return;
    const { linear, angular } = this.#wanted();
    if (linear || angular) this.#zeros = ZEROS;
    else if (this.#zeros > 0) this.#zeros -= 1;
    else return;
    this.link.send(linear, angular);
    this.#showSpeed(linear, angular);
  }

  #wanted() {
    const sources = [this.stick.vector, this.keys.vector, this.gamepad.vector];
    const { x, y } = sources.find((one) => one.x || one.y) ?? { x: 0, y: 0 };
    const scaled = (value, limit) => Math.round(value * limit * this.#level * 1000) / 1000 || 0;
    return { linear: scaled(y, this.#limits.linear), angular: scaled(-x, this.#limits.angular) };
  }

  #release() {
    // The stick last: it tells of its change, and then nothing else may be held.
    for (const source of [this.keys, this.gamepad, this.stick]) source.release();
  }

  #choose(button) {
    if (!button) return;
    this.#level = Number(button.dataset.level);
    for (const one of byId("drive-levels").children) one.setAttribute("aria-pressed", String(one === button));
    this.#show();
  }

  /** Space stops, whatever has the focus: on a button it would press that instead. */
  #stopKey(event) {
    if (event.code !== "Space" || this.#state !== "held" || takesKeys(event.target)) return;
    event.preventDefault();
    this.halt();
  }

  /** Whether somebody else has the stick. */
  #others() {
    return this.#lease !== null && this.#state !== "held";
  }

  #show() {
    const held = this.#state === "held";
    this.panel.dataset.state = this.#state;
    this.stick.enabled = held;
    byId("pad").setAttribute("aria-disabled", String(!held));
    byId("drive-begin").hidden = held;
    byId("drive-begin").disabled = this.#state === "opening";
    setText(byId("drive-begin"), this.#state === "opening" ? "Connecting…" : this.#others() ? "Take over" : "Take the stick");
    for (const id of ["drive-stop", "drive-end"]) byId(id).hidden = !held;
    byId("drive-bar").hidden = !held;
    setText(byId("driver"), this.#driver());
    setText(byId("drive-limit"), speedText(this.#limits.linear * this.#level, this.#limits.angular * this.#level));
    if (held) this.#showSpeed(0, 0);
    else setText(byId("drive-commanded"), "–");
    if (this.#state === "off") setText(byId("drive-trip"), "–");
  }

  #driver() {
    if (this.#state === "held") return "You drive";
    if (!this.#lease) return "Nobody drives";
    return this.#lease.user_id === this.#me ? "You drive, in another window" : `${this.#lease.user_name} drives`;
  }

  #showSpeed(linear, angular) {
    setText(byId("drive-commanded"), speedText(linear, angular));
    setText(byId("drive-bar-speed"), speedText(linear, angular));
  }
}
