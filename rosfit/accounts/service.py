"""What can be done with accounts. Callers own the unit of work."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec

from rosfit.accounts import hooks, repository, throttle, tokens
from rosfit.accounts.errors import (
    AdminOnlyError,
    BadClientError,
    BadCredentialsError,
    KeyExpiryError,
    KeyNotFoundError,
    LastAdminError,
    RefreshReusedError,
    SetupTokenError,
    TokenExpiredError,
    TokenInvalidError,
    UserExistsError,
    UserNotFoundError,
)
from rosfit.accounts.models import (
    Actor,
    Key,
    KeyWithSecret,
    Login,
    NewKey,
    NewUser,
    Tokens,
    User,
    UserChange,
)
from rosfit.accounts.passwords import hash_password, verify_password
from rosfit.accounts.rights import Right
from rosfit.accounts.tokens import (
    ACCESS_TTL_S,
    KEY_PREFIX,
    REFRESH_TTL_S,
    SESSION_TTL_S,
    Signer,
    new_secret,
    secret_hash,
)
from rosfit.fleet import groups
from rosfit.fleet.models import Reach
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import FieldError
from rosfit.kernel.feed import Event
from rosfit.kernel.ids import new_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work


async def needs_setup(work: Work) -> bool:
    """Whether there is no user yet."""
    return await repository.count_users(work.connection) == 0


async def register(work: Work, new: NewUser, actor: Actor | None, setup_token: str | None) -> User:
    """The first user needs the set-up token and becomes admin; later ones are added by admins."""
    await repository.lock_users(work.connection)
    await check_registrar(work, actor)
    if await needs_setup(work):
        # As bytes: compare_digest takes no text beyond ASCII.
        given = (new.setup_token or "").encode(errors="replace")
        if not (setup_token and hmac.compare_digest(given, setup_token.encode())):
            raise SetupTokenError("`rosfit serve` prints the set-up address with its token at the first start")
        return await add_user(work, _as_admin(new))
    return await add_user(work, new)


async def check_registrar(work: Work, actor: Actor | None) -> None:
    """Until there is a user, anybody may try: then the set-up token decides."""
    if await needs_setup(work):
        return
    if actor is None:
        raise TokenInvalidError("Set-up is done; an admin adds further users")
    if not actor.may(Right.USERS_WRITE):
        raise AdminOnlyError("Ask an admin to add this user")


def _as_admin(new: NewUser) -> NewUser:
    return NewUser(new.email, new.password, new.name, "admin")


async def _check_groups(work: Work, only_groups: object) -> None:
    """Raises GroupNotFoundError for an id that is none: a limit to nothing must be meant."""
    if isinstance(only_groups, list):
        for group_id in only_groups:
            await groups.get(work, group_id)


async def add_user(work: Work, new: NewUser) -> User:
    """Raises UserExistsError. For the operator of the machine and for `register`."""
    await _check_groups(work, new.only_groups)
    user = await repository.insert_user(work.connection, new_id("usr"), new, await hash_password(new.password))
    if user is None:
        raise UserExistsError(f"{new.email} is taken; choose another address")
    return user


async def authenticate(work: Work, login: Login) -> User:
    """The user behind an e-mail and password. Raises BadCredentialsError, for both the same."""
    found = await repository.get_user_by_email(work.connection, login.email)
    fits = await verify_password(found[1] if found else None, login.password)
    user = await repository.get_user(work.connection, found[0]) if found and fits else None
    if user is None or user.disabled:
        raise BadCredentialsError("Check both, or ask an admin for a new password")
    return user


async def issue_tokens(work: Work, signer: Signer, user: User, family: str | None = None) -> Tokens:
    """An access token and the next refresh token of a family (a new one at sign-in)."""
    token, token_hash = new_secret()
    family = family or new_id("fam")
    await repository.insert_refresh_token(work.connection, token_hash, family, user.id, REFRESH_TTL_S)
    return Tokens(signer.sign(user, family), token, ACCESS_TTL_S)


async def refresh(work: Work, signer: Signer, refresh_token: str) -> Tokens | RefreshReusedError:
    """New tokens for old; a spent one revokes its family.

    The reuse is returned and not raised: the revocation must be committed before the refusal goes out.
    """
    token_hash = secret_hash(refresh_token)
    row = await repository.lock_refresh_token(work.connection, token_hash)
    if row is None:
        raise TokenInvalidError("This refresh token is not known; sign in again")
    if row.spent:
        await end_family(work, row.family)
        return RefreshReusedError("Sign in again; if you did not use it twice, somebody else has it")
    user = await repository.get_user(work.connection, row.user_id)
    if row.expired or user is None or user.disabled:
        raise TokenExpiredError("The refresh token has run out; sign in again")
    await repository.spend_refresh_token(work.connection, token_hash)
    return await issue_tokens(work, signer, user, row.family)


async def revoke_refresh_token(work: Work, refresh_token: str) -> None:
    """Sign out: the whole family ends. An unknown token changes nothing."""
    row = await repository.lock_refresh_token(work.connection, secret_hash(refresh_token))
    if row is not None:
        await end_family(work, row.family)


async def end_family(work: Work, family: str) -> None:
    """Its refresh tokens and the access tokens that came with them."""
    await repository.revoke_family(work.connection, family)
    _announce(work, family)


def _announce(work: Work, credential: str) -> None:
    """Once it is committed, no server believes what it looked up before; see `Identities.forget`."""
    work.announce(Event("access", credential, "", b"", format_time(now())))


async def me(work: Work, actor: Actor) -> User:
    user = await repository.get_user(work.connection, actor.id)
    if user is None:
        raise UserNotFoundError("The credential is an API key's; /auth/me tells of people")
    return user


async def list_users(work: Work, cursor: str | None, limit: int) -> Page[User]:
    key = decode_cursor(cursor, tuple[str])
    rows = await repository.list_users(work.connection, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda user: (user.id,))


async def get_user(work: Work, user_id: str) -> User:
    """Raises UserNotFoundError."""
    user = await repository.get_user(work.connection, user_id)
    if user is None:
        raise UserNotFoundError(f"There is no user {user_id[:64]!r}")
    return user


async def names(work: Work, ids: Iterable[str]) -> dict[str, str]:
    """How to call these users and keys: by e-mail and by name. Those that are gone are missing."""
    wanted = sorted(set(ids))
    return await repository.names(work.connection, wanted) if wanted else {}


async def find_user(work: Work, email: str) -> User:
    """Raises UserNotFoundError."""
    user = await repository.find_user_by_email(work.connection, email)
    if user is None:
        raise UserNotFoundError(f"There is no user with the address {email[:254]!r}")
    return user


async def change_user(work: Work, user_id: str, change: UserChange) -> User:
    """Change what an admin may. A new password, another role and disabling sign the user out everywhere."""
    await repository.lock_users(work.connection)
    before = await get_user(work, user_id)
    await _check_groups(work, change.only_groups)
    if before.role == "admin" and _ends_admin(change):
        await _require_other_admin(work, before)
    password_hash = await hash_password(change.password) if isinstance(change.password, str) else None
    await repository.update_user(work.connection, user_id, change, password_hash)
    if password_hash or change.disabled is True:
        await repository.sign_out_everywhere(work.connection, user_id)
    _announce(work, user_id)
    return await get_user(work, user_id)


def _ends_admin(change: UserChange) -> bool:
    """A limit counts, too: rights over the whole fleet, people among them, end with it."""
    limited = any(isinstance(limits, list) and limits for limits in (change.only_groups, change.only_tags))
    return limited or change.disabled is True or change.role not in {msgspec.UNSET, "admin"}


async def delete_user(work: Work, user_id: str) -> User:
    """Raises LastAdminError for the last admin who can sign in here."""
    await repository.lock_users(work.connection)
    user = await get_user(work, user_id)
    if user.role == "admin":
        await _require_other_admin(work, user)
    await repository.delete_user(work.connection, user_id)
    _announce(work, user_id)
    return user


async def _require_other_admin(work: Work, user: User) -> None:
    if not user.disabled and await repository.other_admins(work.connection, user.id) == 0:
        raise LastAdminError(f"{user.email} is the last admin; make another one first")


async def create_key(work: Work, new: NewKey, actor: Actor) -> KeyWithSecret:
    """An API key; its secret is in the answer and nowhere else."""
    await _check_groups(work, new.only_groups)
    if new.expires_at is not None and (new.expires_at.tzinfo is None or new.expires_at <= now()):
        raise KeyExpiryError(errors=(FieldError("expires_at", "a time in the future with an offset"),))
    key_id = new_id("key")
    secret, _ = new_secret()
    secret = KEY_PREFIX + secret
    expires_at = await repository.insert_key(work.connection, key_id, new, secret_hash(secret), actor.id)
    scopes = [scope.value for scope in new.scopes]
    return KeyWithSecret(key_id, new.name, scopes, secret, new.only_groups, new.only_tags, expires_at)


async def list_keys(work: Work, cursor: str | None, limit: int) -> Page[Key]:
    key = decode_cursor(cursor, tuple[str])
    rows = await repository.list_keys(work.connection, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda row: (row.id,))


async def revoke_key(work: Work, key_id: str) -> None:
    """Raises KeyNotFoundError."""
    if not await repository.revoke_key(work.connection, key_id):
        raise KeyNotFoundError(f"There is no API key {key_id[:64]!r} in use")
    _announce(work, key_id)


async def client_token(work: Work, signer: Signer, client_id: str, client_secret: str) -> tuple[str, Actor]:
    """OAuth 2 client credentials: an access token for an API key. Raises BadClientError."""
    key = await repository.key_actor(work.connection, secret_hash=secret_hash(client_secret))
    if key is None or not hmac.compare_digest(key.id.encode(), client_id.encode()):
        raise BadClientError("client_id is the id of an API key and client_secret its secret")
    return signer.sign_key(key), key


async def open_session(work: Work, user: User) -> str:
    """A page session; its token goes into the cookie, its hash into the database."""
    token, token_hash = new_secret()
    await repository.insert_session(work.connection, token_hash, user.id, SESSION_TTL_S)
    return token


async def session_actor(work: Work, token: str) -> Actor | None:
    user = await repository.session_user(work.connection, secret_hash(token))
    if user is None:
        return None
    reach = Reach(tuple(user.only_groups), tuple(user.only_tags))
    return Actor(user.id, user.role, user.email, user.name, reach=reach)


async def close_session(work: Work, token: str) -> None:
    await repository.delete_session(work.connection, secret_hash(token))


async def load_signer(work: Work) -> Signer:
    """The signer of this installation; makes its first key."""
    await repository.lock_signing_keys(work.connection)
    keys = await repository.signing_keys(work.connection)
    if not keys:
        key_id, jwk = tokens.new_signing_key()
        await repository.insert_signing_key(work.connection, key_id, jwk)
        keys = [(key_id, jwk)]
    return Signer([jwk for _, jwk in keys])


async def delete_expired(work: Work) -> None:
    await repository.delete_expired(work.connection)
    await throttle.trim(work)
    await hooks.trim(work)
