"""Other topic layouts, mapped onto the contract's rows both ways by configuration.

[[layouts]]
name = "fleet"
[layouts.up]
"fleet/{fleet}/robot/{device_id}/telemetry/{stream...}" = "telemetry/{stream...}"
[layouts.down]
"cmd/{name}" = "fleet/{fleet}/robot/{device_id}/command/{name}"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from rosfit.kernel.errors import BadRequestError
from rosfit.protocol.topics import device_topic

_VARIABLE = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")


class LayoutError(BadRequestError):
    code = "LAYOUT_INVALID"
    title = "A topic layout in the settings is not valid"


class Pattern:
    """A topic with `{variable}` segments; `{variable...}` at the end takes the rest of the path."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.variables = tuple(match[1] for match in _VARIABLE.finditer(text))
        self._expression = re.compile(self._translate(text))

    @staticmethod
    def _translate(text: str) -> str:
        parts = []
        for segment in text.split("/"):
            match = _VARIABLE.fullmatch(segment)
            if match is None:
                if set(segment) & set("{}+#"):
                    raise LayoutError(f"{text!r}: a segment is plain text or one {{variable}}")
                parts.append(re.escape(segment))
            else:
                parts.append(f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})")
        return "/".join(parts)

    def match(self, topic: str) -> dict[str, str] | None:
        found = self._expression.fullmatch(topic)
        return found.groupdict() if found else None

    def fill(self, variables: Mapping[str, str]) -> str:
        """The topic with its variables in place. Raises KeyError naming one that is missing."""
        return _VARIABLE.sub(lambda match: variables[match[1]], self.text)

    def mqtt_filter(self) -> str:
        """The subscription that delivers every topic of this pattern."""
        return "/".join(
            segment if (match := _VARIABLE.fullmatch(segment)) is None else "#" if match[2] else "+"
            for segment in self.text.split("/")
        )

    def access_pattern(self) -> str:
        """The same as a Mosquitto access pattern: `%u` where the device id stands."""
        return "/".join(
            "%u" if segment == "{device_id}" else part
            for segment, part in zip(self.text.split("/"), self.mqtt_filter().split("/"), strict=False)
        )


class Mapped(msgspec.Struct, frozen=True):
    """A topic of a layout as the contract's topic; `variables` are the layout's own, to find the way back."""

    topic: str
    layout: str
    device_id: str
    variables: dict[str, str]


class Layout:
    """One layout. Raises LayoutError when it cannot be read both ways."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.name = str(table.get("name", ""))
        self.up = [(Pattern(outer), Pattern(row)) for outer, row in _rows(table, "up")]
        self.down = [(Pattern(row), Pattern(outer)) for row, outer in _rows(table, "down")]
        for source, target in self.up + self.down:
            self._check(source, target)

    def _check(self, source: Pattern, target: Pattern) -> None:
        outer = source if (source, target) in self.up else target
        if "device_id" not in outer.variables:
            raise LayoutError(f"layout {self.name!r}: {outer.text!r} has no {{device_id}}")

    def inbound(self, topic: str) -> Mapped | None:
        for outer, row in self.up:
            if (variables := outer.match(topic)) is not None:
                device_id = variables["device_id"]
                told = {"device_id", *row.variables}
                own = {key: value for key, value in variables.items() if key not in told}
                return Mapped(device_topic(device_id, row.fill(variables)), self.name, device_id, own)
        return None

    def outbound(self, device_id: str, row: str, variables: Mapping[str, str]) -> str | None:
        """The layout's topic for a cloud to device row, or None where the layout has none."""
        for pattern, outer in self.down:
            if (found := pattern.match(row)) is not None:
                try:
                    return outer.fill({**variables, **found, "device_id": device_id})
                except KeyError as error:
                    raise LayoutError(f"{device_id} has sent nothing yet that tells its {error}") from error
        return None


def _rows(table: Mapping[str, Any], direction: str) -> list[tuple[str, str]]:
    rows = table.get(direction, {})
    if not isinstance(rows, Mapping) or not all(isinstance(value, str) for value in rows.values()):
        raise LayoutError(f"layout {table.get('name')!r}: [{direction}] maps topic patterns to topic patterns")
    return list(rows.items())


class Layouts:
    """All layouts of this server; the first that matches a topic decides."""

    def __init__(self, tables: Sequence[Mapping[str, Any]] = ()) -> None:
        self._layouts = [Layout(table) for table in tables]

    def filters(self) -> list[str]:
        return [outer.mqtt_filter() for layout in self._layouts for outer, _ in layout.up]

    def access_patterns(self) -> list[tuple[Literal["write", "read"], str]]:
        """(`write` or `read`, pattern) for a broker whose user names are device ids."""
        patterns: list[tuple[Literal["write", "read"], str]] = []
        for layout in self._layouts:
            patterns += [("write", outer.access_pattern()) for outer, _ in layout.up]
            patterns += [("read", outer.access_pattern()) for _, outer in layout.down]
        return patterns

    def inbound(self, topic: str) -> Mapped | None:
        """The contract's topic for a layout's, or None for a topic of no layout."""
        return next((mapped for layout in self._layouts if (mapped := layout.inbound(topic))), None)

    def outbound(self, device_id: str, row: str, remembered: Mapping[str, str] | None) -> str | None:
        """A row's topic in the layout that a device is remembered to have; None without one, or without that row."""
        name = remembered and remembered["layout"]
        layout = next((layout for layout in self._layouts if layout.name == name), None)
        return layout.outbound(device_id, row, remembered) if layout and remembered else None
