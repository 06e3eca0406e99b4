"""Messages between peers and the relay, as frozen dataclasses, and the limits and codes of the protocol.

Pure. ``message_json`` reads and writes them. The relay imports both modules too, so they need the standard library
only (docs/protocol.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import Cause
from ..errors import PeerError as PeerError  # re-exported for server/
from ..errors import ProtocolError as ProtocolError

MAX_MESSAGE: Final = 256 * 1024
"""Maximum size of a message after the join, in bytes. Chromium's offers are about 6 kB."""

MAX_MESSAGE_BEFORE_JOIN: Final = 8 * 1024
"""Maximum size of the first message, in bytes. Its sender is not authenticated yet."""

MAX_CANDIDATE: Final = 1024
"""Maximum size of a candidate attribute, in bytes. Real ones have up to 200."""

MAX_FRAGMENT: Final = 256
"""Maximum size of ``usernameFragment`` and ``sdpMid``, in bytes. RFC 8839 5.4 permits a ufrag of up to 256."""

DEFAULT_ROOM: Final = ""
"""Room of a ``join`` without ``room``. The legacy programs know no other."""

ERROR_CODES: Final = frozenset(
    {
        "bad-message",
        "bad-join",
        "unauthorized",
        "id-taken",
        "peer-not-found",
        "from-mismatch",
        "too-large",
        "rate-limited",
        "room-full",
    }
)
"""Values of ``code`` in an ``error`` message of the relay."""

MAX_DETAIL: Final = 256
"""Maximum length of ``detail`` in a hang-up, in characters. It is shown in one line of a terminal or page."""

MAX_INSTANCE: Final = 64
"""Maximum length of ``instance``, in characters. It is repeated in the ``peer-list`` of every join."""

MAX_ROUND: Final = 2**31 - 1
"""Maximum ``round``. Every programming language has an integer type that holds it."""

# WebSocket close codes: below 4000 those of RFC 6455 7.4.1 and its IANA registry, from 4000 on our own
# (docs/protocol.md)
CLOSE_PROTOCOL_ERROR: Final = 1002
CLOSE_INVALID_DATA: Final = 1007
CLOSE_TRY_AGAIN: Final = 1013
CLOSE_REPLACED: Final = 4001
CLOSE_BAD_JOIN: Final = 4400
CLOSE_UNAUTHORIZED: Final = 4401
CLOSE_TOO_SLOW: Final = 4408
CLOSE_ID_TAKEN: Final = 4409
CLOSE_RATE_LIMITED: Final = 4429

SERVER_TYPES: Final = frozenset({"peer-list", "peer-joined", "peer-left", "error"})
"""Types that only the server may send. A client that sends one receives an ``error`` (rule 4)."""

TARGETED_TYPES: Final = frozenset({"offer", "answer", "candidate", "hang-up"})
"""Types that are rejected without ``to``. Peers answer offers automatically, so every peer in the room would answer a
broadcast offer."""

_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_UFRAG = re.compile(r" ufrag (\S+)")


def is_valid_id(value: object) -> bool:
    """Whether ``value`` is 1 to 64 of ``A-Z a-z 0-9 . _ ~ -``.

    Glare is resolved by comparing ids. ASCII makes all languages agree: JavaScript compares UTF-16 code units, Python
    compares code points.
    """
    return isinstance(value, str) and _ID.fullmatch(value) is not None


# --- messages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """client → server, the first message. The legacy server ignores everything but ``peer_id``."""

    peer_id: str
    room: str | None = None
    token: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    instance: str | None = None
    """Random text that distinguishes this process from others with the same id and key (server rule 3)."""


@dataclass(frozen=True, slots=True)
class PeerList:
    """server → the client that joined: the other peers in the room."""

    peers: tuple[str, ...]
    ice_servers: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """W3C RTCIceServer objects, with passwords."""
    instances: Mapping[str, str] = field(default_factory=dict)
    """``instance`` by id, of the peers that have one."""


@dataclass(frozen=True, slots=True)
class IceServers:
    """server → client, an extension: replaces the ICE servers of ``peer-list``."""

    ice_servers: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """server → the others in the room."""

    peer_id: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """server → the others in the room."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A JSEP offer (RFC 9429)."""

    from_: str
    to: str
    sdp: str
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSEP answer (RFC 9429)."""

    from_: str
    to: str
    sdp: str
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """W3C RTCIceCandidateInit. An empty ``candidate`` is end-of-candidates of that ICE generation."""

    candidate: str
    sdp_mid: str | None = None
    sdp_m_line_index: int | None = None
    username_fragment: str | None = None

    @property
    def ufrag(self) -> str | None:
        """The ``username_fragment``, or else the ``ufrag`` in the candidate's text (RFC 8839 5.1), if it has one."""
        if self.username_fragment:
            return self.username_fragment
        match = _UFRAG.search(self.candidate)
        return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate; ``None`` is end-of-candidates (RFC 8838)."""

    from_: str
    to: str
    candidate: IceCandidate | None


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over; the receiver closes it at once. ``reason`` is one of ``events.REASONS``, or any other text.

    ``detail`` is a sentence for people, without control characters, of at most ``MAX_DETAIL`` characters.
    """

    from_: str
    to: str
    reason: str | None = None
    detail: str = ""
    call: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source of the sender is lost, so that it sends the card or silence, or back. ``kind`` is ``video`` or
    ``audio``; ``cause`` is why it is lost, or ``None`` if it is back."""

    from_: str
    to: str
    kind: str
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class Error:
    """server → client: why a message was not forwarded. ``to`` is its addressee."""

    code: str
    message: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """Any other type; the relay forwards it unchanged. ``body`` is the whole message."""

    type: str
    from_: str | None
    to: str | None
    body: Mapping[str, Any] = field(default_factory=dict)


Message = (
    Join
    | PeerList
    | IceServers
    | PeerJoined
    | PeerLeft
    | Offer
    | Answer
    | Candidate
    | HangUp
    | Source
    | Error
    | Other
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """Part of a message that the relay reads after the join. ``to`` is ``None`` for a broadcast."""

    type: str
    from_: str | None
    to: str | None
