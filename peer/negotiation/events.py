"""Events that the state machine processes.

An event of a connection carries that connection's ``generation``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..events import Reason
from ..signaling.messages import IceCandidate


@dataclass(frozen=True, slots=True)
class Dial:
    """The user calls the remote. Ignored during a call. ``timeout``: maximum time to connect, in seconds.

    ``call``: a new random id (rule 0). The state machine takes it from outside, because it is deterministic. ``None``
    dials as a legacy peer does, in tests.
    """

    timeout: float
    call: str | None = None


@dataclass(frozen=True, slots=True)
class HangUp:
    """The user hangs up, or the program is shutting down. Ignored without a call."""

    reason: Reason = "hang-up"


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """An offer arrived. ``allowed``: the accept policy's decision. It applies only if ``Negotiation.starts_call``."""

    sdp: str
    allowed: bool = True
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """An answer arrived. ``call`` and ``round`` are those of the offer; a legacy peer does not send them."""

    sdp: str
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class CandidateReceived:
    """A candidate of the remote arrived; ``None`` means end-of-candidates."""

    candidate: IceCandidate | None


@dataclass(frozen=True, slots=True)
class HangUpReceived:
    """A hang-up arrived, with the remote's reason, and a sentence for people.

    ``call`` is the call that it ends. With ``round`` it takes the place of an answer. A legacy peer sends neither.
    """

    reason: str | None = None
    detail: str = ""
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class OfferCreated:
    """createOffer has finished."""

    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AnswerCreated:
    """createAnswer has finished."""

    generation: int
    sdp: str


@dataclass(frozen=True, slots=True)
class DescriptionFailed:
    """createOffer, createAnswer or setting a description failed. ``detail`` may be sent to the remote."""

    generation: int
    reason: Reason = "media-error"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """The connection has gathered a candidate."""

    generation: int
    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class TransportConnected:
    """ICE and DTLS are connected."""

    generation: int


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The transport closed: ``remote-hang-up`` after a DTLS close of the remote, otherwise ``transport-failed``."""

    generation: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class MediaSilent:
    """A connected transport has received nothing for a short time (``rtc.silence.SILENT_AFTER``)."""

    generation: int


@dataclass(frozen=True, slots=True)
class MediaFlowing:
    """The transport receives again after ``MediaSilent``."""

    generation: int


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The relay reports that the peer left, or that a message could not be delivered to it."""


@dataclass(frozen=True, slots=True)
class PeerBack:
    """The relay reports that the peer is in the room."""


@dataclass(frozen=True, slots=True)
class PeerRestarted:
    """The relay reports another process under the id of the peer (another ``instance``)."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


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
    | PeerRestarted
    | Tick
)
