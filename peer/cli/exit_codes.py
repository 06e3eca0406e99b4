"""Exit codes of the process, by reason or error (docs/interface.md, Exit codes)."""

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
    "hang-up": DONE,  # by this peer: --duration is over, or the window was closed
    "remote-hang-up": ABSENT,  # the remote hung up instead of answering
    "peer-left": ABSENT,
    "no-answer": ABSENT,
    "declined": ABSENT,
    "timeout": FAILED,  # the remote answered, but no ICE candidate pair worked
    "transport-failed": FAILED,
    "replaced": FAILED,
    "media-error": MEDIA,
    "shutdown": INTERRUPTED,
}

_AFTER_CONNECTED: Final[Mapping[str, int]] = {
    "hang-up": DONE,
    "remote-hang-up": DONE,
    "peer-left": LOST,  # without hanging up
    "no-answer": LOST,
    "declined": LOST,
    "timeout": LOST,
    "transport-failed": LOST,
    "replaced": LOST,
    "media-error": MEDIA,
    "shutdown": INTERRUPTED,
}


def for_reason(reason: str, *, connected: bool) -> int:
    """Exit code for a call that ended with ``reason``, before or after it was connected."""
    table = _AFTER_CONNECTED if connected else _BEFORE_CONNECTED
    return table.get(reason, FAILED)


def for_error(error: PeerError) -> int:
    """Exit code for a command that ended with ``error``."""
    match error:
        case ConfigError():
            return USAGE
        case ServerError():
            return SERVER
        case CallFailed():
            return for_reason(error.reason, connected=False)
        case MediaError():
            return MEDIA
        case _:  # a script step
            return FAILED


def event_code(error: PeerError) -> str:
    """The ``code`` of the ``error`` event for ``error``: the part for programs; ``str(error)`` is for people."""
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


def combined(codes: Iterable[int]) -> int:
    """Exit code for several calls: the one that all failed calls share, otherwise 1."""
    failures = {code for code in codes if code != DONE}
    if len(failures) > 1:
        return FAILED
    return failures.pop() if failures else DONE
