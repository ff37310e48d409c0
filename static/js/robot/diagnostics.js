// diagnostic_msgs/DiagnosticArray: the newest word of each component, the worst first.
import { serverNow } from "../age.js";
import { el, setText } from "./dom.js";

const LEVELS = ["ok", "warn", "error", "stale"];
const WORST_FIRST = ["error", "stale", "warn", "ok"];
// Components report about once a second; one that has not for this long is stale.
const STALE_MS = 30_000;

export const isDiagnostics = (payload) => Array.isArray(payload?.status) && payload.status.every((one) => one && "level" in one && "name" in one);

export class Diagnostics {
  #components = new Map();

  constructor({ panel, list, note }) {
    Object.assign(this, { panel, list, note });
    setInterval(() => this.#draw(), 5000);
  }

  update(stream, { time, payload }) {
    for (const status of payload.status) this.#take(`${stream}\n${status.name}`, status, Date.parse(time));
    this.panel.hidden = false;
    this.#draw();
  }

  #take(id, status, time_ms) {
    let component = this.#components.get(id);
    if (!component) this.#components.set(id, (component = new Component(status.name)));
    component.update(status, time_ms);
  }

  #draw() {
    const components = [...this.#components.values()];
    for (const component of components) component.show();
    const order = components.sort((a, b) => WORST_FIRST.indexOf(a.level) - WORST_FIRST.indexOf(b.level) || a.name.localeCompare(b.name));
    order.forEach(({ element }, at) => {
      if (this.list.children[at] !== element) this.list.insertBefore(element, this.list.children[at] ?? null);
    });
    const counts = WORST_FIRST.map((level) => [level, components.filter((one) => one.level === level).length]).filter(([, count]) => count);
    setText(this.note, counts.map(([level, count]) => `${count} ${level}`).join(" · "));
  }
}

class Component {
  constructor(name) {
    this.name = name;
    this.mark = el("span", { class: "level" });
    this.message = el("span", { class: "message" });
    this.values = el("dl");
    this.element = el("li", {}, el("details", { class: "diagnostic" }, el("summary", {}, this.mark, el("span", { class: "name", title: name }, name), this.message), this.values));
  }

  get level() {
    return serverNow() - this.time_ms > STALE_MS ? "stale" : (LEVELS[this.status.level] ?? "stale");
  }

  update(status, time_ms) {
    Object.assign(this, { status, time_ms });
  }

  show() {
    this.mark.dataset.level = this.level;
    setText(this.mark, this.level.toUpperCase());
    setText(this.message, this.status.message ?? "");
    const pairs = (this.status.values ?? []).flatMap(({ key, value }) => [key, value]).map(String);
    const shown = [...this.values.children].map((cell) => cell.textContent);
    if (pairs.join("\n") === shown.join("\n")) return;
    this.values.replaceChildren(...pairs.map((text, at) => el(at % 2 ? "dd" : "dt", {}, text)));
  }
}
