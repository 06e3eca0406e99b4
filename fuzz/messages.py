"""Target: untrusted JSON, read by the relay's two parsers and the peer's one.

    python -m fuzz messages --seconds 60

Properties: a ``ProtocolError`` with a code of the protocol and one short line, or a usable result. A serialized
message parses the same, a join cannot break the rooms, and at most ``MAX_SERVERS`` ICE servers result, each of which
parses again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from peer.signaling.ice_servers import MAX_SERVERS, merge, parse_ice_server, read_ice_servers
from peer.signaling.message_json import dump, parse, read_envelope, read_join
from peer.signaling.messages import (
    ERROR_CODES,
    MAX_INSTANCE,
    MAX_ROUND,
    SERVER_TYPES,
    TARGETED_TYPES,
    Answer,
    Candidate,
    Envelope,
    HangUp,
    IceServers,
    Join,
    Offer,
    Other,
    PeerJoined,
    PeerList,
    ProtocolError,
    is_valid_id,
)
from server.rooms.rooms import Rooms

from .byte_reader import ByteReader

T = TypeVar("T")

MESSAGE_TYPES = ("join", *sorted(SERVER_TYPES | TARGETED_TYPES), "ice-servers", "wave", "")
KEYS = (
    *(
        "type",
        "peerId",
        "room",
        "token",
        "key",
        "instance",
        "from",
        "to",
        "sdp",
        "call",
        "round",
        "candidate",
        "reason",
    ),
    *(
        "detail",
        "code",
        "message",
        "peers",
        "instances",
        "iceServers",
        "urls",
        "username",
        "credential",
        "sdpMid",
        "sdpMLineIndex",
        "usernameFragment",
    ),
)
WORDS = (
    *MESSAGE_TYPES,
    *("a", "b", "", "\ud800", "é", "\0", "x" * 70, "stun:a", "turn:a:1?transport=tcp", "turn:u:p@[::1]:0", "hush"),
)
SEEDS = [
    b'\0{"type":"join","peerId":"a","room":"attic","token":"t","key":"k","instance":"i"}',
    b'\0{"type":"peer-joined","peerId":"a","instance":"\\ud83d\\ude00"}',
    b'\0{"type":"offer","from":"a","to":"b","sdp":"v=0","call":"Wm3k_0Zt","round":1}',
    b'\0{"type":"hang-up","from":"a","to":"b","reason":"declined","detail":"d","call":"a","round":2147483647.0}',
    b'\0{"type":"peer-list","peers":["a"],"instances":{"a":"i"},"iceServers":[{"urls":["stun:a:1"],"username":"u","credential":"c"}]}',
    b'\0{"type":"ice-servers","iceServers":[{"urls":["turn:a","stuns:b","x"]},{"urls":"turn:a:9","username":"u","credential":"c"}]}',
    b'\0{"type":"candidate","from":"a","to":"b","candidate":{"candidate":"x","sdpMid":"0","sdpMLineIndex":0}}',
    b'\0{"type":"error","code":"too-large","message":"m","to":"a"}',
    b'\0{"type":"wave","from":"a","n":[1e5,-0.5,true,null,"\\u0041\\ud800"]}',
    b"\1\2\0\5\1\3\2\4\5",
]


def test_one(data: bytes) -> None:
    reader = ByteReader(data)
    if reader.number() % 2:
        text = json.dumps({reader.pick(KEYS): _value(reader, 5) for _ in range(reader.number() % 12)})
    else:
        try:
            text = reader.rest().decode()
        except UnicodeDecodeError:
            return
    envelope, join, message = _read(read_envelope, text), _read(read_join, text), _read(parse, text)
    if envelope is not None:
        _check_envelope(envelope, text)
    if join is not None:
        assert message == join
        _check_join(join)
    if message is not None and not isinstance(message, Other):
        again = dump(message)
        assert again.isascii() and dump(parse(again)) == again
    if isinstance(message, Offer | Answer | HangUp):
        assert message.call is None or is_valid_id(message.call)
        assert message.round is None or 1 <= message.round <= MAX_ROUND
    if isinstance(message, PeerJoined | PeerList):
        instances = [message.instance] if isinstance(message, PeerJoined) else message.instances.values()
        assert all(instance is None or 0 < len(instance) <= MAX_INSTANCE for instance in instances)
    if isinstance(message, Offer | Answer | Candidate | HangUp) and envelope is not None:
        assert (message.from_, message.to) == (envelope.from_, envelope.to)
    if isinstance(message, PeerList | IceServers):
        found, skipped = read_ice_servers(message.ice_servers)
        assert len(found) + len(skipped) <= MAX_SERVERS + 1 and len(merge(found, found)) <= MAX_SERVERS
        for server in found:
            assert parse_ice_server(server.url, bare=True).url == server.url
        assert not any("\n" in why for why in skipped)


def _value(reader: ByteReader, depth: int) -> Any:
    kind = reader.number() % (9 if depth else 6)
    match kind:
        case 0 | 1:
            return reader.pick(WORDS)
        case 2:
            return reader.text()
        case 3:
            return reader.pick((None, True, False, 0, -1, 1.5, 1e308, 2**70))
        case 4:
            return reader.number(2)
        case 5:
            return reader.pick(MESSAGE_TYPES)
        case 6 | 7:
            return {reader.pick(KEYS): _value(reader, depth - 1) for _ in range(reader.number() % 6)}
        case _:
            return [_value(reader, depth - 1) for _ in range(reader.number() % 6)]


def _read(read: Callable[[str], T], text: str) -> T | None:
    try:
        return read(text)
    except ProtocolError as exc:
        assert exc.code in ERROR_CODES
        assert len(exc.message) < 200 and exc.message.isprintable(), "one short line"
        return None


def _check_envelope(envelope: Envelope, text: str) -> None:
    body = json.loads(text)
    assert isinstance(body, dict) and body["type"] == envelope.type and body.get("from") == envelope.from_
    assert envelope.type not in SERVER_TYPES and envelope.type != "join"
    assert envelope.to or envelope.type not in TARGETED_TYPES


def _check_join(join: Join) -> None:
    """Several clients request the same seat: each gets an answer."""
    assert is_valid_id(join.peer_id) and (not join.room or is_valid_id(join.room))
    rooms: Rooms[int] = Rooms(grace=5, takeover_ping=2, max_seat_queue=100)
    assert rooms.join(1, join, 0)
    assert rooms.join(2, join, 0)
    assert rooms.join(3, Join(join.peer_id, join.room, key="k"), 0) or rooms.deadline is not None
    assert rooms.join(4, Join(join.peer_id, join.room, key=join.key, instance="x"), 0) or rooms.deadline is not None
    assert rooms.peers(join.room or "") == [join.peer_id]
