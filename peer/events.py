"""What the agent tells its user: one frozen dataclass an event, each one line of ``--json`` output.

The names of events, of their keys and of the reasons are fixed (docs/interface.md): programs depend on them.
"""

from __future__ import annotations

import dataclasses
import time as _time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

Reason = Literal[
    "hang-up",
    "remote-hang-up",
    "peer-left",
    "no-answer",
    "declined",
    "timeout",
    "transport-failed",
    "replaced",
    "media-error",
    "shutdown",
]

REASONS: Final[tuple[Reason, ...]] = Reason.__args__  # type: ignore[attr-defined]
"""Why a call ended."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. ``time`` is Unix seconds."""

    event: ClassVar[str]
    time: float = field(default_factory=_time.time)

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object: ``event``, ``time``, then the event's own keys; absent ones left out."""
        body: dict[str, Any] = {"event": self.event, "time": round(self.time, 3)}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name != "time" and value is not None:
                body[item.name] = list(value) if isinstance(value, tuple) else value
        return body


@dataclass(frozen=True, kw_only=True)
class Joined(Event):
    """We are in the room as ``id``; ``peers`` are the others. Comes again after a lost server is back."""

    event = "joined"
    id: str
    peers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PeerJoined(Event):
    event = "peer-joined"
    peer: str


@dataclass(frozen=True, kw_only=True)
class PeerLeft(Event):
    event = "peer-left"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Calling(Event):
    """We call ``peer``."""

    event = "calling"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Incoming(Event):
    """``peer`` calls us, and is being answered."""

    event = "incoming"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Connected(Event):
    """Media can flow. ``setup_ms`` counts from ``calling`` or ``incoming``."""

    event = "connected"
    peer: str
    setup_ms: int


@dataclass(frozen=True, kw_only=True)
class FirstFrame(Event):
    """The first remote picture was decoded. ``codec`` is ``vp8`` or ``h264``; sizes in pixels."""

    event = "first-frame"
    peer: str
    width: int
    height: int
    codec: str


@dataclass(frozen=True, kw_only=True)
class Stats(Event):
    """Once a second for a connected call. ``rtt_ms`` in milliseconds, ``loss`` a fraction from 0 to 1."""

    event = "stats"
    peer: str
    video: Mapping[str, Any]
    audio: Mapping[str, Any]
    rtt_ms: float | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot(Event):
    event = "snapshot"
    peer: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Recorded(Event):
    """A file of a recording was closed. ``seconds`` is its length, ``dropped`` counts pictures and packets of sound
    that are missing in it: lost on the way, of no use without those, or more than the disk could take."""

    event = "recorded"
    peer: str
    path: str
    seconds: float
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    event = "ended"
    peer: str
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class ServerLost(Event):
    """The relay is away. Connected calls live on; we try again by ourselves."""

    event = "server-lost"


@dataclass(frozen=True, kw_only=True)
class ServerBack(Event):
    event = "server-back"


@dataclass(frozen=True, kw_only=True)
class Error(Event):
    """Something went wrong that ends nothing by itself. ``code`` is for programs, ``message`` for people; ``path`` is
    the file that could not be written."""

    event = "error"
    code: str
    message: str
    peer: str | None = None
    path: str | None = None


ALL: Final[tuple[type[Event], ...]] = (
    Joined,
    PeerJoined,
    PeerLeft,
    Calling,
    Incoming,
    Connected,
    FirstFrame,
    Stats,
    Snapshot,
    Recorded,
    Ended,
    ServerLost,
    ServerBack,
    Error,
)
