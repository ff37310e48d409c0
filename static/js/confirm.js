// Asks before a form that cannot be undone is sent. Without scripts the form is sent as it is.

const dialog = document.getElementById("confirm");
let waiting = null;

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-confirm]");
  if (!form) return;
  event.preventDefault();
  waiting = form;
  dialog.querySelector("#confirm-title").textContent = form.dataset.confirm;
  dialog.querySelector("#confirm-detail").textContent = form.dataset.confirmDetail;
  dialog.querySelector("#confirm-yes").textContent = form.dataset.confirmVerb;
  dialog.returnValue = "";
  dialog.showModal();
});

dialog.addEventListener("close", () => {
  // `submit()` asks nobody again.
  if (dialog.returnValue === "yes") waiting?.submit();
  waiting = null;
});

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close("");
});
