"""An artifact's bytes over HTTP, taken up where they stopped, no faster than allowed."""

from __future__ import annotations

import errno
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rosfit_bridge.ota.errors import UpdateError
from rosfit_bridge.ota.trigger import Artifact

log = logging.getLogger(__name__)

BLOCK = 256 * 1024
# How much may be lost when the power goes.
SYNC_EVERY = 8 * 1024 * 1024
TIMEOUT_S = 30.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
# What a repetition cannot mend: the address is wrong, has run out, or is not for this robot.
FINAL_STATUSES = (400, 401, 403, 404, 405, 410, 451)
RANGE_NOT_SATISFIABLE = 416
PARTIAL = 206


class UnreachableError(Exception):
    """Worth another try."""


@dataclass
class Pace:
    """`rate` in bytes per second, None for as fast as it comes."""

    rate: float | None
    wait: Callable[[float], None]
    _due: float = 0.0

    def spend(self, count: int) -> None:
        if self.rate is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now) + count / self.rate
        if self._due - now > 0.05:
            self.wait(self._due - now)


class Download:
    """Into `target`. `remember` writes down the validator of the bytes; `wait` raises when the bridge stops."""

    def __init__(
        self,
        artifact: Artifact,
        target: Path,
        *,
        etag: str | None,
        remember: Callable[[str | None], None],
        progress: Callable[[int], None],
        wait: Callable[[float], None],
        rate: float | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._artifact, self._target, self._etag = artifact, target, etag
        self._remember, self._progress, self._wait = remember, progress, wait
        self._pace = Pace(rate, wait)
        https = [urllib.request.HTTPSHandler(context=context)] if context else []
        self._opener = urllib.request.build_opener(*https)

    def run(self, out_of_time: Callable[[], bool]) -> None:
        """Until everything is there. Raises UpdateError."""
        pause = FIRST_RETRY_S
        while self.size < self._artifact.size or not self._target.exists():
            before = self.size
            try:
                self._once()
            except UnreachableError as error:
                if out_of_time():
                    message = f"the download did not end before the deadline: {error}"
                    raise UpdateError("UNREACHABLE", message) from error
                pause = FIRST_RETRY_S if self.size > before else min(pause * 2, LAST_RETRY_S)
                log.warning("the download stopped at %d bytes (%s); again in %.0f s", self.size, error, pause)
                self._wait(pause)

    @property
    def size(self) -> int:
        return self._target.stat().st_size if self._target.exists() else 0

    def _once(self) -> None:
        try:
            with self._open() as answer:
                self._take(answer)
        except urllib.error.HTTPError as error:
            self._judge(error)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                message = f"{error}; the server's certificate is not trusted (see connection.tls)"
                raise UpdateError("TLS", message) from error
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, urllib.error.URLError):
                _raise_if_disk(error)
            raise UnreachableError(str(error)) from error
        except ValueError as error:
            raise UpdateError("BAD_URL", f"the server leads to an address that cannot be asked: {error}") from error

    def _open(self) -> Any:
        request = urllib.request.Request(self._artifact.url)  # noqa: S310
        if self.size and self._etag:
            request.add_header("Range", f"bytes={self.size}-")
            request.add_header("If-Range", self._etag)
        return self._opener.open(request, timeout=TIMEOUT_S)

    def _take(self, answer: Any) -> None:
        resumed = answer.status == PARTIAL
        if not resumed:
            self._etag = _validator(answer)
            # Before the first byte: bytes without their validator are fetched anew.
            self._target.unlink(missing_ok=True)
            self._remember(self._etag)
        with self._target.open("ab") as file:
            try:
                self._copy(answer, file)
            finally:
                file.flush()
                os.fsync(file.fileno())

    def _copy(self, answer: Any, file: Any) -> None:
        unsynced, size = 0, file.tell()
        while block := answer.read1(BLOCK):  # what has come: a link that breaks often must not lose it
            size += len(block)
            if size > self._artifact.size:
                raise UpdateError("WRONG_SIZE", f"more than the promised {self._artifact.size} bytes arrived")
            file.write(block)
            unsynced += len(block)
            if unsynced >= SYNC_EVERY:
                file.flush()
                os.fsync(file.fileno())
                unsynced = 0
            self._progress(size)
            self._pace.spend(len(block))
            self._wait(0.0)
        if size < self._artifact.size:
            raise UnreachableError("the connection ended early")

    def _judge(self, error: urllib.error.HTTPError) -> None:
        if error.code == RANGE_NOT_SATISFIABLE:
            self._target.unlink(missing_ok=True)
            self._remember(None)
            self._etag = None
            raise UnreachableError("the bytes that are here do not fit; from the beginning")
        if error.code in FINAL_STATUSES:
            raise UpdateError("DOWNLOAD_REFUSED", f"the server answers {error.code} {error.reason}")
        raise UnreachableError(f"the server answers {error.code} {error.reason}")


def check_address(url: str) -> None:
    """Raises UpdateError for what cannot be asked at all."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.username is None and parts.port != 0
        usable = named and parts.scheme in ("http", "https")
    except ValueError:
        usable = False
    if not usable or not url.isascii() or " " in url:
        raise UpdateError("BAD_URL", "the artifact's address is not one of http or https that can be asked")


def _validator(answer: Any) -> str | None:
    """Only a strong one may vouch for a range."""
    etag = answer.headers.get("ETag")
    return None if etag is None or etag.startswith("W/") else etag


def _raise_if_disk(error: OSError) -> None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES):
        raise UpdateError("DISK", f"the download cannot be written: {error}") from error
