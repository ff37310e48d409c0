// The socket to a robot's stick: numbered messages, their round trip, and word when it is gone.

const PING_EVERY_MS = 1000;
// An answer that takes longer means that nobody listens, whatever the socket says.
const SILENT_MS = 2000;

export class DriveLink {
  #socket = null;
  #seq = 0;
  #sent = new Map();
  #pinged_at = 0;
  #heard_at = 0;
  #timer = 0;

  /** `onHeld()`, `onTrip(ms)`, and `onGone({code, message})` once for each link; no code when the line was lost. */
  constructor({ deviceId, onHeld, onTrip, onGone }) {
    Object.assign(this, { deviceId, onHeld, onTrip, onGone });
  }

  open(takeOver) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/teleop/${this.deviceId}${takeOver ? "?take_over=true" : ""}`);
    this.#socket = socket;
    this.#heard_at = performance.now();
    let refusal = {};
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "error") refusal = message.data;
      else this.#hear(message);
    });
    socket.addEventListener("close", () => this.#gone(socket, refusal));
    this.#timer = setInterval(() => this.#beat(socket), PING_EVERY_MS);
  }

  send(linear_x, angular_z) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#seq += 1;
    this.#sent.set(this.#seq, performance.now());
    this.#socket.send(JSON.stringify({ seq: this.#seq, linear_x, angular_z }));
  }

  close() {
    const socket = this.#socket;
    this.#end();
    socket?.close();
  }

  #hear(message) {
    const now = performance.now();
    this.#heard_at = now;
    if (message.type === "lease") this.onHeld();
    if (message.type === "pong") this.onTrip(now - this.#pinged_at);
    if (!this.#sent.has(message.ack)) return;
    this.onTrip(now - this.#sent.get(message.ack));
    for (const seq of this.#sent.keys()) if (seq <= message.ack) this.#sent.delete(seq);
  }

  #beat(socket) {
    if (performance.now() - this.#heard_at > PING_EVERY_MS + SILENT_MS) {
      socket.close();
      return this.#gone(socket, {});
    }
    if (socket.readyState !== WebSocket.OPEN) return;
    this.#pinged_at = performance.now();
    socket.send('{"type":"ping"}');
  }

  #gone(socket, refusal) {
    if (socket !== this.#socket) return;
    this.#end();
    this.onGone(refusal);
  }

  #end() {
    clearInterval(this.#timer);
    this.#socket = null;
    this.#seq = 0;
    this.#sent.clear();
  }
}
