"""What a change makes of a shadow that is held. Pure: times come with the shadow, from the database's clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rosfit.kernel.clock import parse_time
from rosfit.shadow.delta import Document, delta, merge, merge_stamps, same
from rosfit.shadow.errors import ShadowShapeError, StaleReportError, VersionConflictError
from rosfit.shadow.limits import check_patch, check_section
from rosfit.shadow.models import Change, Report, Stored
from rosfit.shadow.overlay import Layer, overlay


def check_version(stored: Stored, version: int | None) -> None:
    if version is not None and version != stored.version:
        raise VersionConflictError(f"The shadow is at version {stored.version}, not {version}; read it again")


def desired_changed(stored: Stored, change: Change, layers: Iterable[Layer], author: str) -> Stored:
    """Raises VersionConflictError, ShadowShapeError or ShadowTooLargeError."""
    check_patch(change.patch)
    if change.patch is not None and not isinstance(change.patch, dict):
        raise ShadowShapeError("desired is an object, or null to remove it")
    check_version(stored, change.version)
    own, stamps = changed_values(stored.own, stored.own_metadata, change, {"timestamp": stored.at, "by": author})
    check_section("desired", own)
    return _next(layered(msgspec.structs.replace(stored, own=own, own_metadata=stamps), layers))


def changed_values(
    values: Document | None, stamps: Document, change: Change, stamp: Document
) -> tuple[Document | None, Document]:
    """Desired values after a change, and their stamps."""
    if change.patch is None:
        return None, {}
    base, base_stamps = ({}, {}) if change.replace else (values or {}, stamps)
    return merge(base, change.patch), merge_stamps(base_stamps, change.patch, stamp)


def layered(stored: Stored, layers: Iterable[Layer]) -> Stored:
    """With desired as the layers and the device's own values make it, and no new version."""
    below = list(layers)
    if not below:
        return msgspec.structs.replace(stored, desired=stored.own, desired_metadata=stored.own_metadata)
    found = overlay([*below, Layer(stored.own or {}, stored.own_metadata)])
    check_section("desired", found.document)
    desired = found.document or (None if stored.own is None else {})
    return msgspec.structs.replace(stored, desired=desired, desired_metadata=found.stamps)


def layers_changed(stored: Stored, layers: Iterable[Layer]) -> Stored:
    """A new version where the layers make another desired; the same one where only stamps differ, or nothing."""
    after = layered(stored, layers)
    return after if same(after.desired, stored.desired) else _next(after)


def reported_changed(stored: Stored, report: Report) -> Stored:
    """Raises StaleReportError, VersionConflictError, ShadowShapeError or ShadowTooLargeError."""
    check_patch(report.state)
    if report.state is not None and not isinstance(report.state, dict):
        raise ShadowShapeError("reported is an object, or null to remove it")
    if report.seq is not None and stored.last_seq is not None and report.seq < stored.last_seq:
        raise StaleReportError(f"seq {report.seq} is below {stored.last_seq}, which was taken before")
    check_version(stored, report.version)
    reported = None if report.state is None else merge(stored.reported or {}, report.state)
    check_section("reported", reported)
    stamps = {} if report.state is None else merge_stamps(stored.reported_metadata, report.state, _time(stored))
    seq = report.seq if report.seq is not None else stored.last_seq
    after = _next(msgspec.structs.replace(stored, reported=reported, reported_metadata=stamps, last_seq=seq))
    if stored.pending_since is not None and after.pending_since is None:
        took = parse_time(stored.at) - parse_time(stored.pending_since)
        return msgspec.structs.replace(after, sync_s=max(0.0, took.total_seconds()))
    return after


def _time(stored: Stored) -> dict[str, Any]:
    return {"timestamp": stored.at}


def _next(stored: Stored) -> Stored:
    """One version on; pending from when the device first did not have what is desired."""
    differs = bool(delta(stored.desired or {}, stored.reported or {}))
    since = (stored.pending_since or stored.at) if differs else None
    return msgspec.structs.replace(stored, version=stored.version + 1, updated_at=stored.at, pending_since=since)
