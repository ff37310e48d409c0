"""The dates of the broker's revocation lists, by which OpenSSL chooses among those it has read."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509

from rosfit.fleet.authority import AuthorityFiles
from rosfit.fleet.models import Revoked
from rosfit.infra.embedded import broker_certificates
from rosfit.infra.embedded.broker_certificates import BrokerCertificates
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.unprivileged import server_user

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """With an authority, and a clock that stands still."""
    monkeypatch.setattr(broker_certificates, "now", lambda: NOON)
    (tmp_path / "mosquitto").mkdir()
    AuthorityFiles(tmp_path).create()
    return DataFolder(tmp_path, server_user())


def dates_of(certificates: BrokerCertificates, counts: range) -> list[datetime]:
    """Of the lists that are written as one certificate after another is revoked."""
    dates = []
    for count in counts:
        revoked = [Revoked(f"{serial + 1:x}", f"bot-{serial}", NOON) for serial in range(count)]
        assert certificates.update(revoked).new_list
        written = x509.load_pem_x509_crl(certificates.revocation_list.read_bytes())
        assert len(list(written)) == count
        dates.append(written.last_update_utc)
    return dates


def test_lists_of_one_moment_rise_by_a_second_each_and_none_is_of_the_future(folder: DataFolder) -> None:
    dates = dates_of(BrokerCertificates(folder), range(5))
    assert [(later - earlier).total_seconds() for earlier, later in pairwise(dates)] == [1.0] * 4
    assert dates[-1] < NOON


def test_a_restart_goes_on_after_the_list_that_the_broker_has(folder: DataFolder) -> None:
    """The broker outlives us, and would go on with the old list if the new one were not younger."""
    before = dates_of(BrokerCertificates(folder), range(5))
    after = dates_of(BrokerCertificates(folder), range(5, 7))
    assert before[-1] < after[0] < after[1]
