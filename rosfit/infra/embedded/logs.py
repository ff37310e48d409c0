"""Log files of the servers: bounded, since nobody else rotates them."""

from pathlib import Path

MAX_BYTES = 10 * 2**20
TAIL_BYTES = 2**20


def bound(path: Path) -> None:
    """Keep the last megabyte of a log that has grown past ten, as `NAME.log.1`, and start it anew.

    The server goes on writing to the same file: it has it open for appending.
    """
    if not path.exists() or path.stat().st_size <= MAX_BYTES:
        return
    with path.open("r+b") as file:
        file.seek(-TAIL_BYTES, 2)
        path.with_suffix(".log.1").write_bytes(file.read())
        file.truncate(0)


def tail(path: Path, lines: int = 8) -> str:
    """The last lines of a log, for an error message."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        text = file.read().decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-lines:])
