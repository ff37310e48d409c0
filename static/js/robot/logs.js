// The tail of the log: newest last, following the end unless somebody reads further up or pauses.
import { el, getJson, setText } from "./dom.js";

const LINES = 1000;
const LEVELS = ["debug", "info", "warn", "error", "fatal"];
const CHOICES = [["debug", "All levels"], ["info", "Info and above"], ["warn", "Warnings and errors"], ["error", "Errors only"]];

export class Logs {
  #waiting = [];
  #paused = false;
  #cursor = null;

  constructor({ box, tools, deviceId }) {
    Object.assign(this, { box, deviceId, least: "debug" });
    this.filter = el("select", { "aria-label": "Levels shown" }, ...CHOICES.map(([level, name]) => el("option", { value: level }, name)));
    this.filter.addEventListener("change", () => this.#refilter());
    this.pause = el("button", { type: "button", class: "button small", "aria-pressed": "false", onclick: () => this.#toggle() }, "Pause");
    tools.append(this.filter, this.pause);
    this.older = el("button", { type: "button", class: "link", onclick: () => this.#loadOlder() }, "Load older lines");
    this.olderRow = el("p", { class: "quiet" }, this.older);
    this.empty = el("p", { class: "quiet" }, "No log lines yet. The bridge sends /rosout; other devices publish on log.");
  }

  /** The newest page, newest first, as the server gives it. */
  replace({ items, next_cursor }) {
    this.#cursor = next_cursor;
    this.box.replaceChildren(...(next_cursor ? [this.olderRow] : []), ...items.map(lineOf).reverse());
    this.#applyFilter(this.box.children);
    this.#toEnd();
  }

  add(lines) {
    if (this.#paused) {
      this.#waiting = [...this.#waiting, ...lines].slice(-LINES);
      return setText(this.pause, `Resume (${this.#waiting.length})`);
    }
    const following = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    const added = lines.map(lineOf);
    this.#applyFilter(added);
    this.box.append(...added);
    while (this.box.childElementCount > LINES) this.box.firstElementChild.remove();
    if (following) this.#toEnd();
    this.#showEmpty();
  }

  #toggle() {
    this.#paused = !this.#paused;
    this.pause.setAttribute("aria-pressed", String(this.#paused));
    setText(this.pause, this.#paused ? "Resume" : "Pause");
    if (this.#paused) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.add(waiting);
    this.#toEnd();
  }

  async #loadOlder() {
    const query = new URLSearchParams({ cursor: this.#cursor });
    const page = await getJson(`/robots/${this.deviceId}/logs.json?${query}`).catch((error) => setText(this.older, `${error.message}. Try again`));
    if (!page) return;
    const height = this.box.scrollHeight;
    const added = page.items.map(lineOf).reverse();
    this.#applyFilter(added);
    this.olderRow.after(...added);
    this.#cursor = page.next_cursor;
    if (!page.next_cursor) this.olderRow.remove();
    this.box.scrollTop += this.box.scrollHeight - height;
  }

  #refilter() {
    this.least = this.filter.value;
    this.#applyFilter(this.box.children);
    this.#toEnd();
  }

  #applyFilter(lines) {
    const least = LEVELS.indexOf(this.least);
    for (const line of lines) if (line.dataset.level) line.hidden = LEVELS.indexOf(line.dataset.level) < least;
    this.#showEmpty();
  }

  #showEmpty() {
    const some = this.box.querySelector(".log-line");
    if (some) this.empty.remove();
    else if (!this.empty.isConnected) this.box.append(this.empty);
  }

  #toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }
}

const WORDS = { warning: "warn", critical: "fatal", err: "error" };

function lineOf({ time, level, message, logger, fields }) {
  const known = level.toLowerCase();
  const name = WORDS[known] ?? known;
  const at = new Date(time);
  const extra = fields && Object.keys(fields).length ? JSON.stringify(fields) : "";
  return el(
    "div",
    { class: "log-line", "data-level": LEVELS.includes(name) ? name : "info", title: extra },
    el("time", { datetime: time, title: at.toLocaleString() }, at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0")),
    el("span", { class: "log-level" }, name),
    el("span", { class: "logger", title: logger }, logger),
    el("span", { class: "text" }, message),
  );
}
