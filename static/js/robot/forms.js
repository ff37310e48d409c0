// Inputs for a message, made from its definition: {field: type, nested: {…}, list: [type], array: [type, length]}.
import { el } from "./dom.js";

const WHOLE = /^(u?int(8|16|32|64)|byte|char|octet|(unsigned )?(short|long( long)?))$/;
const BROKEN = /^(float(32|64)?|(long )?double)$/;
const TEXT = /^w?string/;
const SIDE_BY_SIDE = 9;

const RANGES = { int8: [-128, 127], uint8: [0, 255], byte: [0, 255], int16: [-32768, 32767], uint16: [0, 65535], int32: [-2147483648, 2147483647], uint32: [0, 4294967295] };

/** {element, read}: `read()` is the value, and throws an Error that names the field when it cannot be. */
export function fieldFor(name, type) {
  if (Array.isArray(type)) return type.length > 1 ? arrayField(name, ...type) : listField(name, type[0]);
  if (type !== null && typeof type === "object") return groupField(name, type);
  if (/\]$|^sequence/.test(type)) return jsonField(name, type, "[]");
  if (/^bool(ean)?$/.test(type)) return boolField(name);
  if (WHOLE.test(type)) return numberField(name, type, 1);
  if (BROKEN.test(type)) return numberField(name, type, "any");
  if (TEXT.test(type)) return textField(name, type);
  return jsonField(name, type, "{}");
}

/** All fields of a message side by side; an empty definition has none. */
export function fieldsFor(definition) {
  const fields = Object.entries(definition ?? {}).map(([name, type]) => [name, fieldFor(name, type)]);
  return {
    elements: fields.map(([, field]) => field.element),
    read: () => Object.fromEntries(fields.map(([name, field]) => [name, field.read()])),
  };
}

function labelled(name, type, input, kind = "") {
  return el("label", { class: `typed ${kind}` }, el("span", {}, name, el("em", {}, type)), input);
}

function boolField(name) {
  const input = el("input", { type: "checkbox", name });
  return { element: el("label", { class: "typed check" }, input, el("span", {}, name)), read: () => input.checked };
}

function numberField(name, type, step) {
  const [min, max] = RANGES[type] ?? [type.startsWith("u") ? 0 : null, null];
  const input = el("input", { type: "number", name, step, min, max, value: 0, required: true, inputmode: step === 1 ? "numeric" : "decimal" });
  const read = () => {
    const value = Number(input.value);
    // Beyond 2^53 the text is exact, and the number is not.
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? input.value : value;
  };
  return { element: labelled(name, type, input), read };
}

function textField(name, type) {
  const input = el("input", { type: "text", name, autocomplete: "off", spellcheck: "false" });
  return { element: labelled(name, type, input), read: () => input.value };
}

function jsonField(name, type, value) {
  const input = el("input", { type: "text", name, value, class: "mono", autocomplete: "off", spellcheck: "false" });
  return { element: labelled(name, `${type}, as JSON`, input, "wide"), read: () => parsed(name, input.value) };
}

function groupField(name, definition) {
  const { elements, read } = fieldsFor(definition);
  // All zeros are no rotation that a robot could take.
  if (Object.keys(definition).sort().join() === "w,x,y,z") elements.forEach((one) => one.querySelectorAll("[name=w]").forEach((input) => (input.value = 1)));
  return { element: el("fieldset", { class: "typed-group" }, el("legend", {}, name), ...elements), read };
}

/** As many as the type says: side by side, and as JSON where they are more than a matrix of 3 by 3. */
function arrayField(name, type, length) {
  if (length > SIDE_BY_SIDE) return jsonField(name, `${length} × ${typeof type === "string" ? type : "object"}`, JSON.stringify(Array(length).fill(fieldFor(name, type).read())));
  const items = Array.from({ length }, (_, number) => fieldFor(String(number), type));
  const element = el("fieldset", { class: "typed-group array" }, el("legend", {}, name), ...items.map((item) => item.element));
  return { element, read: () => items.map((item) => item.read()) };
}

function listField(name, type) {
  const items = new Map();
  const add = el("button", { type: "button", class: "button small" }, "Add");
  const element = el("fieldset", { class: "typed-group list" }, el("legend", {}, name), add);
  add.addEventListener("click", () => {
    const item = fieldFor(String(items.size), type);
    const remove = el("button", { type: "button", class: "link" }, "Remove");
    const row = el("div", { class: "typed-item" }, item.element, remove);
    remove.addEventListener("click", () => {
      items.delete(row);
      row.remove();
    });
    items.set(row, item);
    add.before(row);
  });
  return { element, read: () => [...items.values()].map((item) => item.read()) };
}

/** Raises an Error that names the field. */
export function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is not JSON: ${error.message}`);
  }
}
