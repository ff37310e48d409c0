"""YAML that remembers the line each value came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (line 0: the file as a whole) and what would have been right."""

    line: int
    path: str
    message: str

    def text(self, file: str) -> str:
        place = f"{file}:{self.line}" if self.line else file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigError(Exception):
    """Every mistake of the file at once, so that it can be mended in one go."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda p: p.line)
        super().__init__("\n".join(p.text(file) for p in self.problems))


@dataclass(frozen=True)
class Located:
    """A value of the file: a scalar, a list of `Located`, or a dict of `Located` by key."""

    value: Any
    line: int
    path: str
    key_lines: Mapping[str, int] = field(default_factory=dict)
    text: str | None = None  # of a scalar, as written: 0123 is a password, not 83

    def items(self) -> Iterator[Located]:
        yield from self.value


class Loader:
    """Turns text into a `Located` tree and collects what is wrong with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._resolver = yaml.SafeLoader("")
        self.problems: list[Problem] = []

    def load(self, text: str) -> Located:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            return Located({}, 0, "") if root is None else self._locate(root, "")
        except yaml.YAMLError as error:
            self.problems.append(_syntax_problem(error, text))
            return Located({}, 0, "")
        except RecursionError:
            self.problems.append(Problem(0, "", "an alias refers to itself, or the nesting is too deep"))
            return Located({}, 0, "")

    def _locate(self, node: yaml.Node, path: str) -> Located:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        line = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            values = [self._locate(child, f"{path}[{i}]") for i, child in enumerate(node.value)]
            return Located(values, line, path)
        text, value = self._scalar(node, path)
        return Located(value, line, path, text=text)

    def _mapping(self, node: yaml.MappingNode, path: str) -> Located:
        values: dict[str, Located] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(line, path, "a key is text, not a list or a mapping")
                continue
            key = key_node.value
            child_path = f"{path}.{key}" if path else key
            if key in values:
                self._report(line, child_path, f"duplicate key, already given on line {lines[key]}")
                continue
            lines[key] = line
            values[key] = self._locate(value_node, child_path)
        return Located(values, node.start_mark.line + 1, path, lines)

    def _scalar(self, node: yaml.Node, path: str) -> tuple[str, Any]:
        text, tag = node.value, node.tag
        if "${" in text:
            text = _VARIABLE.sub(lambda match: self._variable(match, node, path), text)
            if node.style is None:  # `port: ${PORT}` is a number when the variable holds one
                tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))
        try:
            resolved = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
            return text, self._resolver.construct_object(resolved)
        except (yaml.YAMLError, ValueError):
            self._report(node.start_mark.line + 1, path, f"cannot read {text!r} as {tag}")
            return text, None

    def _variable(self, match: re.Match[str], node: yaml.Node, path: str) -> str:
        name, default = match.group(1), match.group(2)
        value = self._env.get(name, default)
        if value is None:
            line = node.start_mark.line + 1
            self._report(line, path, f"environment variable {name} is not set (set it, or write ${{{name}:-default}})")
            return ""
        return value

    def _report(self, line: int, path: str, message: str) -> None:
        self.problems.append(Problem(line, path, message))


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(line, "", f"not valid YAML: the character #x{error.character:04x} may not be in it")
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(0, "", f"not valid YAML: {error}")
    unquoted = "${" in text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else False
    hint = '; within { } a variable needs quotes: "${NAME}"' if unquoted else ""
    return Problem(mark.line + 1, "", f"not valid YAML: {getattr(error, 'problem', None) or error}{hint}")
