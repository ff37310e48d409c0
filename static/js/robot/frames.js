// The newest picture of each camera, fetched when a new one is announced and somebody can see it.
import { setAge } from "../age.js";
import { el, setText } from "./dom.js";

// Ten pictures a second at most, one at a time.
const EVERY_MS = 100;
// A picture is announced when it arrives; the server stores it within 50 ms.
const STORED_AFTER_MS = 150;
// A device without MQTT 5 cannot say what it sends: the server looks, and what is no picture fails to load.
const UNKNOWN = "application/octet-stream";
const SHOWN = /^(image\/(jpeg|png|webp|gif|bmp)\b|application\/octet-stream$)/;

export const isFrame = (stream) => stream.startsWith("blob/");

export class Frames {
  #frames = new Map();

  constructor({ box, deviceId }) {
    Object.assign(this, { box, deviceId });
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const frame = [...this.#frames.values()].find(({ panel }) => panel === entry.target);
        frame.visible = entry.isIntersecting;
        frame.refresh();
      }
    });
    document.addEventListener("visibilitychange", () => this.#frames.forEach((frame) => frame.refresh()));
  }

  update(stream, { payload }) {
    let frame = this.#frames.get(stream);
    if (!frame) {
      frame = new CameraFrame(stream.slice("blob/".length), this.deviceId);
      this.#frames.set(stream, frame);
      this.box.prepend(frame.panel);
      this.seen.observe(frame.panel);
    }
    frame.announced(payload);
  }
}

class CameraFrame {
  #wanted = "";
  #shown = "";
  #busy = false;
  #noPicture = false;
  visible = false;

  constructor(name, deviceId) {
    this.url = `/robots/${deviceId}/frame/${name.split("/").map(encodeURIComponent).join("/")}`;
    this.name = name;
    this.age = el("time", { class: "age panel-note" });
    this.body = el("div", { class: "frame-body" }, (this.text = el("p", { class: "quiet" }, "Waiting for a picture")));
    this.panel = el("section", { class: "panel visual", "aria-label": `Camera ${name}` }, el("div", { class: "panel-head" }, el("h2", {}, name), this.age), el("div", { class: "panel-body" }, this.body));
  }

  announced({ content_type, size, time }) {
    if (time < this.#wanted) return;
    this.kind = content_type;
    this.description = `${content_type}, ${Math.ceil(size / 1024)} KiB`;
    if (!SHOWN.test(content_type) || this.#noPicture) return this.#describe(time);
    setTimeout(() => this.#want(time), STORED_AFTER_MS);
  }

  #want(time) {
    if (time < this.#wanted) return;
    this.#wanted = time;
    this.refresh();
  }

  #describe(time) {
    setAge(this.age, time);
    setText(this.text, this.description);
    this.body.replaceChildren(this.text);
  }

  async refresh() {
    if (this.#busy || !this.visible || document.hidden || this.#wanted === this.#shown) return;
    this.#busy = true;
    const time = this.#wanted;
    const image = new Image();
    image.alt = `Newest picture of ${this.name}`;
    image.src = `${this.url}?t=${encodeURIComponent(time)}`;
    try {
      // Decoded before it is swapped in: no flicker, no empty moment.
      await image.decode();
      this.body.replaceChildren(image);
      setAge(this.age, time);
    } catch {
      this.#noPicture = this.kind === UNKNOWN;
      this.#describe(time);
    }
    this.#shown = time;
    setTimeout(() => {
      this.#busy = false;
      this.refresh();
    }, EVERY_MS);
  }
}
