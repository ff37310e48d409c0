"""Certificates of the broker we start: its own pair, the authority it trusts, and what that has revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from rosfit.fleet.authority import AuthorityFiles
from rosfit.fleet.models import Revoked
from rosfit.infra.embedded.data_folder import DataFolder, write_private
from rosfit.kernel.clock import now

# The broker takes no certificate once the list has run out (after a month), so it is renewed long before.
RENEW_AFTER = timedelta(days=1)
# OpenSSL keeps the lists it has read and goes by the newest, to the second. So each list must be younger than the
# one before, even two in one second, and none may lie in the future.
DATED_BACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class News:
    """What changed with an update; `revoked_of` are the devices of newly revoked certificates."""

    new_authority: bool = False
    new_list: bool = False
    revoked_of: frozenset[str] = frozenset()

    @property
    def changed(self) -> bool:
        return self.new_authority or self.new_list


class BrokerCertificates:
    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._authority = AuthorityFiles(folder.root)
        self._listed: frozenset[str] | None = None
        self._made_at: datetime | None = None

    @property
    def authority(self) -> Path:
        return self._folder.mosquitto / "ca.pem"

    @property
    def revocation_list(self) -> Path:
        return self._folder.mosquitto / "ca.crl"

    @property
    def certificate(self) -> Path:
        return self._folder.mosquitto / "server.pem"

    @property
    def key(self) -> Path:
        return self._folder.mosquitto / "server.key"

    def install_pair(self, certificate: Path, key: Path) -> None:
        """Copy the server's pair to where the broker's user can read it."""
        write_private(self.certificate, certificate.read_text(encoding="ascii"), self._folder.user)
        write_private(self.key, key.read_text(encoding="ascii"), self._folder.user)

    def prepare(self) -> bool:
        """Write what the broker needs to check certificates; False while there is no authority."""
        if self._authority.load() is None:
            return False
        if not (self.authority.exists() and self.revocation_list.exists()):
            self.update([])
        return True

    def update(self, revoked: Sequence[Revoked]) -> News:
        """Write the authority's certificate and its list where they are not what they should be."""
        authority = self._authority.load()
        if authority is None:
            return News()
        known = self.authority.read_text(encoding="ascii") if self.authority.exists() else ""
        if new_authority := known != authority.pem:
            write_private(self.authority, authority.pem, self._folder.user)
        serials = frozenset(one.serial for one in revoked)
        made_at = self._next_time()
        if not new_authority and serials == self._listed and self._is_fresh():
            return News()
        # After a start nobody knows whom the broker has let in meanwhile: every revoked one counts as new.
        before = self._listed or frozenset()
        write_private(self.revocation_list, authority.revocation_list(revoked, made_at), self._folder.user)
        self._listed, self._made_at = serials, made_at
        return News(new_authority, True, frozenset(one.device_id for one in revoked if one.serial not in before))

    def _is_fresh(self) -> bool:
        return self._made_at is not None and now() - self._made_at < RENEW_AFTER + DATED_BACK

    def _next_time(self) -> datetime:
        earliest = now() - DATED_BACK
        last = self._made_at or self._date_of_the_list()
        return earliest if last is None else max(earliest, last + timedelta(seconds=1))

    def _date_of_the_list(self) -> datetime | None:
        """Of the one that is there at a start: a broker that outlived us has read it."""
        if not self.revocation_list.exists():
            return None
        return x509.load_pem_x509_crl(self.revocation_list.read_bytes()).last_update_utc
