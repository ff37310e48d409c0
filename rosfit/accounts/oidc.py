"""Sign-in through an OpenID Connect provider: what its claims mean here. The provider itself is an adapter's."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from cryptography.fernet import InvalidToken
from psycopg.rows import dict_row

from rosfit.accounts import repository
from rosfit.accounts.models import ROLES, Role, User
from rosfit.accounts.passwords import hash_password
from rosfit.accounts.repository import QUERIES
from rosfit.accounts.tokens import Signer, new_secret
from rosfit.kernel.errors import BadRequestError, ConflictError, PermissionDeniedError, RosfitError
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work

# From the button to the way back: a password, a second factor, and a moment to find the telephone.
FLOW_TTL_S = 600
# After this the provider is asked again, so that who has left it, or lost a group, loses it here, too.
SESSION_TTL_S = 12 * 3600
_PURPOSE = "oidc flow"


class Flow(msgspec.Struct, frozen=True):
    """What ties the answer of the provider to this browser and to this one attempt."""

    state: str
    nonce: str
    verifier: str
    then: str


class Identity(msgspec.Struct, frozen=True):
    """A person as the provider knows them. `subject` is unique among all providers."""

    subject: str
    email: str
    name: str
    groups: frozenset[str]


class Provider(Protocol):
    """Raises UnavailableError when the provider does not answer, TokenRefusedError when its answer is not good."""

    async def authorization_url(self, redirect_uri: str, flow: Flow) -> str: ...

    async def claims(self, redirect_uri: str, flow: Flow, code: str) -> dict[str, Any]:
        """The claims of a verified ID token, and of the user info where that is needed for the groups."""
        ...


class FlowError(BadRequestError):
    code = "OIDC_FLOW_INVALID"
    title = "This sign-in took too long, or was begun in another browser"


class ProviderRefusedError(PermissionDeniedError):
    code = "OIDC_REFUSED"
    title = "The provider did not sign you in"


class TokenRefusedError(PermissionDeniedError):
    code = "OIDC_TOKEN_INVALID"
    title = "The provider's answer cannot be trusted"


class NoRoleError(PermissionDeniedError):
    code = "OIDC_NO_ROLE"
    title = "None of your groups may use RosFit"


class AccountDisabledError(PermissionDeniedError):
    code = "OIDC_ACCOUNT_DISABLED"
    title = "This account is disabled"


class EmailMissingError(PermissionDeniedError):
    code = "OIDC_EMAIL_MISSING"
    title = "The provider does not tell your e-mail address"


class EmailTakenError(ConflictError):
    code = "OIDC_EMAIL_TAKEN"
    title = "A local account has this e-mail address already"


def begin(then: str) -> Flow:
    return Flow(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), then)


def seal(signer: Signer, flow: Flow) -> str:
    """For the browser to keep: encrypted, so that it is of use to nobody else, and to every replica."""
    return signer.box(_PURPOSE).encrypt(msgspec.json.encode(flow)).decode()


def unseal(signer: Signer, sealed: str, state: str) -> Flow:
    """Raises FlowError for one that is too old, changed, or of another attempt."""
    try:
        flow = msgspec.json.decode(signer.box(_PURPOSE).decrypt(sealed, ttl=FLOW_TTL_S), type=Flow)
    except (InvalidToken, msgspec.MsgspecError) as error:
        raise FlowError("Start again from the sign-in page") from error
    if not secrets.compare_digest(flow.state.encode(), state.encode()):
        raise FlowError("Start again from the sign-in page")
    return flow


def identity_of(claims: Mapping[str, Any], group_claim: str) -> Identity:
    """Raises EmailMissingError."""
    email = claims.get("email")
    if not isinstance(email, str) or "@" not in email:
        raise EmailMissingError("Ask for the scope `email` in oidc_scopes, and let the provider release the claim")
    name = claims.get("name") or claims.get("preferred_username") or ""
    subject = f"{claims['iss']}#{claims['sub']}"
    return Identity(subject, email[:254], str(name)[:200], frozenset(_groups(claims, group_claim)))


def _groups(claims: Mapping[str, Any], group_claim: str) -> list[str]:
    """The claim by its whole name, or by a dotted path as in Keycloak's `realm_access.roles`."""
    found: Any = claims.get(group_claim)
    if found is None:
        found = claims
        for part in group_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [group for group in found if isinstance(group, str)] if isinstance(found, list) else []


def role_for(groups: frozenset[str], role_map: Mapping[str, Role]) -> Role | None:
    """The highest role that any of the groups gives."""
    given = {role for group, role in role_map.items() if group in groups}
    return max(given, key=ROLES.index, default=None)


async def admit(work: Work, identity: Identity, role: Role | None) -> User | RosfitError:
    """Make or update the user of this subject. Local accounts, whatever their address, are never touched.

    A refusal is returned and not raised: that it ends the sessions of somebody who lost their groups must be committed.
    """
    await repository.lock_users(work.connection)
    known = await _find(work, identity.subject)
    if role is None:
        if known is not None:
            await repository.sign_out_everywhere(work.connection, known.id)
        return NoRoleError(f"Ask an admin to map one of your groups: {', '.join(sorted(identity.groups)) or 'none'}")
    if known is None:
        return await _add(work, identity, role)
    if known.disabled:
        return AccountDisabledError("Ask an admin to enable it again")
    values = {"user_id": known.id, "email": identity.email, "name": identity.name, "role": role}
    await work.connection.execute(QUERIES["update_oidc_user"], values)
    return await _find(work, identity.subject) or known


async def _find(work: Work, subject: str) -> User | None:
    cursor = work.connection.cursor(row_factory=dict_row)
    row = await (await cursor.execute(QUERIES["find_oidc_user"], {"subject": subject})).fetchone()
    return msgspec.convert(row, User) if row else None


async def _add(work: Work, identity: Identity, role: Role) -> User | RosfitError:
    # A password that nobody knows, so that a try at it takes as long as at any other account.
    password_hash = await hash_password(secrets.token_urlsafe(32))
    values = msgspec.structs.asdict(identity) | {"role": role, "user_id": new_id("usr"), "password_hash": password_hash}
    del values["groups"]
    await work.connection.execute(QUERIES["insert_oidc_user"], values)
    added = await _find(work, identity.subject)
    return added or EmailTakenError(f"Sign in as {identity.email} with its password, or ask an admin to remove it")


async def open_session(work: Work, user: User) -> str:
    """A page session that ends sooner than one of a local account."""
    token, token_hash = new_secret()
    await repository.insert_session(work.connection, token_hash, user.id, SESSION_TTL_S)
    return token
