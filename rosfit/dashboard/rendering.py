"""Pages as values: a dataclass names its template and is exactly what the template gets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import msgspec
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.template.config import TemplateConfig
from markupsafe import Markup

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.assets import asset_folder
from rosfit.dashboard.update_words import update_word
from rosfit.fleet.query import quoted
from rosfit.kernel.clock import format_time, now, parse_time

NO_STORE = {"Cache-Control": "no-store"}

TYPE_NAMES = {
    "ros2_robot": "ROS 2 robot",
    "micro_ros_mcu": "micro-ROS MCU",
    "mqtt_device": "MQTT device",
    "gateway": "Gateway",
    "simulator": "Simulator",
}


@dataclass(frozen=True)
class Shell:
    """What surrounds a page: `now` lets the browser tell its own clock's error."""

    actor: Actor | None
    may_add: bool
    now: str


@dataclass(frozen=True)
class Page:
    """One page or fragment; each field is a variable of the template, and there are no others."""

    template: ClassVar[str]


def shell_for(actor: Actor | None) -> Shell:
    return Shell(actor, actor is not None and actor.may(Right.DEVICES_WRITE), format_time(now()))


def render(page: Page, *, status: int = 200, headers: dict[str, str] | None = None) -> Template:
    context = {field.name: getattr(page, field.name) for field in fields(page)}
    return Template(page.template, context=context, status_code=status, headers=NO_STORE | (headers or {}))


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(make_environment()))


def make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(asset_folder("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_url
    environment.filters.update(age=age_text, json_data=json_data, json_text=json_text, type_name=type_name)
    environment.filters.update(duration=duration_text, update_word=update_word, quoted=quoted)
    return environment


def static_url(path: str) -> str:
    """Under a folder named by the content of all of them, so that browsers keep a file until any changes."""
    return f"/static/{fingerprint()}/{path}"


@lru_cache(maxsize=1)
def fingerprint() -> str:
    root = asset_folder("static")
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file() and not _is_vendored_docs(path, root)):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _is_vendored_docs(path: Path, root: Path) -> bool:
    return path.is_relative_to(root / "vendor" / "swagger-ui")


def type_name(device_type: str) -> str:
    return TYPE_NAMES.get(device_type, device_type)


def json_data(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`, which ends at the first `</script` whatever quotes say."""
    text = msgspec.json.encode(value).decode()
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def json_text(value: Any) -> str:
    """For a hidden field; escaped where it stands."""
    return msgspec.json.encode(value).decode()


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def age_text(moment: str | None, at: str) -> str:
    """How long before `at`: `now`, `12 s`, `5 min`, `3 h`, `2 d`. The browser's `age.js` says it the same way."""
    if moment is None:
        return "never"
    seconds = _seconds_between(parse_time(moment), parse_time(at))
    return _in_units(seconds) if seconds >= 2 else "now"


def duration_text(seconds: float) -> str:
    """`30 ms`, `2.3 s`, `12 s`, `5 min`, `3 h`, `2 d`."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else _in_units(int(seconds))


def _in_units(seconds: int) -> str:
    for unit_s, unit in _UNITS:
        if seconds >= unit_s:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"


def _seconds_between(earlier: datetime, later: datetime) -> int:
    return max(0, int((later - earlier).total_seconds()))
