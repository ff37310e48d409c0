"""Who may publish and read what on the broker we start: the contract's rows, per device, as an ACL file."""

from collections.abc import Iterable, Sequence
from typing import Literal

# Our own user names start with an underscore, which no device id does.
SERVER_USER = "_rosfit"
PROBE_USER = "_rosfit_reload"

AccessPattern = tuple[Literal["read", "write"], str]

_DEVICE_TO_CLOUD = (
    "status",
    "telemetry",
    "telemetry/#",
    "ros/#",
    "blob/#",
    "shadow/reported",
    "shadow/get",
    "shadow/name/+/reported",
    "shadow/name/+/get",
    "ota/progress",
    "ota/result",
    "log",
    "alert/#",
    "cmd/response",
    "command/response",
)
_SHADOW_ANSWERS = ("desired", "delta", "get/accepted", "get/rejected", "reported/accepted", "reported/rejected")
_CLOUD_TO_DEVICE = (
    "cmd/#",
    "command",
    "ota",
    "ota/trigger",
    "ros/inject/#",
    *(f"shadow/{answer}" for answer in _SHADOW_ANSWERS),
    *(f"shadow/name/+/{answer}" for answer in _SHADOW_ANSWERS),
)
# Rows of one direction that lie inside a wider row of the other.
_READ_ONLY = "ros/inject/#"
_WRITE_ONLY = "cmd/response"

# Mosquitto reads `user` sections in quadratic time: measured 2 ms for 100 users, 490 ms for 10,000 (16 without).
EXACT_UP_TO = 2_000


def acl_text(users: Iterable[str], extra: Sequence[AccessPattern] = ()) -> str:
    """The whole file. `extra` are patterns of other layouts, with %u for the device.

    Mosquitto can deny a topic to all, or allow a direction, but not deny one direction. So the two rows that lie
    inside a row of the other direction are denied by pattern and given back, in their direction, to each user: a
    user's own lines are asked first. Beyond `EXACT_UP_TO` users that is too slow, and a device may then also write
    to its own `ros/inject/…` and read its own `cmd/response`; it still reaches no other device's topics.
    """
    names = sorted(users)
    lines = [f"user {SERVER_USER}", "topic readwrite #", "topic read $SYS/#"]
    if len(names) <= EXACT_UP_TO:
        for name in names:
            lines += [
                f"user {name}",
                f"topic read rosfit/{name}/{_READ_ONLY}",
                f"topic write rosfit/{name}/{_WRITE_ONLY}",
            ]
        lines += [f"pattern deny rosfit/%u/{row}" for row in (_READ_ONLY, _WRITE_ONLY)]
    lines += [f"pattern write rosfit/%u/{row}" for row in _DEVICE_TO_CLOUD]
    lines += [f"pattern read rosfit/%u/{row}" for row in _CLOUD_TO_DEVICE]
    lines += [f"pattern {access} {topic}" for access, topic in extra]
    return "\n".join(lines) + "\n"
