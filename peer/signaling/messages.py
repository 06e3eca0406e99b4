"""The wire: JSON text frames, as frozen dataclasses, parsed and dumped (docs/protocol.md).

Standard library only, no I/O, no clock: the relay imports this module too, and nothing else of ``peer``.

Two readers, because the two sides must be strict about different things:

- ``read_envelope`` is the relay's. It looks at who, to whom and which type, and never at what is inside: the
  relay forwards the original text, byte for byte.
- ``parse`` is the peer's. It yields one message, and is lenient where an old client or server is
  (``peers`` missing from ``peer-list``, an empty candidate), strict where nonsense would travel further.

Both raise ``ProtocolError`` and nothing else, whatever the input: a frame from the network is never a bug of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ..errors import PeerError as PeerError  # server/ imports this module and nothing else of peer
from ..errors import ProtocolError as ProtocolError

MAX_FRAME: Final = 256 * 1024
"""Octets of one frame after the join. Chromium's offers are about 6 kB."""

MAX_FRAME_BEFORE_JOIN: Final = 8 * 1024
"""Octets of the first frame, from somebody we do not know yet."""

DEFAULT_ROOM: Final = ""
"""The room of a ``join`` without ``room``: the only one the old programs know."""

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

CLOSE_TRY_AGAIN: Final = 1013
CLOSE_REPLACED: Final = 4001
CLOSE_BAD_JOIN: Final = 4400
CLOSE_UNAUTHORIZED: Final = 4401
CLOSE_TOO_SLOW: Final = 4408
CLOSE_ID_TAKEN: Final = 4409
CLOSE_RATE_LIMITED: Final = 4429

SERVER_TYPES: Final = frozenset({"peer-list", "peer-joined", "peer-left", "error"})
"""Types that are the server's alone: a client that sends one is answered with ``error`` (rule 4)."""

TARGETED_TYPES: Final = frozenset({"offer", "answer", "candidate", "hang-up"})
"""Types that are refused without ``to``: incoming offers are answered by themselves, so one stray offer to
everybody would make every peer answer."""

_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)


def is_valid_id(value: object) -> bool:
    """Whether ``value`` is 1 to 64 of ``A-Z a-z 0-9 . _ ~ -``. ASCII, so that every language orders ids alike:
    JavaScript compares UTF-16 code units, Python code points, and glare is decided by comparing ids."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


# --- messages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """client → server, first frame. ``room``, ``token`` and ``key`` are extensions an old server ignores."""

    peer_id: str
    room: str | None = None
    token: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PeerList:
    """server → newcomer: who is already here, without yourself."""

    peers: tuple[str, ...]
    ice_servers: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """W3C RTCIceServer, with passwords."""


@dataclass(frozen=True, slots=True)
class IceServers:
    """server → client, an extension: from now on these, in the place of those of ``peer-list``."""

    ice_servers: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """server → the others in the room."""

    peer_id: str


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


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSEP answer (RFC 9429)."""

    from_: str
    to: str
    sdp: str


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """W3C RTCIceCandidateInit. An empty ``candidate`` is the end of candidates of that generation."""

    candidate: str
    sdp_mid: str | None = None
    sdp_m_line_index: int | None = None
    username_fragment: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate; ``None`` is the end of candidates (RFC 8838)."""

    from_: str
    to: str
    candidate: IceCandidate | None


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over; the other side stops at once. ``reason`` is free text for machines (events.REASONS)."""

    from_: str
    to: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """server → client: why the frame you sent went nowhere. ``to`` is whom it was meant for."""

    code: str
    message: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """Any other type: routed untouched. ``body`` is the whole frame."""

    type: str
    from_: str | None
    to: str | None
    body: Mapping[str, Any] = field(default_factory=dict)


