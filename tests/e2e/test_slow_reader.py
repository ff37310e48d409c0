"""A reader of everything that does not read, at the rate of a large fleet."""

from __future__ import annotations

import asyncio
import json
import socket
from urllib.parse import urlsplit

import pytest
import websockets

from tests.load.publisher import Publisher

DEVICES = [f"bot-{number:02}" for number in range(20)]
MB = 1024 * 1024


@pytest.mark.full
async def test_a_slow_reader_at_5000_messages_a_second(site):
    """The server's memory stays as it is, and what the reader finds in the end is the newest of each device."""
    site.register(*DEVICES)
    # What the flood itself takes is there before the measurement.
    await Publisher(site.load(DEVICES, messages=20_000, rate=5_000)).run()
    parts = urlsplit(site.server.websocket_url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((parts.hostname, parts.port))
    raw.setblocking(False)
    url = f"{site.server.websocket_url}?token={site.server.admin.token}"
    async with websockets.connect(url, sock=raw, max_queue=1, ping_interval=None, max_size=None) as slow:
        await slow.send(json.dumps({"type": "subscribe", "channel": "telemetry:*"}))
        while json.loads(await slow.recv())["type"] != "subscribed":
            pass
        slow.transport.pause_reading()
        before = site.server.rss_bytes()
        await Publisher(site.load(DEVICES, messages=50_000, rate=5_000)).run()
        await asyncio.to_thread(site.stored_within, 70_000)
        assert site.server.rss_bytes() < before + 20 * MB
        slow.transport.resume_reading()
        newest = "SELECT device_id, max((payload ->> 'sent_us')::bigint) FROM telemetry GROUP BY device_id"
        heard = await until_heard(slow, dict(site.rows(newest)))
    assert heard < 40_000, "a slow reader does not get everything"


async def until_heard(slow: websockets.ClientConnection, newest: dict[str, int]) -> int:
    """Read until each device's newest message has been heard; how many were in all."""
    heard = 0
    async with asyncio.timeout(30):
        while newest:
            message = json.loads(await slow.recv())
            if message["type"] == "telemetry":
                heard += 1
                data = message["data"]
                if data["payload"]["sent_us"] == newest.get(data["device_id"]):
                    del newest[data["device_id"]]
    return heard
