"""`/devices/{id}/credentials` and `/certificates`: rotate, list, revoke; and what the authority publishes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.auth import sync_broker_after
from rosfit.api.edge import Edge
from rosfit.api.idempotency import once
from rosfit.fleet import certificates, credentials
from rosfit.fleet.authority import Authority, AuthorityFiles
from rosfit.fleet.certificates import IssuedCertificate
from rosfit.fleet.errors import NoAuthorityError
from rosfit.fleet.models import Certificate, Credential, CredentialInfo, CredentialKind
from rosfit.kernel.errors import NotFoundError
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.DEVICES_WRITE}
PUBLIC = {"public": True}
PEM = "application/x-pem-file"
NO_AUTHORITY = {404: ResponseSpec(None, description="There is no CA yet", generate_examples=False)}

Hours = Annotated[float, msgspec.Meta(gt=0, le=10 * 8766)]


class CredentialRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`overlap_hours` is how long the credentials before this one live on; 0 ends them at once."""

    kind: CredentialKind = "password"
    ttl_hours: Hours = 8766
    overlap_hours: Annotated[float, msgspec.Meta(ge=0, le=8766)] = 24
    scopes: Annotated[list[Literal["publish", "subscribe"]], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["publish", "subscribe"]
    )

    def wanted(self) -> credentials.Wanted:
        ttl, overlap = timedelta(hours=self.ttl_hours), timedelta(hours=self.overlap_hours)
        return credentials.Wanted(self.kind, self.scopes, ttl, overlap)


class SigningRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`csr` is a PKCS #10 request in PEM form."""

    csr: str


class CredentialController(Controller):
    path = "/devices/{device_id:str}"
    tags = ("devices",)

    @post("/credentials", opt=WRITE)
    async def rotate_credential(
        self,
        device_id: str,
        request: Request[Any, Any, Any],
        work: Work,
        edge: Edge,
        data: CredentialRequest | None = None,
    ) -> Response[Credential]:
        """A new MQTT user name and password; those before it live on for the overlap. Shown once."""
        wanted = (data or CredentialRequest()).wanted()

        async def create() -> Credential:
            issued = await credentials.issue(work, device_id, wanted, edge.hash_device_token, edge.signer.sign_device)
            shown = {"id": issued.id, "username": issued.username, "kind": issued.kind, "expires_at": issued.expires_at}
            await record(work, request, "credential.create", device_id, after=shown)
            sync_broker_after(work, edge)
            return issued

        return await once(work, request, actor_of(request).id, 201, create)

    @get("/credentials", opt=READ)
    async def list_credentials(self, device_id: str, work: Work) -> Page[CredentialInfo]:
        """Newest first, without secrets."""
        return Page(await credentials.list_for(work, device_id))

    @delete("/credentials/{credential_id:str}", opt=WRITE)
    async def revoke_credential(
        self, device_id: str, credential_id: str, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> None:
        """At once: who is connected with it is disconnected."""
        await credentials.revoke(work, device_id, credential_id)
        await record(work, request, "credential.revoke", device_id, before={"id": credential_id})
        sync_broker_after(work, edge)

    @post("/certificate", opt=WRITE)
    async def sign_certificate(
        self, device_id: str, data: SigningRequest, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> Response[IssuedCertificate]:
        """Sign a request with RosFit's CA: 90 days, and in the name of this device whatever the request says."""

        async def create() -> IssuedCertificate:
            authority = AuthorityFiles(edge.settings.data_dir).require()
            issued = await certificates.sign(work, authority, device_id, data.csr)
            shown = {"serial": issued.serial, "expires_at": issued.expires_at}
            await record(work, request, "certificate.create", device_id, after=shown)
            sync_broker_after(work, edge)
            return issued

        return await once(work, request, actor_of(request).id, 201, create)

    @get("/certificates", opt=READ)
    async def list_certificates(self, device_id: str, work: Work) -> Page[Certificate]:
        """Newest first."""
        return Page(await certificates.list_for(work, device_id))

    @delete("/certificates/{serial:str}", opt=WRITE)
    async def revoke_certificate(
        self, device_id: str, serial: str, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> None:
        """At once: who is connected with it is disconnected."""
        await certificates.revoke(work, device_id, serial)
        await record(work, request, "certificate.revoke", device_id, before={"serial": serial})
        sync_broker_after(work, edge)


class AuthorityController(Controller):
    """What everybody may know of RosFit's certificate authority."""

    path = "/.well-known"
    tags = ("system",)

    @get("/rosfit-ca.pem", opt=PUBLIC, media_type=PEM, responses=NO_AUTHORITY)
    async def get_ca_certificate(self, edge: Edge) -> Response[str]:
        """The CA's certificate; 404 while there is none."""
        return Response(_authority(edge).pem, media_type=PEM)

    @get("/rosfit.crl", opt=PUBLIC, media_type=PEM, responses=NO_AUTHORITY)
    async def get_revocation_list(self, work: Work, edge: Edge) -> Response[str]:
        """The list of revoked certificates (CRL) as PEM; 404 while there is no CA."""
        listed = await certificates.revocation_list(work, _authority(edge))
        return Response(listed, media_type=PEM)


def _authority(edge: Edge) -> Authority:
    try:
        return AuthorityFiles(edge.settings.data_dir).require()
    except NoAuthorityError as error:
        raise NotFoundError(error.detail) from error
