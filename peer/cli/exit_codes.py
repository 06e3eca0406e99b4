"""The one table from what happened to the exit code (docs/interface.md, Exit codes)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..errors import CallFailed, ConfigError, MediaError, PeerError, ServerError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
SERVER: Final = 3
ABSENT: Final = 4
MEDIA: Final = 5
LOST: Final = 6
INTERRUPTED: Final = 130

_BEFORE_CONNECTED: Final[Mapping[str, int]] = {
    "hang-up": DONE,  # our own: the deadline of --duration, or a key in the window
    "remote-hang-up": ABSENT,  # it hung up instead of answering
    "peer-left": ABSENT,
    "no-answer": ABSENT,
    "declined": ABSENT,
    "timeout": FAILED,  # it answered, and no path for media was found
    "transport-failed": FAILED,
    "replaced": FAILED,
    "media-error": MEDIA,
    "shutdown": INTERRUPTED,
}

_AFTER_CONNECTED: Final[Mapping[str, int]] = {
    "hang-up": DONE,
    "remote-hang-up": DONE,
    "peer-left": LOST,  # it went without hanging up
    "no-answer": LOST,
    "declined": LOST,
    "timeout": LOST,
    "transport-failed": LOST,
    "replaced": LOST,
    "media-error": MEDIA,
    "shutdown": INTERRUPTED,
}


def of_reason(reason: str, *, connected: bool) -> int:
    """The code of a call that ended for ``reason``, before or after it was connected."""
    table = _AFTER_CONNECTED if connected else _BEFORE_CONNECTED
    return table.get(reason, FAILED)


def of_error(error: PeerError) -> int:
    """The code of a command that ``error`` ended."""
    match error:
        case ConfigError():
            return USAGE
        case ServerError():
            return SERVER
        case CallFailed():
            return of_reason(error.reason, connected=False)
        case MediaError():
            return MEDIA
        case _:  # a script's step, an expectation
            return FAILED


def code_of(error: PeerError) -> str:
    """The ``code`` of an ``error`` event for ``error``: for programs, where ``str(error)`` is for people."""
    match error:
        case ConfigError():
            return "usage"
        case ServerError():
            return str(getattr(error, "code", "server-unreachable"))
        case CallFailed():
            return error.reason
        case MediaError():
            return "media-error"
        case _:
            return "failed"


def of_all(codes: Iterable[int]) -> int:
    """The code of several calls: what all that failed agree on, else 1."""
    failures = {code for code in codes if code != DONE}
    if len(failures) > 1:
        return FAILED
    return failures.pop() if failures else DONE
