// The choice of time: the last minutes or hours, or from and to.
import { el } from "./dom.js";
import { SPANS } from "./url.js";
import { serverNow } from "../age.js";

export class RangeTools {
  constructor(shown, onChoose, onZoomOut) {
    Object.assign(this, { shown, onChoose });
    this.spans = Object.keys(SPANS).map((span) => el("button", { type: "button", onclick: () => this.#choose({ span }) }, span.replace(/[mh]/, (unit) => (unit === "m" ? " min" : " h"))));
    this.own = el("button", { type: "button", popovertarget: "own-range" }, "Range…");
    this.zoomOut = el("button", { type: "button", class: "button small", onclick: onZoomOut, hidden: true }, "Zoom out");
    this.element = el("div", { class: "panel-tools" }, this.zoomOut, el("div", { class: "segmented", role: "group", "aria-label": "Time shown" }, ...this.spans, this.own));
    this.from = el("input", { type: "datetime-local", step: "1", required: true });
    this.to = el("input", { type: "datetime-local", step: "1", required: true });
    this.dialog = el("div", { id: "own-range", class: "picker", popover: "auto", role: "dialog", "aria-label": "Own range" }, this.#form());
    this.dialog.addEventListener("toggle", (event) => event.newState === "open" && this.#opened());
    this.#mark();
  }

  showZoom(zoomed) {
    this.zoomOut.hidden = !zoomed;
  }

  #form() {
    const field = (name, input) => el("label", { class: "field-block" }, el("span", {}, name), input);
    const form = el("form", { class: "range-form" }, field("From", this.from), field("To", this.to), el("button", { class: "button primary" }, "Show"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const [from, to] = [this.from, this.to].map((input) => new Date(input.value).getTime());
      this.to.setCustomValidity(from < to ? "" : "The end must be after the beginning");
      if (!form.reportValidity()) return;
      this.dialog.hidePopover();
      this.#choose({ from, to });
    });
    form.addEventListener("input", () => this.to.setCustomValidity(""));
    return form;
  }

  #opened() {
    place(this.dialog, this.own);
    const now = serverNow();
    const { from = now - (SPANS[this.shown.span] ?? 0), to = now } = this.shown;
    this.from.value = localText(from);
    this.to.value = localText(to);
  }

  #choose(shown) {
    this.shown = shown;
    this.#mark();
    this.onChoose(shown);
  }

  #mark() {
    Object.keys(SPANS).forEach((span, at) => this.spans[at].setAttribute("aria-pressed", String(this.shown.span === span)));
    this.own.setAttribute("aria-pressed", String(Boolean(this.shown.from)));
  }
}

/** What an input of type datetime-local takes: local time without an offset. */
function localText(time_ms) {
  const at = new Date(time_ms);
  return new Date(time_ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** Puts a popover under its button, inside the window. */
export function place(popover, button) {
  const { bottom, right, top } = button.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const below = bottom + 6 + height <= innerHeight;
  popover.style.left = `${Math.max(12, Math.min(right - width, innerWidth - width - 12))}px`;
  popover.style.top = `${below ? bottom + 6 : Math.max(12, top - height - 6)}px`;
}
