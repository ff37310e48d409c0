// A program of somebody who has only read section 7 of the contract: watch a robot, send it somewhere, wait.
const [url, token, device] = process.argv.slice(2);
const socket = new WebSocket(`${url}?token=${token}`);
const say = (message) => socket.send(JSON.stringify(message));

// A test that waits for this program must not wait for ever.
setTimeout(() => process.exit(2), 20_000).unref();

socket.onopen = () => say({ type: 'subscribe', channel: `telemetry:${device}`, data: { topics: ['odom'] } });
socket.onerror = (event) => { console.error(event.message ?? event.type); process.exit(1); };

socket.onmessage = (event) => {
  const message = JSON.parse(event.data);
  console.log(JSON.stringify(message));
  if (message.type === 'telemetry') {
    say({ type: 'command', request_id: 'r-1', data: { device_id: device, command: 'navigate_to', data: { x: 5, y: 2 } } });
  }
  if (message.type === 'command_result') socket.close();
};
