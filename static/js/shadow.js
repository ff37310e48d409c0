// A robot's shadow asks for itself again when it has another version.

function askAgain() {
  for (const element of document.querySelectorAll("[hx-trigger~='shadow-changed']")) htmx.trigger(element, "shadow-changed");
}

document.addEventListener("shadow-changed", (event) => {
  // The event that is dispatched on each of them comes by here, too.
  if (!event.target.matches("[hx-trigger~='shadow-changed']")) askAgain();
});

// After a break it may have changed unseen.
document.addEventListener("htmx:sse:after:connection", (event) => {
  if (event.detail.connection.attempt > 0) askAgain();
});

// Each step replaces the editor, and the focus with it: go on where there is something to do.
document.addEventListener("htmx:after:swap", () => {
  if (document.activeElement !== document.body) return;
  document.querySelector("#shadow-editor :is([aria-invalid='true'], #review, [aria-pressed='true'])")?.focus();
});
