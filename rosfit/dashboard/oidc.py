"""Sign-in through the organisation's own provider: to it, and back."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import urlsplit

from litestar import get
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Redirect

from rosfit.accounts import audit, oidc
from rosfit.accounts import service as accounts
from rosfit.accounts.audit import Origin
from rosfit.accounts.oidc import Flow, FlowError, Identity, Provider, ProviderRefusedError
from rosfit.dashboard.access import AnyRequest, safe_next, session_cookie
from rosfit.dashboard.injected import Signing
from rosfit.kernel.errors import NotFoundError, RosfitError
from rosfit.kernel.work import Work
from rosfit.settings import Settings

PATH = "/sign-in/oidc"
COOKIE = "rosfit_oidc"

Sso: TypeAlias = SkipValidation[Provider | None]


def sso_name(settings: Settings) -> str:
    """What the button says after "Sign in with"; empty without a provider."""
    return urlsplit(settings.oidc_issuer).netloc if settings.oidc_issuer else ""


@get(PATH, opt={"public": True})
async def begin_sign_in(
    request: AnyRequest,
    edge: NamedDependency[Signing],
    sso: NamedDependency[Sso],
    settings: NamedDependency[Settings],
) -> Redirect:
    """To the provider; the browser keeps what ties its answer to this attempt."""
    # No work is held while the provider is asked: it may be slow.
    async with edge.open_work() as work:
        if await accounts.needs_setup(work):
            return Redirect("/setup")
    flow = oidc.begin(safe_next(request.query_params.get("next")))
    url = await _require(sso).authorization_url(_redirect_uri(request, settings), flow)
    cookie = _cookie(request, oidc.seal(edge.signer, flow), oidc.FLOW_TTL_S)
    return Redirect(url, status_code=303, cookies=[cookie], headers={"Cache-Control": "no-store"})


@get(f"{PATH}/callback", opt={"public": True})
async def finish_sign_in(
    request: AnyRequest,
    edge: NamedDependency[Signing],
    sso: NamedDependency[Sso],
    settings: NamedDependency[Settings],
) -> Redirect:
    """Back from the provider, with a code or with its refusal."""
    provider, given = _require(sso), request.query_params
    flow = oidc.unseal(edge.signer, request.cookies.get(COOKIE, ""), given.get("state", ""))
    code = _code(given, settings)
    claims = await provider.claims(_redirect_uri(request, settings), flow, code)
    identity = oidc.identity_of(claims, settings.oidc_group_claim)
    async with edge.open_work() as work:
        outcome = await _admit(work, request, identity, settings)
    if isinstance(outcome, RosfitError):
        raise outcome
    return _signed_in(request, outcome, flow)


def _require(sso: Provider | None) -> Provider:
    if sso is None:
        raise NotFoundError("No sign-in provider is set: see oidc_issuer")
    return sso


def _code(given: Any, settings: Settings) -> str:
    """Raises ProviderRefusedError."""
    if error := given.get("error"):
        raise ProviderRefusedError(f"It says {error[:100]!r}; start again from the sign-in page")
    # RFC 9207: an answer of another provider must not be taken for one of ours.
    if given.get("iss") not in {None, settings.oidc_issuer}:
        raise ProviderRefusedError("The answer is another provider's; start again from the sign-in page")
    if not given.get("code"):
        raise FlowError("The provider sent no code; start again from the sign-in page")
    return str(given["code"])


async def _admit(work: Work, request: AnyRequest, identity: Identity, settings: Settings) -> str | RosfitError:
    """The token of a page session, or why there is none."""
    role = oidc.role_for(identity.groups, settings.oidc_role_map)
    user = await oidc.admit(work, identity, role)
    origin = Origin(request.client.host if request.client else None, request.scope.get("state", {}).get("request_id"))
    if isinstance(user, RosfitError):
        await audit.record(work, "anonymous", "auth.oidc", identity.subject, origin=origin, result=user.code)
        return user
    await audit.record(work, user.id, "auth.oidc", user.id, after={"role": user.role}, origin=origin)
    return await oidc.open_session(work, user)


def _signed_in(request: AnyRequest, token: str, flow: Flow) -> Redirect:
    cookies = [session_cookie(request, token), _cookie(request, "", 0)]
    return Redirect(flow.then, status_code=303, cookies=cookies, headers={"Cache-Control": "no-store"})


def _cookie(request: AnyRequest, value: str, max_age: int) -> Cookie:
    # Lax: the way back from the provider is a navigation from another site.
    secure = request.url.scheme == "https"
    return Cookie(COOKIE, value=value, path=PATH, max_age=max_age, httponly=True, samesite="lax", secure=secure)


def _redirect_uri(request: AnyRequest, settings: Settings) -> str:
    base = settings.public_url or str(request.base_url)
    return f"{base.rstrip('/')}{PATH}/callback"
