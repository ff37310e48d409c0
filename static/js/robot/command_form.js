// Sending a command: by a typed form where the robot says what it offers, by name and JSON otherwise.
import { el, getJson, postJson, setText } from "./dom.js";
import { fieldsFor, parsed } from "./forms.js";

const KINDS = [["service", "Services"], ["action", "Actions"], ["builtin", "Built in"]];
const OTHER = "\u0000other";
const REACHABLE = ["online", "error", "maintenance"];
// These are asked by the page itself, where they belong.
const ASKED_ELSEWHERE = ["list_graph", "get_parameters", "set_parameters", "cancel"];
// Devices without a bridge offer nothing, and would be waited for in vain.
const HAVE_A_BRIDGE = ["ros2_robot", "gateway"];

export class CommandForm {
  #offers = [];
  #read = () => ({});
  #asking = null;

  constructor({ box, tools, deviceId, type, status }) {
    Object.assign(this, { box, deviceId, type, status });
    this.key = `rosfit-offers-${deviceId}`;
    this.choice = el("select", { "aria-label": "Command", onchange: () => this.#choose() });
    this.fields = el("div", { class: "typed-fields" });
    this.timeout = el("input", { type: "number", min: 1, max: 86400, step: "any", value: 30, required: true });
    this.send = el("button", { type: "submit", class: "button primary" }, "Send");
    this.note = el("p", { class: "form-note", role: "status" });
    this.queue = el("button", { type: "button", class: "button small", hidden: true, onclick: () => this.#submit(true) }, "Queue it for when it is back");
    this.help = el("p", { class: "form-help" });
    const timeout = el("label", { class: "typed timeout" }, el("span", {}, "Time limit", el("em", {}, "s")), this.timeout);
    this.form = el("form", {}, el("div", { class: "form-row" }, this.choice, timeout, this.send), this.help, this.fields, el("div", { class: "form-foot" }, this.note, this.queue));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(false);
    });
    box.append(this.form);
    this.ask = el("button", { type: "button", class: "button small", onclick: () => this.#askRobot() }, "Ask what it offers");
    tools.append(this.ask);
    this.#showOffers(this.#remembered() ?? []);
    this.setStatus(status);
    new IntersectionObserver(([seen]) => seen.isIntersecting && this.#askOnce()).observe(box);
  }

  setStatus(status) {
    this.status = status;
    setText(this.send, REACHABLE.includes(status) ? "Send" : "Queue");
    this.send.title = REACHABLE.includes(status) ? "" : `The robot is ${status}: the command waits for it, 24 hours at most`;
  }

  /** Send it as it was sent before. */
  async repeat({ command, data, timeout_s }) {
    await this.#post({ command, data, timeout_s }, false);
  }

  #remembered() {
    try {
      return JSON.parse(sessionStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  /** By itself once for each tab: asking is a command of its own, and the robot has other things to do. */
  #askOnce() {
    if (this.#asking || this.#offers.length || !HAVE_A_BRIDGE.includes(this.type) || !REACHABLE.includes(this.status)) return;
    this.#askRobot();
  }

  async #askRobot() {
    setText(this.ask, "Asking…");
    this.ask.disabled = true;
    try {
      this.#asking = getJson(`/robots/${this.deviceId}/offers.json`);
      const { commands = [] } = (await this.#asking) ?? {};
      const offers = commands.filter(({ name }) => !ASKED_ELSEWHERE.includes(name));
      this.#showOffers(offers);
      this.#remember(offers);
    } catch (error) {
      this.#say("bad", `It does not say what it offers: ${error.message}. Commands can be sent by name all the same.`);
    }
    this.ask.disabled = false;
    setText(this.ask, this.#offers.length ? "Ask again" : "Ask what it offers");
  }

  #remember(offers) {
    try {
      sessionStorage.setItem(this.key, JSON.stringify(offers));
    } catch {
      // Storage may be blocked or full: the robot is asked again with the next page.
    }
  }

  #showOffers(offers) {
    const typed = this.fields.querySelector("input")?.value;
    const before = this.choice.value === OTHER && !typed ? "" : this.choice.value;
    this.#offers = offers;
    const groups = KINDS.map(([kind, label]) => [label, offers.filter((offer) => offer.kind === kind)]).filter(([, some]) => some.length);
    // What a robot does is chosen on purpose: nothing is ready to be sent by itself.
    const choose = el("option", { value: "", disabled: true, selected: true }, "Choose a command…");
    this.choice.replaceChildren(
      ...(offers.length ? [choose] : []),
      ...groups.map(([label, some]) => el("optgroup", { label }, ...some.map(({ name }) => el("option", { value: name }, name)))),
      el("option", { value: OTHER }, offers.length ? "Another, by name…" : "By name"),
    );
    if ([...this.choice.options].some((option) => option.value === before)) this.choice.value = before;
    setText(this.ask, offers.length ? "Ask again" : "Ask what it offers");
    this.#choose();
  }

  #choose() {
    const offer = this.#offers.find(({ name }) => name === this.choice.value);
    setText(this.help, [offer?.type, offer?.help].filter(Boolean).join(": "));
    this.help.hidden = !this.help.textContent;
    this.send.disabled = !this.choice.value;
    if (offer) this.#showTyped(offer);
    else if (this.choice.value) this.#showGeneric();
    else this.fields.replaceChildren();
  }

  #showTyped(offer) {
    const { elements, read } = fieldsFor(offer.request);
    this.fields.replaceChildren(...elements);
    this.#read = () => ({ command: offer.name, data: read() });
  }

  #showGeneric() {
    const name = el("input", { type: "text", required: true, pattern: "[A-Za-z0-9_][A-Za-z0-9_.\\/\\-]{0,99}", title: "Letters, digits and _ . / -", placeholder: "navigate_to", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    const data = el("textarea", { rows: 3, class: "mono", spellcheck: "false" }, "{}");
    this.fields.replaceChildren(
      el("label", { class: "typed wide" }, el("span", {}, "Name"), name),
      el("label", { class: "typed wide" }, el("span", {}, "Data", el("em", {}, "JSON object")), data),
    );
    this.#read = () => {
      const value = parsed("Data", data.value || "{}");
      if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error('Data is a JSON object, such as {"x": 1}');
      return { command: name.value, data: value };
    };
  }

  async #submit(queue) {
    try {
      const wanted = { ...this.#read(), timeout_s: Number(this.timeout.value) };
      await this.#post(wanted, queue || !REACHABLE.includes(this.status));
    } catch (error) {
      this.#say("bad", error.message);
    }
  }

  async #post(wanted, queue) {
    this.send.disabled = true;
    this.#say("", "");
    try {
      await postJson(`/robots/${this.deviceId}/commands`, { ...wanted, queue });
      this.#say("good", queue ? `${wanted.command} waits for the robot` : `${wanted.command} sent`);
    } catch (error) {
      this.#say("bad", error.status ? `${error.message}.` : "Not sent: the server does not answer.");
      this.queue.hidden = error.code !== "DEVICE_OFFLINE";
    }
    this.send.disabled = !this.choice.value;
  }

  #say(state, text) {
    this.queue.hidden = true;
    this.note.dataset.state = state;
    setText(this.note, text);
  }
}
