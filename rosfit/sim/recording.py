"""A recorded session: one line of JSON that says what it is, then one line for each event."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rosfit.kernel.errors import InvalidError
from rosfit.sim.events import Event

VERSION = 1


class Header(msgspec.Struct, frozen=True):
    """The first line. `started_at` is the Unix time at which the session was recorded."""

    rosfit_session: int
    started_at: float
    device_ids: list[str]


class Recorder:
    """Writes events as they are played."""

    def __init__(self, path: Path, started_at: float, device_ids: list[str]) -> None:
        self._encoder = msgspec.json.Encoder()
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise InvalidError(f"cannot record to {path}: {error.strerror}") from error
        self._write(Header(VERSION, started_at, device_ids))

    def _write(self, line: object) -> None:
        self._file.write(self._encoder.encode(line) + b"\n")

    def record(self, event: Event) -> None:
        self._write(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_header(path: Path) -> Header:
    """What a recording is. Raises InvalidError if the file is none."""
    try:
        with path.open("rb") as file:
            header = msgspec.json.decode(file.readline(), type=Header)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} is no recorded session: make one with rosfit sim --record FILE") from error
    if header.rosfit_session != VERSION:
        raise InvalidError(
            f"{path} has version {header.rosfit_session}; this RosFit reads version {VERSION}: record it anew"
        )
    return header


def read_events(path: Path) -> Iterator[Event]:
    """The events of a recording, read as they are asked for. Raises InvalidError naming the line."""
    decode = msgspec.json.Decoder(Event).decode
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file, 2):
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise InvalidError(f"{path}, line {number}: {error}") from error
