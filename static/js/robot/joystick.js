// A stick for one finger or the mouse: held while the pointer is down, wherever it goes; in the middle when it is not.

const DEAD = 0.08;

export class Joystick {
  #pointer = null;
  #vector = { x: 0, y: 0 };

  /** `onChange` is called at every move; `pad` is round and holds `knob` in its middle. */
  constructor({ pad, knob, onChange }) {
    Object.assign(this, { pad, knob, onChange, enabled: false });
    pad.addEventListener("pointerdown", (event) => this.#press(event));
    pad.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      pad.addEventListener(end, (event) => event.pointerId === this.#pointer && this.release());
    }
    // A long press would open a menu over the stick.
    pad.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Right and up are 1. */
  get vector() {
    return this.#vector;
  }

  get held() {
    return this.#pointer !== null;
  }

  /** As if the finger had been lifted: the one that is still down does nothing until it is put down again. */
  release() {
    const pointer = this.#pointer;
    this.#pointer = null;
    if (pointer !== null && this.pad.hasPointerCapture(pointer)) this.pad.releasePointerCapture(pointer);
    delete this.pad.dataset.held;
    this.#set(0, 0);
  }

  #press(event) {
    if (!this.enabled || this.held || event.button !== 0) return;
    event.preventDefault();
    this.#pointer = event.pointerId;
    this.pad.setPointerCapture(event.pointerId);
    this.pad.dataset.held = "";
    this.#follow(event);
  }

  #move(event) {
    if (event.pointerId === this.#pointer) this.#follow(event);
  }

  #follow({ clientX, clientY }) {
    const box = this.pad.getBoundingClientRect();
    const reach = (box.width - this.knob.offsetWidth) / 2;
    const x = (clientX - box.left - box.width / 2) / reach;
    const y = (box.top + box.height / 2 - clientY) / reach;
    const far = Math.max(1, Math.hypot(x, y));
    this.#set(x / far, y / far, reach);
  }

  #set(x, y, reach = 0) {
    this.#vector = { x: beyondDead(x), y: beyondDead(y) };
    this.knob.style.transform = `translate(${x * reach}px, ${-y * reach}px)`;
    this.onChange();
  }
}

/** Nothing near the middle, and from there on without a jump. */
export function beyondDead(value, dead = DEAD) {
  const size = Math.abs(value);
  return size < dead ? 0 : (Math.sign(value) * (size - dead)) / (1 - dead);
}
