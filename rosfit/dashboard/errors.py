"""Errors as people see them: a page, a fragment for htmx, or JSON for a page's own script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from litestar import Request, Response

from rosfit.accounts.models import Actor
from rosfit.dashboard.access import SignInNeededError, sign_in_answer
from rosfit.dashboard.rendering import NO_STORE, Page, Shell, render, shell_for
from rosfit.kernel.errors import RosfitError


@dataclass(frozen=True)
class ErrorPage(Page):
    template: ClassVar[str] = "error.html"
    shell: Shell
    status: int
    title: str
    detail: str
    code: str


@dataclass(frozen=True)
class ErrorFragment(Page):
    template: ClassVar[str] = "error_fragment.html"
    title: str
    detail: str
    code: str


@dataclass(frozen=True)
class SignedOutFragment(Page):
    template: ClassVar[str] = "signed_out.html"


def _is_editing(request: Request[Any, Any, Any]) -> bool:
    """In an editor of desired values, where leaving the page would lose what was typed."""
    return request.method == "POST" and request.headers.get("hx-target", "").endswith("#shadow-editor")


def error_page(request: Request[Any, Any, Any], error: RosfitError) -> Response[Any]:
    if isinstance(error, SignInNeededError):
        return render(SignedOutFragment(), status=401) if _is_editing(request) else sign_in_answer(request, error)
    if "hx-request" in request.headers:
        return render(ErrorFragment(error.title, error.detail, error.code), status=error.status)
    if "text/html" not in request.headers.get("accept", ""):
        body = {"code": error.code, "title": error.title, "status": error.status, "detail": error.detail}
        return Response(body, status_code=error.status, headers=NO_STORE)
    # Whoever is known by then keeps the way on.
    actor = request.scope.get("actor")
    shell = shell_for(actor if isinstance(actor, Actor) else None)
    page = ErrorPage(shell, error.status, error.title, error.detail, error.code)
    return render(page, status=error.status)
