"""How an update ends other than well. `code` is stable and goes to the server with the message."""

from __future__ import annotations


class UpdateError(Exception):
    """`status` is what the device deployment becomes."""

    status = "failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": str(self)[:2000]}


class RejectedError(UpdateError):
    """The robot's own policy forbids it; nothing was touched."""

    status = "rejected"


class RolledBackError(UpdateError):
    """The version before counts again."""

    status = "rolled_back"


class InterruptedByStopError(Exception):
    """The bridge is being stopped: the step is taken up again at the next start."""
