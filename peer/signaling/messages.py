"""Messages between peers and the relay: JSON texts, parsed into frozen dataclasses and dumped (docs/protocol.md).

Pure. The relay imports this module too, so it needs the standard library only.

There are two parsers, because the two sides check different things:

- ``read_envelope`` is the relay's. It reads the type, sender and addressee only, because the relay forwards the
  original text byte for byte.
- ``parse`` is the peer's. It accepts the omissions of the legacy programs (``peers`` missing from ``peer-list``, an
  empty candidate) and rejects every other invalid value.

Both raise nothing but ``ProtocolError``, whatever the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ..errors import CAUSES, Cause
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
_CALL = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


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


# --- reading --------------------------------------------------------------------------------------------------


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # Python reads NaN and Infinity; a browser's JSON.parse does not


_decode = json.JSONDecoder(parse_constant=_reject_constant).decode


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = _decode(text)
    except (ValueError, RecursionError) as exc:  # RecursionError: deep nesting, such as "[[[[…"
        raise ProtocolError("bad-message", f"not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise ProtocolError("bad-message", "a message must be a JSON object")
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
    """Parse the first message of a connection.

    Raises:
        ProtocolError: ``bad-join``, for any error.
    """
    try:
        body = _read_object(text)
    except ProtocolError as exc:
        raise ProtocolError("bad-join", exc.message) from None
    if body.get("type") != "join":
        raise ProtocolError("bad-join", 'the first message must be {"type": "join", "peerId": …}')
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
    instance = _optional_text(body, "instance", code="bad-join") or None
    if instance is not None and len(instance) > MAX_INSTANCE:
        raise ProtocolError("bad-join", f"instance must be at most {MAX_INSTANCE} characters")
    return Join(peer_id, room, _optional_text(body, "token", code="bad-join"), key, instance)


def read_envelope(text: str) -> Envelope:
    """Parse the envelope of a message from a client that has joined.

    Raises:
        ProtocolError: ``bad-message``: not a JSON object, no type, a type that only the server may send, or a
            targeted type without ``to``. ``from-mismatch``: ``from`` is not a string.
    """
    body = _read_object(text)
    kind = _type(body)
    if kind in SERVER_TYPES:
        raise ProtocolError("bad-message", f"only the server may send {kind}")
    if kind == "join":
        raise ProtocolError("bad-message", "already joined")
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
    """Parse a message that a peer received.

    Raises:
        ProtocolError: ``bad-message``. Log and drop the message; the connection stays open.
    """
    body = _read_object(text)
    kind = _type(body)
    match kind:
        case "peer-list":
            peers, instances = _id_list(body.get("peers")), _instances(body.get("instances"))
            return PeerList(peers, _ice_servers(body.get("iceServers")), instances)
        case "ice-servers" if body.get("from") is None:  # sent by the relay: it forwards no message without "from"
            return IceServers(_ice_servers(body.get("iceServers")))
        case "peer-joined":
            return PeerJoined(_text(body, "peerId", kind), _instance(body.get("instance")))
        case "peer-left":
            return PeerLeft(_text(body, "peerId", kind))
        case "offer":
            sdp, call, number = _text(body, "sdp", kind), _call(body.get("call")), _round(body.get("round"))
            return Offer(_text(body, "from", kind), _to(body), sdp, call, number)
        case "answer":
            sdp, call, number = _text(body, "sdp", kind), _call(body.get("call")), _round(body.get("round"))
            return Answer(_text(body, "from", kind), _to(body), sdp, call, number)
        case "candidate":
            return Candidate(_text(body, "from", kind), _to(body), _candidate(body.get("candidate")))
        case "hang-up":
            reason, detail = _optional_text(body, "reason"), _sentence(body.get("detail"))
            call, number = _call(body.get("call")), _round(body.get("round"))
            return HangUp(_text(body, "from", kind), _to(body), reason, detail, call, number)
        case "source" if body.get("kind") in ("video", "audio") and body.get("state") in ("lost", "back"):
            return Source(_text(body, "from", kind), _to(body), body["kind"], _cause(body))
        case "error":
            return Error(_text(body, "code", kind), str(body.get("message") or ""), _optional_text(body, "to"))
        case "join":
            return read_join(text)
        case _:
            return Other(kind, _optional_text(body, "from"), _optional_text(body, "to"), body)


def _sentence(value: object) -> str:
    """Return ``detail`` as it may be shown: one line of at most ``MAX_DETAIL`` printable characters, or nothing."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_DETAIL])


