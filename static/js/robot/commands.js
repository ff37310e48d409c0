// Recent commands, newest first, each with its steps as they happen.
import { ageText } from "../age.js";
import { CommandForm } from "./command_form.js";
import { el, getJson, postJson, setText } from "./dom.js";

const KEPT = 500;
// The page asks these by itself; they would bury what people do.
const QUESTIONS = ["list_graph", "get_parameters"];
const ORDER = ["pending", "delivered", "acked", "in_progress"];
const WORDS = { pending: "Waiting", delivered: "Delivered", acked: "Accepted", in_progress: "Running", succeeded: "Succeeded", failed: "Failed", rejected: "Rejected", expired: "Expired", cancelled: "Cancelled", timed_out: "Timed out" };

/** How far a status is; what comes later never goes back. */
const rank = ({ status, late }) => (late ? 5 : ORDER.indexOf(status) + 1 || (status === "timed_out" ? 4 : 4.5));
const isFinal = (status) => !ORDER.includes(status);
const clock = (time) => `${new Date(time).toTimeString().slice(0, 8)}.${String(new Date(time).getMilliseconds()).padStart(3, "0")}`;
const oneLine = (value) => (value && Object.keys(value).length ? JSON.stringify(value) : "");

export class Commands {
  #rows = new Map();
  #fetched = new Map();
  #older = null;

  constructor({ panel, form, list, tools, deviceId }) {
    Object.assign(this, { list, deviceId, may: "may" in panel.dataset });
    const { type, status } = panel.dataset;
    this.form = form && new CommandForm({ box: form, tools, deviceId, type, status });
    this.empty = el("p", { class: "quiet" }, "No commands yet. What people and programs send to this robot is listed here, with each step.");
    this.more = el("button", { type: "button", class: "link older", hidden: true, onclick: () => this.#load(this.#older) }, "Older commands");
    list.append(this.empty, this.more);
  }

  setStatus(status) {
    this.form?.setStatus(status);
  }

  /** What happened while nobody listened. */
  async refresh() {
    await this.#load(null);
  }

  /** A step, as the live feed tells it. */
  async take(step) {
    if (QUESTIONS.includes(step.command)) return;
    const { command_id, at, ...told } = step;
    // The first step does not say what was asked; the server does.
    if (!this.#rows.has(command_id)) await this.#fetch(command_id);
    this.#rows.get(command_id)?.update(told, { status: step.status, at, detail: told });
  }

  #fetch(commandId) {
    if (!this.#fetched.has(commandId)) this.#fetched.set(commandId, this.#fetchOnce(commandId));
    return this.#fetched.get(commandId);
  }

  async #fetchOnce(commandId) {
    const command = await getJson(`/robots/${this.deviceId}/commands/${commandId}`).catch(() => null);
    this.#fetched.delete(commandId);
    if (!command) return;
    this.#show(command);
    if (this.#rows.size > KEPT) this.#forget(this.more.previousElementSibling);
  }

  async #load(cursor) {
    const query = cursor ? `?${new URLSearchParams({ cursor })}` : "";
    const page = await getJson(`/robots/${this.deviceId}/commands.json${query}`).catch(() => null);
    if (!page) return;
    page.items.forEach((command) => this.#show(command));
    if (cursor || !this.#older) this.#older = page.next_cursor;
    this.more.hidden = !this.#older;
  }

  #show(command) {
    if (QUESTIONS.includes(command.command)) return;
    const known = this.#rows.get(command.command_id);
    if (known) return known.update(command);
    const row = new CommandRow(command, this);
    this.#rows.set(command.command_id, row);
    this.empty.remove();
    // Ids sort by time.
    const after = [...this.list.children].find((one) => one === this.more || one.dataset.id < command.command_id);
    this.list.insertBefore(row.element, after);
  }

  #forget(element) {
    this.#rows.delete(element.dataset.id);
    element.remove();
  }
}

class CommandRow {
  #steps;

  constructor(command, { deviceId, form, may }) {
    Object.assign(this, { command, deviceId, form, may });
    this.#steps = command.steps ?? [];
    this.status = el("span", { class: "command-status" });
    this.bar = el("progress", { max: 1, hidden: true, "aria-label": "Progress" });
    this.brief = el("span", { class: "command-brief" });
    this.age = el("time", { class: "age", "data-age": command.created_at, datetime: command.created_at, title: new Date(command.created_at).toLocaleString() }, ageText(Date.parse(command.created_at)));
    this.body = el("div", { class: "command-body" });
    this.element = el(
      "details",
      { class: "command-row", "data-id": command.command_id },
      el("summary", {}, this.status, el("span", { class: "command-name" }, command.command), this.brief, this.bar, this.age),
      this.body,
    );
    this.element.addEventListener("toggle", () => this.element.open && this.#open());
    this.#draw();
  }

  update(told, step = null) {
    if (step) this.#addStep(step);
    if (rank(told) < rank(this.command)) return this.#drawBody();
    this.command = { ...this.command, ...told };
    if (told.steps) this.#steps = told.steps;
    this.#draw();
  }

  /** The database and the feed look at the clock at different moments, and progress is told again and again. */
  #addStep(step) {
    const known = this.#steps.find((one) => one.status === step.status && !one.refused);
    if (!known) this.#steps.push(step);
    else if (step.detail) known.detail = { ...known.detail, ...step.detail };
  }

  async #open() {
    this.#drawBody();
    const whole = await getJson(`/robots/${this.deviceId}/commands/${this.command.command_id}`).catch(() => null);
    if (!whole) return;
    this.#steps = whole.steps;
    this.update(whole);
  }

  #draw() {
    const { status, late, progress, data, error } = this.command;
    this.element.dataset.status = status;
    setText(this.status, (WORDS[status] ?? status) + (late ? ", late" : ""));
    setText(this.brief, error ? error.message || error.code : oneLine(data));
    this.bar.hidden = status !== "in_progress" || progress == null;
    if (progress != null) this.bar.value = progress;
    this.#drawBody();
  }

