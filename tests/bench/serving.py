"""Requests a second, and memory with a thousand devices."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit

from tests.bench import processes
from tests.e2e.site import Site

CONNECTIONS = 8


async def requests_per_s(site: Site, path: str, seconds: float, body: Any = None, method: str = "POST") -> float:
    """GET, or `method` with a `body`, over a few kept connections, by a client that does next to nothing."""
    header = f"Authorization: Bearer {site.server.admin.token}"
    return await ask_for(site.server.url, path, header, seconds, body, method)


async def ask_for(
    url: str, path: str, header: str, seconds: float, body: Any = None, method: str = "POST"
) -> float:
    """Requests a second with this header."""
    ends = time.perf_counter() + seconds
    method, content = ("GET", b"") if body is None else (method, json.dumps(body).encode())
    about = f"{header}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{about}\r\n\r\n".encode() + content
    counts = await asyncio.gather(*(_ask(url, request, ends) for _ in range(CONNECTIONS)))
    return sum(counts) / seconds


async def _ask(url: str, request: bytes, ends: float) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    count = 0
    while time.perf_counter() < ends:
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 20"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        count += 1
    writer.close()
    return count


async def memory_mb(site: Site, devices: int, seconds: float) -> float:
    """The server's resident memory after a thousand connected devices have sent 2,000 messages/s for a while."""
    site.register(*(f"crowd-{number:04d}" for number in range(1, devices + 1)))
    who = ("--devices", f"crowd-%04d:{devices}", "--connections", str(devices), "--inflight", "10")
    await processes.load(site.mqtt_url, *who, "--rate", "2000", "--duration", str(seconds))
    return site.server.rss_bytes() / 1e6
