"""Exceptions. Each holds the facts as attributes; ``str()`` says what failed, why, and what to try.

PeerError
├── ConfigError            a wrong value of an option, environment variable or configuration file
├── ProtocolError          an invalid message; ``code`` is one of messages.ERROR_CODES
├── ServerError
│   ├── ServerUnreachable  no connection to the relay
│   └── JoinRefused        the relay rejected the join
├── CallFailed             a call ended before it was connected, or was lost; ``reason`` is one of events.REASONS
│   └── NotHere            no call was made: the peer did not join the room in time
├── MediaError             a device, file or codec failed
└── ScriptError            a script is invalid, or an expectation was not met; holds file and line
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

E = TypeVar("E", bound="PeerError")

_CREDENTIALS: Final = re.compile(r"(?:(?<=//)|^(?!\w+://))(?:\S*:\S*@|[^\s/]*@)")
"""User and password of a URL. After a colon everything up to the last @ is part of the password, slashes included,
because users type passwords that should have been escaped."""


def redacted(text: str) -> str:
    """Return ``text`` without the user and password of every URL in it, including malformed ones."""
    return _CREDENTIALS.sub("", text)


class PeerError(Exception):
    """Base class of all exceptions of this package."""

    others: Sequence[PeerError] = ()
    """Further mistakes found together with this one, in a script or a configuration file."""


def first_of(mistakes: Sequence[E]) -> E:
    """Return the first of ``mistakes``, with the others in its ``others``."""
    first, *others = mistakes
    first.others = others
    return first


class ConfigError(PeerError):
    """A wrong value. ``where`` names the option, the environment variable, or the file and line."""

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ProtocolError(PeerError):
    """An invalid message. ``code`` and ``message`` are sent to the client in an ``error`` message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ServerError(PeerError):
    """The relay cannot be reached, or rejected the join."""


IS_IT_RUNNING: Final = "is `peer serve` running there?"
"""Hint for a relay that does not answer."""


class ServerUnreachable(ServerError):
    """The relay at ``url`` could not be reached in time. ``why`` is the cause, ``hint`` what to try. None of
    the three contains credentials."""

    def __init__(self, url: str, why: str, hint: str | None = IS_IT_RUNNING) -> None:
        url, why = redacted(url), redacted(why)
        super().__init__(url, why, hint)
        self.url = url
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"cannot reach the relay at {self.url}: {self.why}" + (f"; {self.hint}" if self.hint else "")


_JOIN_HINTS: Final = {
    "room-full": "try again later, or another --room",
    "rate-limited": "try again later",
    "id-taken": "try another --id",
    "unauthorized": "pass its token with --token-file or PEER_TOKEN",
}
"""What to try after a rejected join, by error code."""

_TOKEN_HINTS: Final = {
    "another room": "name the token's room with --room, or use a token for this room",
    "another id": "name the token's id with --id, or use a token for this id",
    "has expired": "pass a new token with --token-file or PEER_TOKEN",
}
"""What to try after ``unauthorized``, by a part of the relay's message."""


def _join_hint(code: str, message: str) -> str | None:
    if code == "unauthorized":
        for part, hint in _TOKEN_HINTS.items():
            if part in message:
                return hint
    return _JOIN_HINTS.get(code)


class JoinRefused(ServerError):
    """The relay at ``url`` rejected the join with ``code`` (messages.ERROR_CODES) and ``message``. ``hint`` is what
    to try; by default it depends on code and message."""

    def __init__(self, url: str, code: str, message: str, hint: str | None = None) -> None:
        url = redacted(url)
        super().__init__(url, code, message, hint)
        self.url = url
        self.code = code
        self.message = message
        self.hint = hint or _join_hint(code, message)

    def __str__(self) -> str:
        text = f"the relay at {self.url} rejected the join: {self.message} ({self.code})"
        return f"{text}; {self.hint}" if self.hint else text


class CallFailed(PeerError):
    """The call with ``peer`` failed to connect, or was lost. ``reason`` is one of events.REASONS."""

    def __init__(self, peer: str, reason: str, detail: str | None = None) -> None:
        super().__init__(peer, reason, detail)
        self.peer = peer
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"call with {self.peer} ended: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class NotHere(CallFailed):
    """``peer`` did not join the room in time, so no call was made. ``reason`` is ``no-answer``."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer, "no-answer")

    def __str__(self) -> str:
        return f"{self.peer} is not in the room; see `peer list`, or try another --room"


Cause = Literal[
    "missing",
    "busy",
    "forbidden",
    "gone",
    "silent",
    "ended",
    "unreachable",
    "unauthorized",
    "failed",
]

CAUSES: Final[tuple[Cause, ...]] = Cause.__args__  # type: ignore[attr-defined]
"""Causes for which a device, file or stream fails."""


class MediaError(PeerError):
    """A device, file or codec failed: ``what`` names it, ``why`` is the reason, ``hint`` is what to try. ``cause`` is
    the reason for programs: one of ``CAUSES``."""

    def __init__(self, what: str, why: str, hint: str | None = None, *, cause: Cause = "failed") -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f"; {self.hint}" if self.hint else "")


class ScriptError(PeerError):
    """A script is invalid, or one of its steps failed, at ``file``:``line``."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(file, line, message)
        self.file = file
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"
