// What every page has: ages that tick, the theme, the dialog, copying, and word of a lost connection.
import { startAges } from "./age.js";

startAges();

const themes = document.getElementById("theme");
if (themes) {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  themes.querySelector(`input[value="${chosen}"]`).checked = true;
  themes.addEventListener("change", (event) => setTheme(event.target.value));
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("rosfit-theme", theme);
  } catch {
    // Storage may be blocked: the choice then lasts as long as the page.
  }
  dispatchEvent(new Event("rosfit:theme"));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("rosfit:theme")));

const dialog = document.getElementById("add-dialog");
const dialogBody = document.getElementById("dialog-body");
if (dialog) {
  let shown = null;
  document.addEventListener("htmx:after:swap", () => {
    const content = dialogBody.firstElementChild;
    if (content && !dialog.open) dialog.showModal();
    // Parts of it may be replaced all the time: that takes the focus from nobody.
    if (content && content !== shown) firstOf(dialogBody, "[aria-invalid='true']", "[autofocus]", "[data-copy]", "input", "button")?.focus();
    shown = content;
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close-dialog]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialogBody.replaceChildren();
    document.dispatchEvent(new Event("rosfit:dialog-closed"));
  });
}

function firstOf(root, ...selectors) {
  return selectors.map((selector) => root.querySelector(selector)).find(Boolean);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  const label = button.querySelector("span");
  const copied = await copyText(source);
  label.textContent = copied ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => (label.textContent = "Copy"), 2500);
});

/** True when it is on the clipboard; a page without https can only select it. */
async function copyText(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}

const note = document.getElementById("offline-note");
let noteTimer = 0;

document.addEventListener("htmx:sse:error", (event) => {
  // To sign-in, unless that would lose what is being typed: the form says so when it is sent.
  if (event.detail.status === 401 && !document.querySelector("form[data-keep]")) location.reload();
  // A moment without a connection happens with every restart and is nobody's business.
  noteTimer ||= setTimeout(() => (note.hidden = false), 3000);
});

document.addEventListener("htmx:sse:after:connection", () => {
  clearTimeout(noteTimer);
  noteTimer = 0;
  note.hidden = true;
});
