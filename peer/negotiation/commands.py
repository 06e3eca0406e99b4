"""Commands: what the state machine asks the shell to do, in order."""

from __future__ import annotations

from dataclasses import dataclass

from ..events import Reason
from ..signaling.messages import IceCandidate


@dataclass(frozen=True, slots=True)
class CreateOffer:
    """Open a connection of this generation and make its offer; comes back as ``OfferCreated``."""

    generation: int


@dataclass(frozen=True, slots=True)
class CreateAnswer:
    """Open a connection of this generation for the offer ``sdp``; comes back as ``AnswerCreated``."""

    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AddCandidate:
    generation: int
    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection of this generation, at once and for good."""

    generation: int


@dataclass(frozen=True, slots=True)
class SendOffer:
    sdp: str


@dataclass(frozen=True, slots=True)
class SendAnswer:
    sdp: str


@dataclass(frozen=True, slots=True)
class SendCandidate:
    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class SendHangUp:
    reason: Reason


@dataclass(frozen=True, slots=True)
class CallStarted:
    incoming: bool


@dataclass(frozen=True, slots=True)
class CallConnected:
    generation: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    reason: Reason


Command = (
    CreateOffer
    | CreateAnswer
    | ApplyAnswer
    | AddCandidate
    | Close
    | SendOffer
    | SendAnswer
    | SendCandidate
    | SendHangUp
    | CallStarted
    | CallConnected
    | CallEnded
)
