// The set-up address carries its token behind the #, which no server and no log ever sees.

function takeToken() {
  const field = document.querySelector('input[name="token"]');
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!field || !found) return;
  field.value = found;
  document.getElementById("token-field").hidden = true;
  history.replaceState(null, "", location.pathname);
}

takeToken();
addEventListener("hashchange", takeToken);
