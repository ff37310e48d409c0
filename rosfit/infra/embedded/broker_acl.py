"""Who may publish and read what on the broker we start: the contract's rows, per device, as an ACL file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rosfit.protocol.access import (
    ALL_SCOPES,
    CLOUD_TO_DEVICE,
    DEVICE_TO_CLOUD,
    READ_ONLY,
    WRITE_ONLY,
    AccessPattern,
    Scope,
)
from rosfit.protocol.topics import device_topic

# Our own user names start with an underscore, which no device id does.
SERVER_USER = "_rosfit"
PROBE_USER = "_rosfit_reload"

# Mosquitto reads `user` sections in quadratic time: measured 2 ms for 100 users, 490 ms for 10,000 (16 without).
EXACT_UP_TO = 2_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user name that is not a device's id may do, and for which device."""

    device_id: str
    scopes: frozenset[Scope] = frozenset(ALL_SCOPES)


def acl_text(
    users: Iterable[str], extra: Sequence[AccessPattern] = (), grants: Mapping[str, Grant] | None = None
) -> str:
    """The whole file. `users` are device ids; `extra` are patterns of other layouts, with %u for the device.

    Mosquitto can deny a topic to all, or allow a direction, but not deny one direction. So the two rows that lie
    inside a row of the other direction are denied by pattern and given back, in their direction, to each user: a
    user's own lines are asked first. Beyond `EXACT_UP_TO` users that is too slow, and a device may then also write
    to its own `ros/inject/…` and read its own `cmd/response`; it still reaches no other device's topics. The same
    holds for the user names of `grants`, which have lines of their own and no pattern.
    """
    names = sorted(users)
    lines = [f"user {SERVER_USER}", "topic readwrite #", "topic read $SYS/#"]
    for username, grant in sorted((grants or {}).items()):
        lines += [f"user {username}", *_granted(grant, extra)]
    if len(names) <= EXACT_UP_TO:
        for name in names:
            lines += [
                f"user {name}",
                f"topic read {device_topic(name, READ_ONLY)}",
                f"topic write {device_topic(name, WRITE_ONLY)}",
            ]
        lines += [f"pattern deny {device_topic('%u', row)}" for row in (READ_ONLY, WRITE_ONLY)]
    lines += [f"pattern write {device_topic('%u', row)}" for row in DEVICE_TO_CLOUD]
    lines += [f"pattern read {device_topic('%u', row)}" for row in CLOUD_TO_DEVICE]
    lines += [f"pattern {access} {topic}" for access, topic in extra]
    return "\n".join(lines) + "\n"


def _granted(grant: Grant, extra: Sequence[AccessPattern]) -> list[str]:
    own = [(access, topic.replace("%u", grant.device_id)) for access, topic in extra]
    lines = []
    if "publish" in grant.scopes:
        lines += [f"topic write {device_topic(grant.device_id, row)}" for row in DEVICE_TO_CLOUD]
        lines += [f"topic write {topic}" for access, topic in own if access == "write"]
    if "subscribe" in grant.scopes:
        lines += [f"topic read {device_topic(grant.device_id, row)}" for row in CLOUD_TO_DEVICE]
        lines += [f"topic read {topic}" for access, topic in own if access == "read"]
    return lines
