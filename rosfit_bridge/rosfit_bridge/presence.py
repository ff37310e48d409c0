"""What the device says about itself being there, and what the broker says when it no longer can."""

from __future__ import annotations

ONLINE = b'{"status":"online"}'
GOODBYE = b'{"status":"offline","reason":"shutdown"}'
WILL = b'{"status":"offline","reason":"connection_lost"}'
QOS = 1
RETAIN = True
