// The other ways to drive, each for as long as it is held: keys and a gamepad.
import { beyondDead } from "./joystick.js";

const KEYS = {
  KeyW: [0, 1], ArrowUp: [0, 1],
  KeyS: [0, -1], ArrowDown: [0, -1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0],
  KeyD: [1, 0], ArrowRight: [1, 0],
};

const GAMEPAD_DEAD = 0.15;

/** Whether a key that is pressed there is meant for something else. */
export const takesKeys = (element) => element?.closest?.("input, textarea, select, [contenteditable], dialog") != null;

export class Keys {
  #held = new Set();

  constructor(onChange, isEnabled) {
    addEventListener("keydown", (event) => {
      if (!isEnabled() || !(event.code in KEYS) || event.ctrlKey || event.altKey || event.metaKey || takesKeys(event.target)) return;
      event.preventDefault();
      // A key that was down before does not drive: it must be let go and pressed again.
      if (event.repeat || this.#held.has(event.code)) return;
      this.#held.add(event.code);
      onChange();
    });
    addEventListener("keyup", (event) => this.#held.delete(event.code) && onChange());
  }

  get vector() {
    const sum = { x: 0, y: 0 };
    for (const code of this.#held) {
      sum.x += KEYS[code][0];
      sum.y += KEYS[code][1];
    }
    return { x: Math.sign(sum.x), y: Math.sign(sum.y) };
  }

  release() {
    this.#held.clear();
  }
}

export class Gamepad {
  #armed = false;

  /** The left stick of the first gamepad that has one; nothing until it has been in its middle once. */
  get vector() {
    const pad = navigator.getGamepads?.().find((one) => one?.connected && one.axes.length >= 2);
    const x = pad ? beyondDead(pad.axes[0], GAMEPAD_DEAD) : 0;
    const y = pad ? beyondDead(-pad.axes[1], GAMEPAD_DEAD) : 0;
    if (x === 0 && y === 0) this.#armed = true;
    return this.#armed ? { x, y } : { x: 0, y: 0 };
  }

  release() {
    this.#armed = false;
  }
}
