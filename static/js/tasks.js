// The tasks page asks for its lists again when something happened to a command.
document.addEventListener("tasks-changed", (event) => {
  const board = document.getElementById("task-board");
  // The event that htmx dispatches on the board itself comes by here, too.
  if (board && event.target !== board) htmx.trigger(board, "tasks-changed");
});

const error = document.getElementById("task-error");
new MutationObserver(() => (error.hidden = !error.textContent.trim())).observe(error, { childList: true });
