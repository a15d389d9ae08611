"""What a controller refuses, and that it does not answer."""

from __future__ import annotations

from ringfence.core.errors import InputError, RingfenceError


class Unreachable(RingfenceError):
    """The controller does not answer, or cannot at the moment."""


class Refused(InputError):
    """The controller said no, with its own code."""

    def __init__(self, code: str, message: str, *, help: str = "", status: int = 400) -> None:
        super().__init__(code, message, help=help)
        self.status = status
