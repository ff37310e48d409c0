"""Certificates of devices: signed from their requests, listed, revoked. Callers own the unit of work."""

from __future__ import annotations

import msgspec

from rosfit.fleet import repository
from rosfit.fleet.authority import Authority
from rosfit.fleet.credentials import lock_usable
from rosfit.fleet.errors import CertificateNotFoundError
from rosfit.fleet.models import Certificate
from rosfit.kernel.clock import WireTime, format_time
from rosfit.kernel.work import Work


class IssuedCertificate(msgspec.Struct, frozen=True):
    """Both certificates as PEM; `serial` is hexadecimal, and names it when it is revoked."""

    certificate: str
    ca_certificate: str
    serial: str
    expires_at: WireTime


async def sign(work: Work, authority: Authority, device_id: str, csr: str) -> IssuedCertificate:
    """A certificate that is this device, whatever the request says. Older ones live on until they run out."""
    await lock_usable(work, device_id)
    signed = authority.sign_request(csr, device_id)
    await repository.insert_certificate(
        work.connection, signed.serial, device_id, signed.fingerprint, signed.expires_at
    )
    return IssuedCertificate(signed.pem, authority.pem, signed.serial, format_time(signed.expires_at))


async def holder(
    work: Work, authority: Authority, certificate_pem: str, signature: bytes, signed: str
) -> str | None:
    """The device of a live certificate of ours whose key has made `signature` over `signed`; else None."""
    proven = authority.proven(certificate_pem, signature, signed.encode())
    if proven is None:
        return None
    serial, device_id = proven
    known = await repository.list_certificates(work.connection, device_id)
    return device_id if any(one.serial == serial and one.revoked_at is None for one in known) else None


async def list_for(work: Work, device_id: str) -> list[Certificate]:
    """Newest first, also those that ended."""
    return await repository.list_certificates(work.connection, device_id)


async def revoke(work: Work, device_id: str, serial: str) -> None:
    """At once. Raises CertificateNotFoundError."""
    if not await repository.revoke_certificate(work.connection, device_id, serial.lower().lstrip("0")):
        raise CertificateNotFoundError(f"{device_id} has no certificate {serial[:64]!r} that is in use")


async def revocation_list(work: Work, authority: Authority) -> str:
    """The signed list (CRL) as PEM."""
    return authority.revocation_list(await repository.revoked_certificates(work.connection))
