"""The error that people see in the host."""

from __future__ import annotations

from dmm.errors import DmmError


class DmmStylesError(DmmError):
    """A `DmmError` as the hosts want it: their API answers with this status and message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.status_code = 422
        self.detail = message
