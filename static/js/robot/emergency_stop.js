// The emergency stop: one press, sent until the server has it, and followed until the robot has answered.
import { getJson, postJson, setText } from "./dom.js";

const AGAIN_MS = 500;
const TRY_FOR_MS = 15_000;
// Beside the live events, which may be what is broken.
const ASK_EVERY_MS = 1000;
const FOLLOW_FOR_MS = 60_000;

const WORDS = {
  pending: ["busy", "Stop sent. Waiting for the robot…"],
  delivered: ["busy", "Stop delivered. Waiting for its answer…"],
  acked: ["busy", "The robot is stopping…"],
  in_progress: ["busy", "The robot is stopping…"],
  succeeded: ["good", "The robot has confirmed the stop."],
};

export class EmergencyStop {
  #commandId = null;
  #timer = 0;

  constructor({ button, note, deviceId, onPress }) {
    Object.assign(this, { button, note, deviceId, onPress });
    button.addEventListener("click", () => this.#press());
  }

  /** A step of any command. */
  take(step) {
    if (step.command_id === this.#commandId) this.#show(step.status, step.error);
  }

  async #press() {
    this.onPress();
    clearInterval(this.#timer);
    this.#say("busy", "Sending the stop…");
    const accepted = await this.#send(performance.now() + TRY_FOR_MS);
    if (!accepted) return;
    this.#commandId = accepted.command_id;
    this.#show(accepted.status);
    const until = performance.now() + FOLLOW_FOR_MS;
    this.#timer = setInterval(() => this.#ask(until), ASK_EVERY_MS);
  }

  /** Again and again while nobody answers: a second stop does no harm, a missing one does. */
  async #send(until) {
    for (;;) {
      try {
        return await postJson(`/robots/${this.deviceId}/emergency-stop`);
      } catch (error) {
        if ((error.status && error.status < 500) || performance.now() > until) {
          this.#say("bad", `NOT SENT: ${error.status ? error.message : "the server does not answer"}. Press again, or use the robot's own switch.`);
          return null;
        }
        this.#say("bad", "Not sent yet: no connection. Trying again…");
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  async #ask(until) {
    if (performance.now() > until) return clearInterval(this.#timer);
    const command = await getJson(`/robots/${this.deviceId}/commands/${this.#commandId}`).catch(() => null);
    if (command) this.#show(command.status, command.error);
  }

  #show(status, error) {
    const offline = status === "pending" && document.querySelector("#head-status .status").dataset.status === "offline";
    if (offline) return this.#say("bad", "NOT DELIVERED: the robot is offline. It stops as soon as it is back.");
    const [state, text] = WORDS[status] ?? ["bad", `NOT CONFIRMED (${status.replace("_", " ")}${error ? `: ${error.message || error.code}` : ""}). Use the robot's own switch.`];
    this.#say(state, text);
    if (state !== "busy") clearInterval(this.#timer);
  }

  #say(state, text) {
    this.note.hidden = false;
    this.note.dataset.state = state;
    setText(this.note, text);
  }
}
