"""What can be done with accounts. Callers own the unit of work."""

from __future__ import annotations

import hmac

from rosfit.accounts import repository, throttle, tokens
from rosfit.accounts.errors import (
    AdminOnlyError,
    BadCredentialsError,
    RefreshReusedError,
    SetupTokenError,
    TokenExpiredError,
    TokenInvalidError,
    UserExistsError,
)
from rosfit.accounts.models import Actor, Login, NewUser, Tokens, User
from rosfit.accounts.passwords import hash_password, verify_password
from rosfit.accounts.rights import Right
from rosfit.accounts.tokens import ACCESS_TTL_S, REFRESH_TTL_S, SESSION_TTL_S, Signer, new_secret, secret_hash
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work


async def needs_setup(work: Work) -> bool:
    """Whether there is no user yet."""
    return await repository.count_users(work.connection) == 0


async def register(work: Work, new: NewUser, actor: Actor | None, setup_token: str | None) -> User:
    """The first user needs the set-up token and becomes admin; later ones are added by admins."""
    await repository.lock_users(work.connection)
    if await needs_setup(work):
        if not (setup_token and new.setup_token and hmac.compare_digest(new.setup_token, setup_token)):
            raise SetupTokenError("`rosfit serve` prints the set-up address with its token at the first start")
        return await add_user(work, _as_admin(new))
    if actor is None:
        raise TokenInvalidError("Set-up is done; an admin adds further users")
    if not actor.may(Right.USERS_WRITE):
        raise AdminOnlyError("Ask an admin to add this user")
    return await add_user(work, new)


def _as_admin(new: NewUser) -> NewUser:
    return NewUser(new.email, new.password, new.name, "admin")


async def add_user(work: Work, new: NewUser) -> User:
    """Raises UserExistsError. For the operator of the machine and for `register`."""
    user = await repository.insert_user(work.connection, new_id("usr"), new, await hash_password(new.password))
    if user is None:
        raise UserExistsError(f"{new.email} is taken; choose another address")
    return user


async def authenticate(work: Work, login: Login) -> User:
    """The user behind an e-mail and password. Raises BadCredentialsError, for both the same."""
    found = await repository.get_user_by_email(work.connection, login.email)
    fits = await verify_password(found[1] if found else None, login.password)
    user = await repository.get_user(work.connection, found[0]) if found and fits else None
    if user is None:
        raise BadCredentialsError("Check both, or ask an admin for a new password")
    return user


async def issue_tokens(work: Work, signer: Signer, user: User, family: str | None = None) -> Tokens:
    """An access token and the next refresh token of a family (a new one at sign-in)."""
    token, token_hash = new_secret()
    await repository.insert_refresh_token(work.connection, token_hash, family or new_id("fam"), user.id, REFRESH_TTL_S)
    return Tokens(signer.sign(user), token, ACCESS_TTL_S)


async def refresh(work: Work, signer: Signer, refresh_token: str) -> Tokens | RefreshReusedError:
    """New tokens for old; a spent one revokes its family.

    The reuse is returned and not raised: the revocation must be committed before the refusal goes out.
    """
    token_hash = secret_hash(refresh_token)
    row = await repository.lock_refresh_token(work.connection, token_hash)
    if row is None:
        raise TokenInvalidError("This refresh token is not known; sign in again")
    if row.spent:
        await repository.revoke_family(work.connection, row.family)
        return RefreshReusedError("Sign in again; if you did not use it twice, somebody else has it")
    user = await repository.get_user(work.connection, row.user_id)
    if row.expired or user is None:
        raise TokenExpiredError("The refresh token has run out; sign in again")
    await repository.spend_refresh_token(work.connection, token_hash)
    return await issue_tokens(work, signer, user, row.family)


async def revoke_refresh_token(work: Work, refresh_token: str) -> None:
    """Sign out: the whole family ends. An unknown token changes nothing."""
    row = await repository.lock_refresh_token(work.connection, secret_hash(refresh_token))
    if row is not None:
        await repository.revoke_family(work.connection, row.family)


async def me(work: Work, actor: Actor) -> User:
    user = await repository.get_user(work.connection, actor.id)
    if user is None:
        raise TokenInvalidError("This user does not exist any more")
    return user


async def open_session(work: Work, user: User) -> str:
    """A page session; its token goes into the cookie, its hash into the database."""
    token, token_hash = new_secret()
    await repository.insert_session(work.connection, token_hash, user.id, SESSION_TTL_S)
    return token


async def session_actor(work: Work, token: str) -> Actor | None:
    user = await repository.session_user(work.connection, secret_hash(token))
    return Actor(user.id, user.role, user.email, user.name) if user else None


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
