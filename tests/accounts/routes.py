"""Every route of the application, as the tests of access walk them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from litestar.handlers import HTTPRouteHandler

from rosfit.accounts.rights import Right
from rosfit.app import make_app
from rosfit.settings import Settings


class Route(NamedTuple):
    """`right` is None where any signed-in actor will do."""

    method: str
    template: str
    right: Right | None
    has_body: bool

    def path(self, **given: str) -> str:
        """With names filled in; what is not given names nothing that exists."""
        return re.sub(r"{(\w+)[^}]*}", lambda found: given.get(found[1], "none-such"), self.template)

    @property
    def is_page(self) -> bool:
        return not self.template.startswith(("/api/", "/metrics", "/docs"))

    @property
    def changes(self) -> bool:
        return self.method != "GET"


class _NoEdge:
    """Routes are only walked: nothing behind the edge is asked."""

    settings = Settings()

    def __getattr__(self, name: str) -> None:
        return None


def private_routes() -> list[Route]:
    return [
        Route(str(method), path, handler.opt["right"], handler.parsed_data_field is not None)
        for path, handler in _handlers()
        if "right" in handler.opt
        for method in handler.http_methods
    ]


def public_forms() -> list[str]:
    """Pages' forms that need no session."""
    handlers = [(path, handler) for path, handler in _handlers() if handler.opt.get("public")]
    return [path for path, handler in handlers if "POST" in handler.http_methods and not path.startswith("/api/")]


def _handlers() -> Iterator[tuple[str, HTTPRouteHandler]]:
    app = make_app(_NoEdge())  # type: ignore[arg-type]
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler):
                yield route.path_format, handler
