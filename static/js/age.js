// How long ago, by the server's clock: a browser's own may be wrong by minutes.

let offset_ms = Date.parse(document.documentElement.dataset.now ?? "") - Date.now() || 0;

export function setServerTime(text) {
  const error = Date.parse(text) - Date.now();
  // Less than a second is the way of the message, not the clock.
  if (Number.isFinite(error) && Math.abs(error - offset_ms) > 1000) offset_ms = error;
}

export const serverNow = () => Date.now() + offset_ms;

/** The same words as `age_text` in rendering.py. */
export function ageText(moment_ms, now_ms = serverNow()) {
  const seconds = Math.max(0, Math.floor((now_ms - moment_ms) / 1000));
  if (seconds >= 86400) return `${Math.floor(seconds / 86400)} d`;
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min`;
  return seconds >= 2 ? `${seconds} s` : "now";
}

export function setAge(element, moment) {
  if (!element || !moment || element.dataset.age === moment) return;
  element.dataset.age = moment;
  element.dateTime = moment;
  showAge(element);
}

function showAge(element) {
  const moment_ms = Date.parse(element.dataset.age);
  const text = Number.isNaN(moment_ms) ? "never" : ageText(moment_ms);
  if (element.textContent !== text) element.textContent = text;
}

export function startAges() {
  setInterval(() => {
    if (!document.hidden) document.querySelectorAll(".age").forEach(showAge);
  }, 1000);
}
