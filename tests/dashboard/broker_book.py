"""A broker's accounts, in memory."""

from __future__ import annotations

from collections.abc import Mapping


class BrokerBook:
    """Implements `BrokerAccess`."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}

    async def write_accounts(self, accounts: Mapping[str, str]) -> None:
        self.accounts = dict(accounts)
