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

document.addEventListener("htmx:after:swap", () => {
  const editor = document.getElementById("shadow-editor");
  if (!editor) return;
  showWhetherStale(editor);
  // Each step replaces the editor, and the focus with it: go on where there is something to do.
  if (document.activeElement !== document.body) return;
  const places = ["[aria-invalid='true']", "#review", "textarea", "[aria-pressed='true']", ".notice[tabindex]"];
  places.map((place) => editor.querySelector(place)).find(Boolean)?.focus();
});

/** Whether somebody else changed what is desired since the editing began. */
function showWhetherStale(editor) {
  const note = editor.querySelector("#shadow-stale");
  if (note) note.hidden = note.dataset.desired === document.getElementById("shadow-board").dataset.desired;
}
