// Pages about updates: they ask again when something happened, and an upload shows how far it has come.

document.addEventListener("updates-changed", (event) => {
  // The event that htmx dispatches on each of them comes by here, too.
  if (event.target.matches("[data-live-board]")) return;
  for (const board of document.querySelectorAll("[data-live-board]")) htmx.trigger(board, "updates-changed");
});

// Whoever fills in one of several choices means it.
document.addEventListener("input", (event) => {
  const radio = event.target.closest(".choice-row")?.querySelector("[type=radio]");
  if (radio) radio.checked = true;
});

const dialog = document.getElementById("add-dialog");

// What was confirmed is done: its answer went into the page behind. A form that was refused has been replaced.
document.addEventListener("htmx:after:swap", (event) => {
  if (!event.target.matches("[data-closes-dialog]")) return;
  // First empty: what is in the dialog after a swap is shown.
  document.getElementById("dialog-body").replaceChildren();
  dialog.close();
});

let upload = null;
dialog.addEventListener("close", () => upload?.abort());

document.addEventListener("submit", (event) => {
  const form = event.target.closest("#upload-form");
  if (!form) return;
  event.preventDefault();
  send(form);
});

function send(form) {
  const show = progressOf(form);
  form.querySelector("#upload-problem").hidden = true;
  form.querySelector("[type=submit]").disabled = true;
  upload = new XMLHttpRequest();
  upload.open("POST", form.action);
  upload.responseType = "json";
  upload.upload.addEventListener("progress", (event) => event.lengthComputable && show(event.loaded, event.total));
  upload.addEventListener("load", () => ended(form, upload.status, upload.response));
  upload.addEventListener("error", () => ended(form, 0, null));
  upload.send(bodyOf(form));
}

/** Fields before the file, so that what is wrong with them is known first; the types as one field. */
function bodyOf(form) {
  const given = new FormData(form);
  const body = new FormData();
  for (const name of ["name", "version", "from_versions", "release_notes"]) body.append(name, given.get(name));
  body.append("device_types", given.getAll("device_types").join(","));
  body.append("file", given.get("file"));
  return body;
}

function progressOf(form) {
  const row = form.querySelector("#upload-progress");
  row.hidden = false;
  return (loaded, total) => {
    row.querySelector("progress").value = (100 * loaded) / total;
    const mega = (bytes) => (bytes / 1048576).toFixed(1);
    row.querySelector("span").textContent =
      loaded < total ? `${mega(loaded)} of ${mega(total)} MB` : "Checking and signing…";
  };
}

function ended(form, status, answer) {
  if (status === 200) {
    location.assign(answer.location);
    return;
  }
  const problem = form.querySelector("#upload-problem");
  problem.textContent = answer?.problem ?? answer?.detail ?? "The server did not answer. Try again.";
  problem.hidden = false;
  form.querySelector("#upload-progress").hidden = true;
  form.querySelector("[type=submit]").disabled = false;
}
