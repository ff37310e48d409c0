"""What a value of the configuration may be: small checkers, and sections made of them."""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosfit_bridge.located import Located, Problem

REQUIRED: Any = object()

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
WEB_ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?")
HOST = re.compile(r"[^\s/@]+")
# ROS takes 247 characters, of which an action's own topics need 20.
ROS_NAME = re.compile(r"(?=.{1,200}\Z)/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
ROS_TYPE = re.compile(r"([a-z][a-z0-9_]*)/(?:(msg|srv|action)/)?([A-Z][A-Za-z0-9_]*)")
_SHOWN = 100


class MistakeError(Exception):
    """Raised by a checker: the message says what is expected instead."""


class Context:
    """Collects problems, and knows the folder that relative paths start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []

    def report(self, line: int, path: str, message: str) -> None:
        self.problems.append(Problem(line, path, message))


Check = Callable[[Located, Context], Any]


@dataclass(frozen=True)
class Key:
    check: Check
    default: Any = REQUIRED


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else repr(value)[:_SHOWN]


def text(at: Located, _: Context) -> str:
    if not isinstance(at.value, str) or not at.value:
        raise MistakeError(f"expected text, got {shown(at.value)}")
    return at.value


def secret(at: Located, _: Context) -> str:
    """Text as written, whatever else it looks like. Its value is never repeated in a message."""
    if at.value in (None, "") or at.text is None:
        raise MistakeError("expected text")
    return at.text


def boolean(at: Located, _: Context) -> bool:
    if not isinstance(at.value, bool):
        raise MistakeError(f"expected true or false, got {shown(at.value)}")
    return at.value


def integer(low: int, high: int) -> Check:
    def check(at: Located, _: Context) -> int:
        if isinstance(at.value, bool) or not isinstance(at.value, int) or not low <= at.value <= high:
            raise MistakeError(f"expected a whole number from {low} to {high}, got {shown(at.value)}")
        return at.value

    return check


def number(low: float, high: float) -> Check:
    def check(at: Located, _: Context) -> float:
        value = at.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise MistakeError(f"expected a number from {low:g} to {high:g}, got {shown(value)}")
        return float(value)

    return check


def choice(*options: Any) -> Check:
    def check(at: Located, _: Context) -> Any:
        for option in options:
            if type(option) is type(at.value) and option == at.value:
                return option
        expected = ", ".join(str(o) for o in options)
        raise MistakeError(f"expected one of {expected}; got {shown(at.value)}")

    return check


def optional(inner: Check) -> Check:
    return lambda at, context: None if at.value is None else inner(at, context)


def matching(pattern: re.Pattern[str], expected: str) -> Check:
    """As written: 42 is a device id, and `on` a ROS topic."""

    def check(at: Located, _: Context) -> str:
        written = None if at.value is None else at.text
        if written is None or not pattern.fullmatch(written):
            raise MistakeError(f"expected {expected}, got {shown(at.value)}")
        return written

    return check


def ros_type(kind: str, example: str) -> Check:
    """`pkg/Type` or `pkg/<kind>/Type`; the answer is always the long form."""

    def check(at: Located, _: Context) -> str:
        match = ROS_TYPE.fullmatch(at.value) if isinstance(at.value, str) else None
        if match is None or match.group(2) not in (None, kind):
            raise MistakeError(f"expected a type such as {example}, got {shown(at.value)}")
        return f"{match.group(1)}/{kind}/{match.group(3)}"

    return check


def file_path(at: Located, context: Context) -> Path:
    path = any_path(at, context)
    if not path.is_file():
        raise MistakeError(f"there is no file {path}")
    return path


def secret_file(at: Located, context: Context) -> Path:
    path = file_path(at, context)
    try:
        written = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MistakeError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not written:
        raise MistakeError(f"there is nothing in {path}")
    return path


def ca_file(at: Located, context: Context) -> Path:
    path = file_path(at, context)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise MistakeError(f"no certificate in PEM form can be read from {path} ({error})") from error
    return path


def any_path(at: Located, context: Context) -> Path:
    """Relative to the folder of the configuration file; `~` is the home folder."""
    return context.folder / Path(text(at, context)).expanduser()


def list_of(inner: Check) -> Check:
    def check(at: Located, context: Context) -> tuple[Any, ...]:
        if at.value is None:
            return ()
        if not isinstance(at.value, list):
            raise MistakeError(f"expected a list, got {shown(at.value)}")
        values = [checked(inner, child, context) for child in at.items()]
        return tuple(v for v in values if v is not REQUIRED)

    return check


def mapping_of(inner: Check) -> Check:
    def check(at: Located, context: Context) -> dict[str, Any]:
        if not isinstance(at.value, dict):
            raise MistakeError(f"expected a mapping, got {shown(at.value)}")
        values = {key: checked(inner, child, context) for key, child in at.value.items()}
        return {key: value for key, value in values.items() if value is not REQUIRED}

    return check


def checked(inner: Check, at: Located, context: Context) -> Any:
    """The checked value, or REQUIRED when it was wrong and has been reported."""
    try:
        return inner(at, context)
    except MistakeError as mistake:
        context.report(at.line, at.path, str(mistake))
        return REQUIRED


@dataclass(frozen=True)
class Section:
    """A mapping with known keys that becomes one frozen dataclass.

    `build` gets every key of `keys` by name, and `line` when `with_line` is set. `also` may look at the whole section.
    """

    build: Callable[..., Any]
    keys: Mapping[str, Key]
    with_line: bool = False
    also: Callable[[Located, Context, dict[str, Any]], None] | None = None

    def __call__(self, at: Located, context: Context) -> Any:
        if not isinstance(at.value, dict):
            raise MistakeError(f"expected a mapping with {', '.join(self.keys)}; got {shown(at.value)}")
        before = len(context.problems)
        self._report_unknown(at, context)
        values = {name: self._value(name, key, at, context) for name, key in self.keys.items()}
        if self.also is not None and len(context.problems) == before:
            self.also(at, context, values)
        if len(context.problems) > before:
            return REQUIRED
        if self.with_line:
            values["line"] = at.line
        return self.build(**values)

    def defaults(self) -> Any:
        return self.build(**{name: key.default for name, key in self.keys.items()})

    def _value(self, name: str, key: Key, at: Located, context: Context) -> Any:
        child = at.value.get(name)
        if child is not None and (child.value is not None or key.default is REQUIRED):
            return checked(key.check, child, context)
        if key.default is REQUIRED:
            context.report(at.line, _join(at.path, name), "missing; it has no default")
        return key.default

    def _report_unknown(self, at: Located, context: Context) -> None:
        for name in at.value:
            if name in self.keys:
                continue
            near = difflib.get_close_matches(name, self.keys, 1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(self.keys)}"
            context.report(at.key_lines[name], _join(at.path, name), f"unknown key; {hint}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
