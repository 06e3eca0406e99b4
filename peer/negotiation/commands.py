"""Commands that the state machine returns. ``call_control.py`` executes them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..events import Reason
from ..signaling.messages import IceCandidate


@dataclass(frozen=True, slots=True)
class CreateOffer:
    """Open a connection with this generation and create its offer; ends with ``OfferCreated`` or
    ``DescriptionFailed``."""

    generation: int


@dataclass(frozen=True, slots=True)
class CreateAnswer:
    """Open a connection with this generation and answer the offer ``sdp``; ends with ``AnswerCreated`` or
    ``DescriptionFailed``."""

    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class Renegotiate:
    """Answer a second offer on the existing connection; ends with ``AnswerCreated`` or ``DescriptionFailed``.

    ``ice_restart``: the offer has new ICE credentials (RFC 9429 5.2.2, RFC 8839 4.4.1.1).
    """

    generation: int
    sdp: str
    ice_restart: bool


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """Set the remote's answer; ends with ``DescriptionFailed`` if that fails."""

    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AddCandidate:
    """Add a candidate of the remote to this connection."""

    generation: int
    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with this generation at once."""

    generation: int


@dataclass(frozen=True, slots=True)
class SendOffer:
    """Send our offer to the remote. ``call`` and ``round`` identify it (rule 0); ``None`` in tests only."""

    sdp: str
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """Send our answer to the remote, with the ``call`` and ``round`` of its offer, if it has any."""

    sdp: str
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class SendCandidate:
    """Send one of our candidates to the remote."""

    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class SendHangUp:
    """Send a hang-up. ``detail`` explains it to people.

    ``declined`` takes the place of an answer (rule 4), and ``unknown-call`` that of the answer to an offer that
    continues a call that is over. Both carry the ``call`` and ``round`` of their offer. Any other hang-up carries the
    ``call`` that it ends.
    """

    reason: Reason | Literal["unknown-call"]
    detail: str = ""
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call begins: ``incoming`` from the remote, or dialed by our user."""

    incoming: bool


@dataclass(frozen=True, slots=True)
class CallConnected:
    """The call is connected, over the connection with this generation.

    Returned again when the remote has continued the call on a new connection (rule 0 e).
    """

    generation: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call is over. ``detail`` explains why to people: an error here, or what the remote wrote."""

    reason: Reason
    detail: str = ""


Command = (
    CreateOffer
    | CreateAnswer
    | Renegotiate
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
