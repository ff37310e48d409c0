"""Addresses and ports to listen on: checked before a server is started, so that the message can help."""

import socket

from rosfit.infra.embedded.errors import EmbeddedServerError

# Settings that `rosfit serve` also takes as a flag.
_FLAGS = ("port", "mqtt_port")


def resolve(host: str) -> str:
    """The numeric address of `host`: listeners must agree on one."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise EmbeddedServerError(f"The address {host} to listen on is not known here: {error}") from error
    # "localhost" is both; IPv4 first, since that is where clients look.
    return sorted((str(entry[4][0]) for entry in found), key=lambda address: ":" in address)[0]


def why_taken(address: str, port: int) -> OSError | None:
    """None if `port` can be listened on, else why not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def check_port_free(address: str, port: int, setting: str) -> None:
    """Refuse a port that is taken; `setting` is the one that chooses another."""
    refused = why_taken(address, port)
    if refused is not None:
        raise EmbeddedServerError(
            f"Port {port} on {address} cannot be used: {refused.strerror}. Stop the program that has it, or choose "
            f"another with {_ways_to_set(setting)}."
        )


def _ways_to_set(setting: str) -> str:
    variable = f"ROSFIT_{setting.upper()}"
    return f"--{setting.replace('_', '-')} or {variable}" if setting in _FLAGS else variable


def free_port(first: int = 20_000, last: int = 32_000) -> int:
    """A free loopback port below the ephemeral ones."""
    for port in range(first, last):
        if why_taken("127.0.0.1", port) is None:
            return port
    raise EmbeddedServerError(f"No port between {first} and {last} is free on 127.0.0.1.")
