"""Events: what the state machine is given.

An event of the engine carries the ``generation`` of the connection it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..events import Reason
from ..signaling.messages import IceCandidate


@dataclass(frozen=True, slots=True)
class Dial:
    """The user calls. Ignored while there is a call. ``timeout``: seconds until it must be connected."""

    timeout: float


@dataclass(frozen=True, slots=True)
class HangUp:
    """The user, or the program on its way out, hangs up. Ignored without a call."""

    reason: Reason = "hang-up"


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """``allowed``: what the peer's policy says of an incoming call; a call of our own is always allowed."""

    sdp: str
    allowed: bool = True


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    sdp: str


@dataclass(frozen=True, slots=True)
class CandidateReceived:
    candidate: IceCandidate | None


@dataclass(frozen=True, slots=True)
class HangUpReceived:
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class OfferCreated:
    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AnswerCreated:
    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class DescriptionFailed:
    """createOffer, createAnswer or applying a description failed in the engine."""

    generation: int
    reason: Reason = "media-error"


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    generation: int
    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class TransportConnected:
    generation: int


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """``remote-hang-up`` when the other side closed it in good order, else ``transport-failed``."""

    generation: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class MediaSilent:
    """Nothing has come over a connected transport for a short while."""

    generation: int


@dataclass(frozen=True, slots=True)
class MediaFlowing:
    """Something comes again after ``MediaSilent``."""

    generation: int


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The server says that the peer left, or that a frame to it found nobody."""


@dataclass(frozen=True, slots=True)
class PeerBack:
    """The server says that the peer is in the room."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    Dial
    | HangUp
    | OfferReceived
    | AnswerReceived
    | CandidateReceived
    | HangUpReceived
    | OfferCreated
    | AnswerCreated
    | DescriptionFailed
    | LocalCandidate
    | TransportConnected
    | TransportClosed
    | MediaSilent
    | MediaFlowing
    | PeerGone
    | PeerBack
    | Tick
)
