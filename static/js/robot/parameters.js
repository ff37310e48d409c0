// ROS parameters by node, as the robot has them now; changed in place, and followed when the robot changes them.
import { el, getJson, postJson, setText } from "./dom.js";

export class Parameters {
  #rows = new Map();
  #edited = null;

  constructor({ panel, nodes, tools, deviceId }) {
    Object.assign(this, { nodes, deviceId, may: "may" in panel.dataset });
    this.search = el("input", { type: "search", class: "small", placeholder: "Filter", "aria-label": "Filter parameters", hidden: true, oninput: () => this.#filter() });
    this.read = el("button", { type: "button", class: "button small", onclick: () => this.#ask() }, "Read from the robot");
    tools.append(this.search, this.read);
    nodes.append(el("p", { class: "quiet" }, "The robot is asked for its parameters when you want to see them."));
  }

  /** {node, name, old_value, new_value}: somebody changed it, perhaps the robot itself. */
  follow({ node, name, new_value }) {
    this.#rows.get(`${node}\n${name}`)?.change(new_value);
  }

  async #ask() {
    this.read.disabled = true;
    setText(this.read, "Asking…");
    try {
      this.#show(await getJson(`/robots/${this.deviceId}/parameters.json`));
    } catch (error) {
      this.#rows.clear();
      this.nodes.replaceChildren(el("p", { class: "quiet bad", role: "alert" }, `${error.message}.`));
    }
    this.read.disabled = false;
    setText(this.read, "Read again");
  }

  #show(values) {
    this.#rows.clear();
    const nodes = Object.entries(values ?? {}).sort(([a], [b]) => a.localeCompare(b));
    this.search.hidden = !nodes.length;
    this.nodes.replaceChildren(...nodes.map(([node, parameters]) => this.#table(node, parameters)));
    if (!nodes.length) this.nodes.append(el("p", { class: "quiet" }, "The bridge's configuration names no node whose parameters may be read."));
    this.#filter();
  }

  #table(node, parameters) {
    const rows = Object.entries(parameters).sort(([a], [b]) => a.localeCompare(b)).map(([name, value]) => this.#row(node, name, value));
    return el("details", { class: "node", open: true }, el("summary", {}, el("span", { class: "node-name", title: node }, node), el("span", { class: "count" }, String(rows.length))), el("div", { class: "node-rows" }, ...rows));
  }

  #row(node, name, value) {
    const row = new Parameter({ node, name, value, may: this.may, onSave: (wanted) => postJson(`/robots/${this.deviceId}/parameters`, { node, name, value: wanted }), onEdit: (one) => this.#edit(one) });
    this.#rows.set(`${node}\n${name}`, row);
    return row.element;
  }

  #edit(row) {
    if (this.#edited !== row) this.#edited?.cancel();
    this.#edited = row;
  }

  #filter() {
    const text = this.search.value.toLowerCase();
    for (const { element, node, name } of this.#rows.values()) element.hidden = !`${node} ${name}`.toLowerCase().includes(text);
  }
}

class Parameter {
  constructor({ node, name, value, may, onSave, onEdit }) {
    Object.assign(this, { node, name, value, may, onSave, onEdit });
    this.slot = el("div", { class: "parameter-value" });
    this.note = el("p", { class: "form-note", role: "status" });
    this.element = el("div", { class: "parameter" }, el("span", { class: "parameter-name", title: name }, name), this.slot, this.note);
    this.#showValue();
  }

  change(value) {
    this.value = value;
    if (!this.form) this.#showValue();
    this.#say("good", `changed ${new Date().toTimeString().slice(0, 8)}`);
    this.element.classList.remove("changed");
    requestAnimationFrame(() => this.element.classList.add("changed"));
  }

  cancel() {
    this.form = null;
    this.#showValue();
  }

  #showValue() {
    const text = typeof this.value === "string" ? this.value || "“”" : JSON.stringify(this.value);
    if (!this.may) return this.slot.replaceChildren(el("span", { class: "parameter-text" }, text));
    this.slot.replaceChildren(el("button", { type: "button", class: "parameter-text", title: "Change it", "aria-label": `${this.name}: ${text}. Change it`, onclick: () => this.#edit() }, text));
  }

  #edit() {
    this.onEdit(this);
    this.#say("", "");
    const input = inputFor(this.value);
    input.setAttribute("aria-label", this.name);
    this.form = el("form", { class: "parameter-form" }, input, el("button", { class: "button small primary" }, "Set"), el("button", { type: "button", class: "button small", onclick: () => this.cancel() }, "Cancel"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save(input);
    });
    this.form.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
    this.slot.replaceChildren(this.form);
    input.focus();
    input.select?.();
  }

  async #save(input) {
    const form = this.form;
    try {
      const wanted = valueOf(input, this.value);
      for (const control of form.elements) control.disabled = true;
      this.#say("", "Setting…");
      const { params } = await this.onSave(wanted);
      this.form = null;
      this.change(params?.[0]?.new_value ?? wanted);
      this.#showValue();
    } catch (error) {
      for (const control of form.elements) control.disabled = false;
      this.#say("bad", error.message);
    }
  }

  #say(state, text) {
    this.note.dataset.state = state;
    setText(this.note, text);
  }
}

function inputFor(value) {
  if (typeof value === "boolean") {
    const input = el("select", {}, el("option", { value: "true" }, "true"), el("option", { value: "false" }, "false"));
    input.value = String(value);
    return input;
  }
  if (typeof value === "number") return el("input", { type: "number", step: "any", value, required: true });
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return el("input", { type: "text", value: text, spellcheck: "false", autocomplete: "off" });
}

/** Of the kind that the parameter has now. Throws an Error for what is none. */
function valueOf(input, before) {
  if (typeof before === "boolean") return input.value === "true";
  if (typeof before === "number") return Number(input.value);
  if (typeof before === "string") return input.value;
  try {
    return JSON.parse(input.value);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
}
