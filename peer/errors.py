"""What can go wrong, as a tree. Errors hold facts; ``str()`` makes the sentence: what, where, what to try.

PeerError
├── ConfigError            an option, environment variable or configuration file (the user's mistake)
├── ProtocolError          a frame that breaks the wire protocol; ``code`` is one of protocol.ERROR_CODES
├── ServerError
│   ├── ServerUnreachable  no connection to the relay
│   └── JoinRefused        the relay answered and said no
├── CallFailed             a call ended before it was connected, or was lost; ``reason`` is an events.REASONS
│   └── NotHere            it did not begin: the peer was not in the room in time
├── MediaError             a device, file or codec
└── ScriptError            a script does not parse, or an expectation did not hold; carries file and line
"""

from __future__ import annotations

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?:(?<=//)|^(?!\w+://))(?:\S*:\S*@|[^\s/]*@)")
"""Up to the last @, slashes and all, once there is a colon: a password that should have been escaped is one too."""


def redacted(text: str) -> str:
    """``text`` without the user and password of the URLs in it, also of those that are not quite URLs."""
    return _CREDENTIALS.sub("", text)


class PeerError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(PeerError):
    """A value the user gave that cannot be used. ``where`` names the option, variable or file and line."""

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ProtocolError(PeerError):
    """A frame that cannot be accepted. ``code`` goes on the wire in an ``error`` message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ServerError(PeerError):
    """The relay cannot be used."""


IS_IT_RUNNING: Final = "is `peer serve` running there?"


class ServerUnreachable(ServerError):
    """No way into a room by the relay at ``url``: ``why``, and ``hint``, what to try. None keeps a password."""

    def __init__(self, url: str, why: str, hint: str | None = IS_IT_RUNNING) -> None:
        url, why = redacted(url), redacted(why)
        super().__init__(url, why, hint)
        self.url = url
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"cannot join at {self.url}: {self.why}" + (f"; {self.hint}" if self.hint else "")


_WAY_OUT: Final = {
    "room-full": "try later, or another --room",
    "rate-limited": "try later",
    "id-taken": "try another --id",
    "unauthorized": "give its token by --token-file or PEER_TOKEN",
}


class JoinRefused(ServerError):
    """The relay at ``url`` refused the join with ``code`` (protocol.ERROR_CODES) and ``message``; ``hint``, what to
    try, is that of the code unless given."""

    def __init__(self, url: str, code: str, message: str, hint: str | None = None) -> None:
        url = redacted(url)
        super().__init__(url, code, message, hint)
        self.url = url
        self.code = code
        self.message = message
        self.hint = hint or _WAY_OUT.get(code)

    def __str__(self) -> str:
        said = f"the relay at {self.url} refused to let us in: {self.message} ({self.code})"
        return f"{said}; {self.hint}" if self.hint else said


class CallFailed(PeerError):
    """The call to ``peer`` did not come about, or was lost. ``reason`` is one of events.REASONS."""

    def __init__(self, peer: str, reason: str, detail: str | None = None) -> None:
        super().__init__(peer, reason, detail)
        self.peer = peer
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"call with {self.peer} ended: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class NotHere(CallFailed):
    """``peer`` was not in the room in time; nobody was called. ``reason`` is ``no-answer``."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer, "no-answer")

    def __str__(self) -> str:
        return f"{self.peer} is not in the room; see `peer list`, or is it in another --room?"


class MediaError(PeerError):
    """A device, file or codec failed. ``what`` names it, ``why`` is the cause, ``hint`` what to try."""

    def __init__(self, what: str, why: str, hint: str | None = None) -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f"; {self.hint}" if self.hint else "")


class ScriptError(PeerError):
    """A script that does not parse, or a step that failed, at ``file``:``line``."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(file, line, message)
        self.file = file
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"
