// Status, battery and age as the server's templates draw them (parts.html), kept up to date.

export function setStatus(element, status, reason) {
  if (!element) return;
  element.dataset.status = status;
  element.title = (reason ?? "").replaceAll("_", " ");
  element.querySelector(".word").textContent = status.charAt(0).toUpperCase() + status.slice(1);
}

export function setBattery(element, percent) {
  if (!element || percent == null) return;
  element.dataset.level = percent < 20 ? "low" : percent < 40 ? "mid" : "good";
  element.querySelector("rect").setAttribute("width", percent);
  element.querySelector(".battery-text").textContent = `${Math.round(percent)} %`;
}