  #drawBody() {
    if (!this.element.open) return;
    const { data, result, error, created_by, command_id } = this.command;
    this.body.replaceChildren(
      el("ol", { class: "steps" }, ...this.#steps.map(stepLine)),
      el("dl", { class: "command-facts" }, ...fact("Data", data), ...fact("Result", result), ...fact("Error", error), ...fact("By", created_by), ...fact("Id", command_id)),
      this.#actions() ?? "",
    );
  }

  #actions() {
    if (!this.may) return null;
    const again = el("button", { type: "button", class: "button small", onclick: () => this.form.repeat(this.command) }, "Run again");
    const cancel = el("button", { type: "button", class: "button small", onclick: (event) => this.#cancel(event.target) }, "Cancel");
    return el("div", { class: "command-actions" }, isFinal(this.command.status) ? again : cancel);
  }

  async #cancel(button) {
    button.disabled = true;
    setText(button, "Cancelling…");
    try {
      this.update(await postJson(`/robots/${this.deviceId}/commands/${this.command.command_id}/cancel`));
    } catch (error) {
      button.replaceWith(el("span", { class: "form-note", "data-state": "bad" }, error.message));
    }
  }
}

function stepLine({ status, at, detail, refused }) {
  const said = detail?.error?.message ?? detail?.error?.code ?? (detail?.progress == null ? "" : `${Math.round(detail.progress * 100)} %`);
  return el(
    "li",
    { "data-status": status },
    el("time", { datetime: at, title: new Date(at).toLocaleString() }, clock(at)),
    el("span", {}, WORDS[status] ?? status),
    el("span", { class: "step-said" }, refused ? `refused: ${refused}` : said),
  );
}

function fact(name, value) {
  if (value == null || value === "") return [];
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [el("dt", {}, name), el("dd", {}, el("pre", {}, text))];
}
