// What is charted, kept in the address: ?f=odom:twist.twist.linear.x&w=1h, or from= and to=.

export const SPANS = { "5m": 5 * 60_000, "1h": 3_600_000, "24h": 86_400_000 };

export function readUrl() {
  const query = new URLSearchParams(location.search);
  const fields = query.getAll("f").map(splitField).filter(Boolean);
  const from = Date.parse(query.get("from"));
  const to = Date.parse(query.get("to"));
  if (from < to) return { fields, window: { from, to } };
  return { fields, window: { span: query.get("w") in SPANS ? query.get("w") : "5m" } };
}

function splitField(text) {
  const at = text.indexOf(":");
  return at > 0 ? [decodeURIComponent(text.slice(0, at)), text.slice(at + 1)] : null;
}

export function writeUrl(lines, shown) {
  const query = new URLSearchParams();
  for (const line of lines) query.append("f", `${line.stream.replace(/[%:]/g, encodeURIComponent)}:${line.key}`);
  if (shown.from) {
    query.set("from", new Date(shown.from).toISOString());
    query.set("to", new Date(shown.to).toISOString());
  } else if (shown.span !== "5m") query.set("w", shown.span);
  // The colon may stand as it is in a query, and reads better so.
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2F", "/");
  history.replaceState(history.state, "", text ? `?${text}` : location.pathname);
}
