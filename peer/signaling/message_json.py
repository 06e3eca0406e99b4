"""JSON texts of the messages: two parsers and one serializer (docs/protocol.md).

Pure. The parsers raise nothing but ``ProtocolError``, whatever the input. There are two, because the two sides check
different things:

- ``read_join`` and ``read_envelope`` are the relay's. After the join it reads the type, sender and addressee only,
  because it forwards the original text byte for byte.
- ``parse`` is the peer's. It accepts the omissions of the legacy programs (``peers`` missing from ``peer-list``, an
  empty candidate) and rejects every other invalid value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import CAUSES, Cause, ProtocolError
from .messages import (
    DEFAULT_ROOM,
    MAX_CANDIDATE,
    MAX_DETAIL,
    MAX_FRAGMENT,
    MAX_INSTANCE,
    MAX_ROUND,
    SERVER_TYPES,
    TARGETED_TYPES,
    Answer,
    Candidate,
    Envelope,
    Error,
    HangUp,
    IceCandidate,
    IceServers,
    Join,
    Message,
    Offer,
    Other,
    PeerJoined,
    PeerLeft,
    PeerList,
    Source,
    is_valid_id,
)

_CALL = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

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
