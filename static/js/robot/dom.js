// Making elements without innerHTML: what a robot sends is text, never markup.

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Run `draw` before the next paint, once however often it was asked for. */
export function oncePerFrame(draw) {
  let asked = 0;
  return () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  };
}

export async function getJson(url, signal) {
  return read(await fetch(url, { headers: { Accept: "application/json" }, signal }));
}

/** A refusal is an Error with the server's `code`; one without `status` means that nobody answered. */
export async function postJson(url, body = {}) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  return read(await fetch(url, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function read(answer) {
  if (answer.ok) return answer.json();
  const { detail, code } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(detail ?? `HTTP ${answer.status}`), { code, status: answer.status });
}
