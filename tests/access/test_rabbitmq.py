"""A real RabbitMQ whose HTTP backend asks RosFit: robots reach what is theirs, and nothing else."""

from __future__ import annotations

import pytest

from tests.access.rabbitmq import fetch, in_a_namespace

OUTCOMES = {
    "its own password": "in",
    "a free client id": "in",
    "a wrong password": "refused",
    "the password of another": "refused",
    "the client id of another": "refused",
    "a device that never was": "refused",
    "publish own telemetry": "heard",
    "publish another's telemetry": "thrown out",
    "publish an own command": "thrown out",
    "retain another's status": "thrown out",
    "leave a will on its own status": "heard",
    "leave a will on another's status": "unheard",
    "read own commands": "read",
    "read everything of its own": "read",
    "read another's commands": "refused",
    "read everything": "refused",
    "read through a wildcard": "refused",
    "after it was revoked": "refused",
}


@pytest.mark.full
def test_rabbitmq_lets_robots_do_what_rosfit_says() -> None:
    fetch()
    assert in_a_namespace() == OUTCOMES