def _call(value: object) -> str | None:
    """Return a valid ``call``. Any other value counts as absent."""
    return value if isinstance(value, str) and _CALL.fullmatch(value) else None


def _round(value: object) -> int | None:
    """Return a valid ``round``. Any other value counts as absent.

    JSON does not distinguish 2 from 2.0, and neither does the page.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ROUND else None


def _instance(value: object) -> str | None:
    """Return a valid ``instance``. Any other value counts as absent."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_INSTANCE else None


def _instances(value: object) -> dict[str, str]:
    found = value if isinstance(value, dict) else {}
    return {peer: instance for peer, text in found.items() if (instance := _instance(text)) is not None}


def _cause(body: dict[str, Any]) -> Cause | None:
    """Return why the source is lost, ``None`` if it is back."""
    if body["state"] == "back":
        return None
    return next((cause for cause in CAUSES if cause == body.get("cause")), "failed")


def _to(body: dict[str, Any]) -> str:
    to = body.get("to")
    return to if isinstance(to, str) else ""  # the legacy server broadcasts a message without "to"


def _id_list(value: object) -> tuple[str, ...]:
    if value is None:  # the legacy Go server omits an empty "peers" (json omitempty)
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
    if _is_longer(line, MAX_CANDIDATE) or any(_is_longer(text or "", MAX_FRAGMENT) for text in (mid, fragment)):
        raise ProtocolError("bad-message", f'"candidate" is longer than {MAX_CANDIDATE} bytes')
    if index is not None and not 0 <= index < 1 << 16:
        raise ProtocolError("bad-message", '"sdpMLineIndex" is not an unsigned short')
    return IceCandidate(line, mid, index, fragment)


def _is_longer(text: str, limit: int) -> bool:
    return len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit


# --- writing --------------------------------------------------------------------------------------------------


def dump(message: Message) -> str:
    """Return ``message`` as compact JSON in ASCII, with the keys in the order of docs/protocol.md."""
    return json.dumps(_body(message), separators=(",", ":"))


def _body(message: Message) -> Mapping[str, Any]:
    match message:
        case Join(peer_id, room, token, key, instance):
            extra = {"room": room, "token": token, "key": key, "instance": instance}
            return {"type": "join", "peerId": peer_id} | {k: v for k, v in extra.items() if v}
        case PeerList(peers, ice_servers, instances):
            body: dict[str, Any] = {"type": "peer-list", "peers": list(peers)}
            if ice_servers:
                body["iceServers"] = list(ice_servers)
            return body | ({"instances": dict(instances)} if instances else {})
        case IceServers(ice_servers):
            return {"type": "ice-servers", "iceServers": list(ice_servers)}
        case PeerJoined(peer_id, instance):
            return {"type": "peer-joined", "peerId": peer_id} | ({"instance": instance} if instance else {})
        case PeerLeft(peer_id):
            return {"type": "peer-left", "peerId": peer_id}
        case Offer(from_, to, sdp, call, number):
            return {"type": "offer", "from": from_, "to": to, "sdp": sdp} | _call_body(call, number)
        case Answer(from_, to, sdp, call, number):
            return {"type": "answer", "from": from_, "to": to, "sdp": sdp} | _call_body(call, number)
        case Candidate(from_, to, candidate):
            return {"type": "candidate", "from": from_, "to": to, "candidate": _candidate_body(candidate)}
        case HangUp(from_, to, reason, detail, call, number):
            explanation = {"reason": reason} if reason else {}
            if sentence := _sentence(detail):
                explanation["detail"] = sentence
            return {"type": "hang-up", "from": from_, "to": to} | explanation | _call_body(call, number)
        case Source(from_, to, kind, cause):
            state = {"state": "back"} if cause is None else {"state": "lost", "cause": cause}
            return {"type": "source", "from": from_, "to": to, "kind": kind} | state
        case Error(code, text, to):
            return {"type": "error", "code": code, "message": text} | ({"to": to} if to else {})
        case Other(_, _, _, body_):
            return body_


def _call_body(call: str | None, number: int | None) -> dict[str, Any]:
    return ({} if call is None else {"call": call}) | ({} if number is None else {"round": number})


def _candidate_body(candidate: IceCandidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    body: dict[str, Any] = {
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_m_line_index,
    }
    return body | ({"usernameFragment": candidate.username_fragment} if candidate.username_fragment else {})
