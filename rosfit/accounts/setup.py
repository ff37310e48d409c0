"""The one-time token that lets the first user in: a file that only its owner can read, gone after use."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

SETUP_TOKEN_FILE = "setup-token"  # noqa: S105 - a file name


class SetupToken:
    """The token of this data folder, while there is no user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ensure(self) -> str:
        """The token, made at the first start and kept over restarts until it is used."""
        if token := self.value():
            return token
        token = secrets.token_urlsafe(24)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
        return token

    def value(self) -> str | None:
        try:
            return self._path.read_text().strip() or None
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
