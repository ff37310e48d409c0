"""The types that the application injects and that are Protocols: taken as they are, not checked."""

from __future__ import annotations

from typing import TypeAlias

from litestar.params import SkipValidation

from rosfit.fleet.service import BrokerAccess
from rosfit.kernel.ports import HotStore

Hot: TypeAlias = SkipValidation[HotStore]
Access: TypeAlias = SkipValidation[BrokerAccess | None]
