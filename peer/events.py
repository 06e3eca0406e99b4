"""Events of an agent: one frozen dataclass per event, each one line of the ``--json`` output.

Programs depend on the names of events, keys and reasons, so they are fixed (docs/interface.md).
"""

from __future__ import annotations

import dataclasses
import time as _time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from .errors import Cause

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
"""Reasons for which a call ends."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of all events. ``time`` is in seconds since the Unix epoch."""

    event: ClassVar[str]
    time: float = field(default_factory=_time.time)

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object: ``event``, ``time``, then its own keys except those that are
        ``None``."""
        body: dict[str, Any] = {"event": self.event, "time": round(self.time, 3)}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name != "time" and value is not None:
                body[item.name] = list(value) if isinstance(value, tuple) else value
        return body


@dataclass(frozen=True, kw_only=True)
class Joined(Event):
    """We joined the room as ``id``; ``peers`` are the others. Repeated after every reconnect."""

    event = "joined"
    id: str
    peers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PeerJoined(Event):
    """``peer`` joined the room."""

    event = "peer-joined"
    peer: str


@dataclass(frozen=True, kw_only=True)
class PeerLeft(Event):
    """``peer`` left the room."""

    event = "peer-left"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Calling(Event):
    """We are calling ``peer``."""

    event = "calling"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Incoming(Event):
    """``peer`` is calling us; the call is being answered."""

    event = "incoming"
    peer: str


@dataclass(frozen=True, kw_only=True)
class Connected(Event):
    """The call is connected. ``setup_ms`` counts from ``calling`` or ``incoming``."""

    event = "connected"
    peer: str
    setup_ms: int


@dataclass(frozen=True, kw_only=True)
class FirstFrame(Event):
    """The first video frame from the remote was decoded. ``codec`` is ``vp8`` or ``h264``; sizes are in pixels."""

    event = "first-frame"
    peer: str
    width: int
    height: int
    codec: str


@dataclass(frozen=True, kw_only=True)
class Stats(Event):
    """Statistics of a connected call, once per second (``peer/stats.py``). ``rtt_ms`` is in milliseconds, ``loss`` is
    a fraction from 0 to 1."""

    event = "stats"
    peer: str
    video: Mapping[str, Any]
    audio: Mapping[str, Any]
    rtt_ms: float | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot(Event):
    """A snapshot of ``peer``'s video was saved."""

    event = "snapshot"
    peer: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Recorded(Event):
    """A file of a recording was closed. ``seconds`` is its length. ``dropped`` is the number of missing video frames
    and audio packets: lost on the network, not decodable after such a loss, or dropped because the disk was too
    slow."""

    event = "recorded"
    peer: str
    path: str
    seconds: float
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The call with ``peer`` ended. ``detail`` explains why to people, where there is more to say."""

    event = "ended"
    peer: str
    reason: Reason
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServerLost(Event):
    """The connection to the relay was lost; ``detail`` is the reason. Calls continue, and the agent reconnects."""

    event = "server-lost"
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServerBack(Event):
    """The agent has rejoined after ``server-lost``."""

    event = "server-back"


@dataclass(frozen=True, kw_only=True)
class SourceLost(Event):
    """A source of ``kinds`` (``video``, ``audio``) cannot be opened or has stopped delivering, and is tried again.
    ``cause`` is one of errors.CAUSES, ``message`` says the same to people. The source is ``source`` of this peer, or
    one of ``peer``, which then sends the card or silence."""

    event = "source-lost"
    source: str | None = None
    peer: str | None = None
    kinds: tuple[str, ...]
    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class SourceBack(Event):
    """The source delivers again, or for the first time, ``seconds`` after ``source-lost``."""

    event = "source-back"
    source: str | None = None
    peer: str | None = None
    kinds: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SinkLost(Event):
    """The speaker cannot be opened or has failed. It is tried again until it works; calls go on."""

    event = "sink-lost"
    sink: str
    message: str


@dataclass(frozen=True, kw_only=True)
class SinkBack(Event):
    """The speaker plays again, or for the first time, ``seconds`` after ``sink-lost``."""

    event = "sink-back"
    sink: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Error(Event):
    """An error that does not end the agent. ``code`` is for programs, ``message`` for people. ``path`` is the file
    that could not be written."""

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
    SourceLost,
    SourceBack,
    SinkLost,
    SinkBack,
    Error,
)
"""All events."""
