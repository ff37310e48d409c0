"""Set-up of the first account, sign-in and sign-out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect, Template

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.errors import BadCredentialsError, SetupTokenError
from rosfit.accounts.models import Login, NewUser, User
from rosfit.accounts.setup import SetupToken
from rosfit.accounts.throttle import throttled
from rosfit.dashboard.access import COOKIE, AnyRequest, origin_of, safe_next, session_cookie
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.oidc import sso_name
from rosfit.dashboard.rendering import Page, render
from rosfit.kernel.errors import RateLimitedError, RosfitError
from rosfit.kernel.work import Work
from rosfit.settings import Settings

PUBLIC: dict[str, Any] = {"public": True}

_EXPECTED = {
    "email": "Enter an e-mail address such as ada@example.org",
    "password": "Use 8 to 1024 characters",
    "name": "Use at most 200 characters",
}


@dataclass(frozen=True)
class SetupPage(Page):
    template: ClassVar[str] = "setup.html"
    email: str = ""
    name: str = ""
    token: str = ""
    error: str = ""
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SignInPage(Page):
    template: ClassVar[str] = "sign_in.html"
    then: str = "/"
    email: str = ""
    error: str = ""
    sso: str = ""


@get("/setup", opt=PUBLIC)
async def show_setup(work: NamedDependency[Work]) -> Template | Redirect:
    if not await accounts.needs_setup(work):
        return Redirect("/sign-in")
    return render(SetupPage())


@post("/setup", opt=PUBLIC, status_code=200)
async def set_up(
    request: AnyRequest, edge: NamedDependency[Opening], setup_token: NamedDependency[SetupToken]
) -> Response[Any]:
    """Make the first account and sign it in."""
    # Before the database is asked, so that a slow sender holds no connection.
    form = await request.form()
    email, name, token = (str(form.get(key, "")).strip() for key in ("email", "name", "token"))
    password = str(form.get("password", ""))
    page = SetupPage(email, name, token)
    if wrong := _wrong_fields({"email": email, "name": name, "password": password}):
        return render(replace(page, field_errors=wrong), status=422)
    new = NewUser(email, password, name, setup_token=token)
    try:
        async with edge.open_work() as work:
            return await _first_user(work, request, new, setup_token)
    except SetupTokenError as error:
        return render(replace(page, error=_sentence(error)), status=error.status)


async def _first_user(work: Work, request: AnyRequest, new: NewUser, setup_token: SetupToken) -> Redirect:
    if not await accounts.needs_setup(work):
        return Redirect("/sign-in", status_code=303)
    user = await accounts.register(work, new, None, setup_token.value())
    await audit.record(work, "anonymous", "user.create", user.id, after=user, origin=origin_of(request))

    async def forget_token() -> None:
        setup_token.clear()

    work.then(forget_token)
    return await signed_in(request, work, user, "/")


def _wrong_fields(given: dict[str, str]) -> dict[str, str]:
    return {name: _EXPECTED[name] for name, value in given.items() if not _fits(name, value)}


def _fits(name: str, value: str) -> bool:
    template = {"email": "a@b", "password": "x" * 8, "name": ""}
    try:
        msgspec.convert(template | {name: value}, NewUser)
    except msgspec.ValidationError:
        return False
    return True


@get("/sign-in", opt=PUBLIC)
async def show_sign_in(
    request: AnyRequest, work: NamedDependency[Work], settings: NamedDependency[Settings]
) -> Template | Redirect:
    if await accounts.needs_setup(work):
        return Redirect("/setup")
    return render(SignInPage(safe_next(request.query_params.get("next")), sso=sso_name(settings)))


@post("/sign-in", opt=PUBLIC, status_code=200)
async def sign_in(
    request: AnyRequest, edge: NamedDependency[Opening], settings: NamedDependency[Settings]
) -> Response[Any]:
    form = await request.form()
    email, then = str(form.get("email", "")).strip(), safe_next(str(form.get("next", "")))
    login = Login(email, str(form.get("password", "")))

    async def attempt(work: Work) -> Redirect:
        user = await accounts.authenticate(work, login)
        await audit.record(work, user.id, "auth.login", user.id, origin=origin_of(request))
        return await signed_in(request, work, user, then)

    address = request.client.host if request.client else None
    try:
        return await throttled(edge.open_work, email, address, attempt)
    except (BadCredentialsError, RateLimitedError) as error:
        page = SignInPage(then, email, _sentence(error), sso_name(settings))
        return render(page, status=error.status, headers=_retry_after(error))


def _sentence(error: RosfitError) -> str:
    return f"{error.title}. {error.detail}."


def _retry_after(error: RosfitError) -> dict[str, str]:
    return {"Retry-After": f"{error.retry_after_s:.0f}"} if isinstance(error, RateLimitedError) else {}


async def signed_in(request: AnyRequest, work: Work, user: User, then: str) -> Redirect:
    token = await accounts.open_session(work, user)
    return Redirect(then, status_code=303, cookies=[session_cookie(request, token)])


@post("/sign-out", opt=PUBLIC, status_code=200)
async def sign_out(request: AnyRequest, work: NamedDependency[Work]) -> Redirect:
    if token := request.cookies.get(COOKIE):
        await accounts.close_session(work, token)
    answer = Redirect("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer
