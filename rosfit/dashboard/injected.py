"""The types that the application injects and that are Protocols: taken as they are, not checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from litestar.params import SkipValidation

from rosfit.accounts.throttle import OpenWork
from rosfit.accounts.tokens import Signer
from rosfit.fleet.service import BrokerAccess
from rosfit.kernel.ports import HotStore, ObjectStore
from rosfit.ota.telling import Notice


class HashesTokens(Protocol):
    """The part of the application's `edge` that issuing a credential needs."""

    @property
    def hash_device_token(self) -> Callable[[str], str]: ...


class IssuesCredentials(HashesTokens, Protocol):
    """And signing a token as a credential."""

    @property
    def signer(self) -> Signer: ...


class OpensWork(Protocol):
    """The part of the application's `edge` that work apart from the request's own needs."""

    @property
    def open_work(self) -> OpenWork: ...


class StoresObjects(OpensWork, Protocol):
    """And where the bytes of artifacts go."""

    @property
    def objects(self) -> ObjectStore: ...


class Notices(Protocol):
    """How the audit log learns what a deployment does by itself."""

    @property
    def update_notice(self) -> Notice: ...


class OpensWorkAndSigns(OpensWork, Protocol):
    """And what only this installation may read again."""

    @property
    def signer(self) -> Signer: ...


Hot: TypeAlias = SkipValidation[HotStore]
Access: TypeAlias = SkipValidation[BrokerAccess | None]
Hashing: TypeAlias = SkipValidation[HashesTokens]
Issuing: TypeAlias = SkipValidation[IssuesCredentials]
Opening: TypeAlias = SkipValidation[OpensWork]
Storing: TypeAlias = SkipValidation[StoresObjects]
Noticing: TypeAlias = SkipValidation[Notices]
Signing: TypeAlias = SkipValidation[OpensWorkAndSigns]