Message = Join | PeerList | IceServers | PeerJoined | PeerLeft | Offer | Answer | Candidate | HangUp | Error | Other


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the relay reads of a frame after the join. ``to`` is ``None`` for a broadcast."""

    type: str
    from_: str | None
    to: str | None


# --- reading --------------------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # Python reads NaN and Infinity; a browser's JSON.parse does not


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = _decode(text)
    except (ValueError, RecursionError) as exc:  # RecursionError: "[[[[…" of any depth
        raise ProtocolError("bad-message", f"not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise ProtocolError("bad-message", "a frame is a JSON object")
    return value


def _type(body: dict[str, Any]) -> str:
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise ProtocolError("bad-message", '"type" is missing or not a string')
    return kind


def _text(body: dict[str, Any], key: str, kind: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise ProtocolError("bad-message", f'{kind} without "{key}"')
    return value


def _optional_text(body: dict[str, Any], key: str, *, code: str = "bad-message") -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise ProtocolError(code, f'"{key}" is not a string')
    return value


def read_join(text: str) -> Join:
    """Read the first frame of a connection.

    Raises:
        ProtocolError: ``bad-join``, whatever is wrong with it.
    """
    try:
        body = _read_object(text)
    except ProtocolError as exc:
        raise ProtocolError("bad-join", exc.message) from None
    if body.get("type") != "join":
        raise ProtocolError("bad-join", 'the first frame must be {"type": "join", "peerId": …}')
    peer_id = body.get("peerId")
    if not is_valid_id(peer_id):
        raise ProtocolError("bad-join", "peerId must be 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    assert isinstance(peer_id, str)
    room = _optional_text(body, "room", code="bad-join") or DEFAULT_ROOM
    if room != DEFAULT_ROOM and not is_valid_id(room):
        raise ProtocolError("bad-join", "room must be 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    key = _optional_text(body, "key", code="bad-join") or None
    if key is not None and len(key) > 256:
        raise ProtocolError("bad-join", "key must be at most 256 characters")
    return Join(peer_id, room, _optional_text(body, "token", code="bad-join"), key)


def read_envelope(text: str) -> Envelope:
    """Read the routing part of a frame that a joined client sent.

    Raises:
        ProtocolError: ``bad-message`` when it cannot be routed: not a JSON object, no type, a server's type,
            a targeted type without ``to``.
    """
    body = _read_object(text)
    kind = _type(body)
    if kind in SERVER_TYPES:
        raise ProtocolError("bad-message", f"{kind} is the server's alone")
    if kind == "join":
        raise ProtocolError("bad-message", "you have joined already")
    to = body.get("to")
    sender = body.get("from")
    if sender is not None and not isinstance(sender, str):
        raise ProtocolError("from-mismatch", '"from" is not a string')
    if kind in TARGETED_TYPES:
        if not isinstance(to, str) or not to:
            raise ProtocolError("bad-message", f'{kind} without "to"')
    elif to is None or to == "":
        to = None
    elif not isinstance(to, str):
        raise ProtocolError("bad-message", '"to" is not a string')
    return Envelope(kind, sender, to)


def parse(text: str) -> Message:
    """Read one frame as a peer does.

    Raises:
        ProtocolError: ``bad-message``; the frame is to be logged and dropped, the connection stays.
    """
    body = _read_object(text)
    kind = _type(body)
    match kind:
        case "peer-list":
            return PeerList(_id_list(body.get("peers")), _ice_servers(body.get("iceServers")))
        case "ice-servers" if body.get("from") is None:  # the relay forwards nothing without "from": no peer sent it
            return IceServers(_ice_servers(body.get("iceServers")))
        case "peer-joined":
            return PeerJoined(_text(body, "peerId", kind))
        case "peer-left":
            return PeerLeft(_text(body, "peerId", kind))
        case "offer":
            return Offer(_text(body, "from", kind), _to(body), _text(body, "sdp", kind))
        case "answer":
            return Answer(_text(body, "from", kind), _to(body), _text(body, "sdp", kind))
        case "candidate":
            return Candidate(_text(body, "from", kind), _to(body), _candidate(body.get("candidate")))
        case "hang-up":
            return HangUp(_text(body, "from", kind), _to(body), _optional_text(body, "reason"))
        case "error":
            return Error(_text(body, "code", kind), str(body.get("message") or ""), _optional_text(body, "to"))
        case "join":
            return read_join(text)
        case _:
            return Other(kind, _optional_text(body, "from"), _optional_text(body, "to"), body)


def _to(body: dict[str, Any]) -> str:
    to = body.get("to")
    return to if isinstance(to, str) else ""  # the old server broadcasts what has no "to"; the reader decides


def _id_list(value: object) -> tuple[str, ...]:
    if value is None:  # the old Go server leaves "peers" out when the room is empty (json omitempty)
        return ()
    if not isinstance(value, list) or not all(isinstance(peer, str) for peer in value):
        raise ProtocolError("bad-message", '"peers" is not a list of strings')
    return tuple(value)


def _ice_servers(value: object) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(server, dict) for server in value):
        raise ProtocolError("bad-message", '"iceServers" is not a list of objects')
    return tuple(value)


def _candidate(value: object) -> IceCandidate | None:
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise ProtocolError("bad-message", '"candidate" is not an object')
    line = value.get("candidate")
    if line is None:
        return None
    mid, index, fragment = value.get("sdpMid"), value.get("sdpMLineIndex"), value.get("usernameFragment")
    if (
        not isinstance(line, str)
        or not isinstance(mid, str | None)
        or not isinstance(index, int | None)
        or isinstance(index, bool)
        or not isinstance(fragment, str | None)
    ):
        raise ProtocolError("bad-message", '"candidate" is not an RTCIceCandidateInit')
    return IceCandidate(line, mid, index, fragment)


# --- writing --------------------------------------------------------------------------------------------------


def dump(message: Message) -> str:
    """The frame of ``message``: compact JSON, ASCII, keys in the order of the protocol's table."""
    return json.dumps(_body(message), separators=(",", ":"))


def _body(message: Message) -> Mapping[str, Any]:
    match message:
        case Join(peer_id, room, token, key):
            extra = {"room": room, "token": token, "key": key}
            return {"type": "join", "peerId": peer_id} | {k: v for k, v in extra.items() if v}
        case PeerList(peers, ice_servers):
            body: dict[str, Any] = {"type": "peer-list", "peers": list(peers)}
            return body | ({"iceServers": list(ice_servers)} if ice_servers else {})
        case IceServers(ice_servers):
            return {"type": "ice-servers", "iceServers": list(ice_servers)}
        case PeerJoined(peer_id):
            return {"type": "peer-joined", "peerId": peer_id}
        case PeerLeft(peer_id):
            return {"type": "peer-left", "peerId": peer_id}
        case Offer(from_, to, sdp):
            return {"type": "offer", "from": from_, "to": to, "sdp": sdp}
        case Answer(from_, to, sdp):
            return {"type": "answer", "from": from_, "to": to, "sdp": sdp}
        case Candidate(from_, to, candidate):
            return {"type": "candidate", "from": from_, "to": to, "candidate": _candidate_body(candidate)}
        case HangUp(from_, to, reason):
            return {"type": "hang-up", "from": from_, "to": to} | ({"reason": reason} if reason else {})
        case Error(code, text, to):
            return {"type": "error", "code": code, "message": text} | ({"to": to} if to else {})
        case Other(_, _, _, body_):
            return body_


def _candidate_body(candidate: IceCandidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    body: dict[str, Any] = {
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_m_line_index,
    }
    return body | ({"usernameFragment": candidate.username_fragment} if candidate.username_fragment else {})
