// Choosing fields: every number of the newest samples, by stream, with a search.
import { el } from "./dom.js";
import { NumberFormat } from "./fields.js";
import { place } from "./ranges.js";

export class Picker {
  constructor({ numbersOf, isShown, onPick }) {
    Object.assign(this, { numbersOf, isShown, onPick });
    this.button = el("button", { type: "button", class: "button small", popovertarget: "field-picker" }, "Fields");
    this.search = el("input", { type: "search", placeholder: "Search fields", "aria-label": "Search fields", autocomplete: "off", oninput: () => this.#fill() });
    this.list = el("div", { class: "picker-list", role: "menu", "aria-label": "Fields" });
    this.element = el("div", { id: "field-picker", class: "picker", popover: "auto" }, el("div", { class: "picker-search" }, this.search), this.list);
    this.element.addEventListener("toggle", (event) => event.newState === "open" && this.#opened());
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  #opened() {
    this.search.value = "";
    this.#fill();
    place(this.element, this.button);
    this.search.focus();
  }

  #fill() {
    const words = this.search.value.toLowerCase().split(/\s+/);
    const groups = [];
    for (const [stream, leaves] of this.numbersOf()) {
      const fitting = leaves.filter((leaf) => words.every((word) => `${stream} ${leaf.key}`.toLowerCase().includes(word)));
      if (fitting.length) groups.push(el("h3", {}, stream), ...fitting.map((leaf) => this.#option(stream, leaf)));
    }
    this.list.replaceChildren(...(groups.length ? groups : [el("p", { class: "quiet" }, "No number is called that.")]));
  }

  #option(stream, leaf) {
    const format = new NumberFormat(leaf.unit);
    const option = el(
      "button",
      { type: "button", role: "menuitemcheckbox", "aria-checked": String(this.isShown(stream, leaf.key)) },
      el("i", { class: "check" }),
      el("span", { class: "path-text", title: leaf.key }, leaf.label.join(".")),
      el("span", { class: "value" }, `${format.text(leaf.value)} ${format.suffix}`),
    );
    option.addEventListener("click", () => {
      this.onPick(stream, leaf.key);
      option.setAttribute("aria-checked", String(this.isShown(stream, leaf.key)));
    });
    return option;
  }

  #key(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const stops = [this.search, ...this.list.querySelectorAll("button")];
    const next = stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    stops[Math.max(0, Math.min(stops.length - 1, next))].focus();
  }
}
