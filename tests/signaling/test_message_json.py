"""Messages: both parsers and ``dump``. Whatever the input, the parsers raise nothing but ``ProtocolError``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer.errors import CAUSES, ProtocolError
from peer.signaling import messages as messages_module
from peer.signaling.message_json import dump, parse, read_envelope, read_join
from peer.signaling.messages import (
    MAX_CANDIDATE,
    MAX_FRAGMENT,
    MAX_INSTANCE,
    MAX_ROUND,
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

ids = st.text("ABCXYZabcxyz0189._~-", min_size=1, max_size=64)
texts = st.text(min_size=1)
maybe = st.none() | texts
calls = st.none() | st.text("ABZabz09_-", min_size=1, max_size=64)
rounds = st.none() | st.integers(1, MAX_ROUND)
instances = st.text(min_size=1, max_size=MAX_INSTANCE)
short = st.none() | st.text(min_size=1, max_size=MAX_FRAGMENT // 4)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
candidates = st.none() | st.builds(
    IceCandidate, st.text(max_size=MAX_CANDIDATE // 4), short, st.none() | st.integers(0, 65535), short
)

KINDS = [
    "join",
    "peer-list",
    "peer-joined",
    "peer-left",
    "offer",
    "answer",
    "candidate",
    "hang-up",
    "error",
    "ice-servers",
    "hello",
]
KEYS = [
    *["peerId", "room", "token", "key", "instance", "peers", "iceServers", "instances", "from", "to", "sdp"],
    *["call", "round", "candidate", "reason", "detail", "code"],
]
bodies = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | json_values},
    optional={key: json_values | ids for key in [*KEYS, "message"]},
)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Join,
        ids,
        st.just("") | ids,
        maybe,
        st.none() | st.text(min_size=1, max_size=256),
        st.none() | instances,
    ),
    st.builds(IceServers, st.lists(st.dictionaries(texts, scalars), max_size=2).map(tuple)),
    st.builds(
        PeerList,
        st.lists(ids).map(tuple),
        st.lists(st.dictionaries(texts, scalars), max_size=2).map(tuple),
        st.dictionaries(ids, instances),
    ),
    st.builds(PeerJoined, ids, st.none() | instances),
    st.builds(PeerLeft, ids),
    st.builds(Offer, ids, ids, texts, calls, rounds),
    st.builds(Answer, ids, ids, texts, calls, rounds),
    st.builds(Candidate, ids, ids, candidates),
    st.builds(HangUp, ids, ids, maybe, st.text("abz. ", max_size=messages_module.MAX_DETAIL), calls, rounds),
    st.builds(Source, ids, ids, st.sampled_from(["video", "audio"]), st.none() | st.sampled_from(CAUSES)),
    st.builds(Error, texts, st.text(), st.none() | ids),
)


@given(messages)
def test_dumped_message_parses_to_the_same(message: Message) -> None:
    text = dump(message)
    assert text.isascii() and "\n" not in text
    assert parse(text) == message


@pytest.mark.parametrize("cause", [None, 5, "melted", ["gone"]])
def test_source_lost_without_known_cause_has_failed(cause: object) -> None:
    text = json.dumps({"type": "source", "from": "a", "to": "b", "kind": "video", "state": "lost", "cause": cause})
    assert parse(text) == Source("a", "b", "video", "failed")


@pytest.mark.parametrize("body", [{}, {"kind": "video", "state": 1}, {"kind": ["video"], "state": "lost"}])
def test_source_of_another_program_is_any_other_message(body: dict[str, Any]) -> None:
    assert isinstance(parse(json.dumps({"type": "source", "from": "a"} | body)), Other)


@given(st.text() | bodies.map(json.dumps) | json_values.map(json.dumps))
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example('{"type":"offer","to":"a","from":"b","n":' + "9" * 10_000 + "}")
@example('{"type":"offer","to":"\\ud800","from":"b"}')
@example('{"type": NaN}')
@example("\ufeff{}")
def test_parsers_of_any_text_raise_only_protocol_error(text: str) -> None:
    for read in (parse, read_envelope, read_join):
        try:
            read(text)
        except ProtocolError as exc:
            assert exc.code in messages_module.ERROR_CODES
            assert len(exc.message) < 200, "an error does not echo its input"


@given(bodies)
def test_both_parsers_agree_on_sender_and_addressee(body: dict[str, Any]) -> None:
    text = json.dumps(body)
    try:
        envelope = read_envelope(text)
        message = parse(text)
    except ProtocolError:
        return
    if isinstance(message, Offer | Answer | Candidate | HangUp):
        assert (message.from_, message.to) == (envelope.from_, envelope.to)


@pytest.mark.parametrize("value", ["a", "A-Z.a_z~0", "x" * 64])
def test_valid_id_is_accepted(value: str) -> None:
    assert is_valid_id(value)


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "ä", "a\n", "a/b", "\u0661", None, 5, ["a"]])
def test_invalid_id_is_rejected(value: object) -> None:
    assert not is_valid_id(value)


@pytest.mark.parametrize("kind", ["offer", "answer", "candidate", "hang-up"])
@pytest.mark.parametrize("to", [{}, {"to": ""}, {"to": None}, {"to": 5}, {"to": ["b"]}])
def test_targeted_type_without_addressee_is_rejected(kind: str, to: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="bad-message"):
        read_envelope(json.dumps({"type": kind, "from": "a", "sdp": "x"} | to))


@pytest.mark.parametrize("kind", sorted(messages_module.SERVER_TYPES))
def test_type_of_the_server_is_rejected(kind: str) -> None:
    with pytest.raises(ProtocolError, match="bad-message"):
        read_envelope(json.dumps({"type": kind, "from": "a", "peerId": "b", "peers": [], "code": "x"}))


@pytest.mark.parametrize("to", [{}, {"to": ""}, {"to": None}])
def test_other_type_without_addressee_is_a_broadcast(to: dict[str, Any]) -> None:
    assert read_envelope(json.dumps({"type": "hello", "from": "a"} | to)) == Envelope("hello", "a", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"type":"hello"}',
        '{"type":"join"}',
        '{"type":"join","peerId":5}',
        '{"type":"join","peerId":"a b"}',
        '{"type":"join","peerId":"a","room":5}',
        '{"type":"join","peerId":"a","room":"a b"}',
        '{"type":"join","peerId":"a","key":5}',
        '{"type":"join","peerId":"a","key":"' + "k" * 257 + '"}',
        '{"type":"join","peerId":"a","token":{}}',
        '{"type":"join","peerId":"a","instance":5}',
        '{"type":"join","peerId":"a","instance":"' + "i" * 65 + '"}',
        '{"Type":"join","peerId":"a"}',
    ],
)
def test_invalid_first_message_is_a_bad_join(text: str) -> None:
    with pytest.raises(ProtocolError, match="bad-join"):
        read_join(text)


@pytest.mark.parametrize("kind", ["offer", "answer", "hang-up"])
@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("", 0),
        ("x" * 65, 2**31),
        ("a.b", -1),
        ("a\n", 1.5),
        ("\u0661", True),
        (7, "1"),
        (None, None),
        (["a"], [1]),
        ({}, {}),
        (True, 1e400),
    ],
)
def test_invalid_call_and_round_count_as_absent(kind: str, call: object, number: object) -> None:
    text = json.dumps({"type": kind, "from": "a", "to": "b", "sdp": "x", "call": call, "round": number})
    message = parse(text.replace("Infinity", "1e400"))
    assert isinstance(message, Offer | Answer | HangUp)
    assert (message.call, message.round) == (None, None)
    assert json.loads(dump(message)).keys() & {"call", "round"} == set()


@pytest.mark.parametrize("kind", ["offer", "answer", "hang-up"])
@pytest.mark.parametrize(("call", "number"), [("A-z_9", 1), ("x" * 64, 2**31 - 1), ("-", 2.0)])
def test_valid_call_and_round_are_kept(kind: str, call: str, number: float) -> None:
    message = parse(json.dumps({"type": kind, "from": "a", "to": "b", "sdp": "x", "call": call, "round": number}))
    assert isinstance(message, Offer | Answer | HangUp)
    assert (message.call, message.round) == (call, number)
    assert isinstance(message.round, int)


@pytest.mark.parametrize("instance", ["", "i" * 65, 5, None, True, ["i"]])
def test_invalid_instance_of_a_peer_counts_as_absent(instance: object) -> None:
    joined = parse(json.dumps({"type": "peer-joined", "peerId": "a", "instance": instance}))
    listed = parse(json.dumps({"type": "peer-list", "peers": ["a"], "instances": {"a": instance, "b": "1"}}))
    assert joined == PeerJoined("a")
    assert listed == PeerList(("a",), (), {"b": "1"})


@pytest.mark.parametrize("instances", [None, 5, [], ["a"], "a"])
def test_invalid_instances_of_a_list_count_as_absent(instances: object) -> None:
    assert parse(json.dumps({"type": "peer-list", "peers": ["a"], "instances": instances})) == PeerList(("a",))


def test_join_of_legacy_client_has_no_room_or_key() -> None:
    assert read_join('{"type":"join","peerId":"A"}') == Join("A", messages_module.DEFAULT_ROOM)


def test_peer_list_of_legacy_server_may_lack_peers() -> None:
    assert parse('{"type":"peer-list"}') == PeerList(())


@pytest.mark.parametrize("end", ["null", '""', '{"candidate":null}', "{}"])
def test_end_of_candidates_has_several_forms(end: str) -> None:
    assert parse('{"type":"candidate","from":"a","to":"b","candidate":' + end + "}") == Candidate("a", "b", None)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("candidate", "x" * MAX_CANDIDATE, True),
        ("candidate", "x" * (MAX_CANDIDATE + 1), False),
        ("candidate", "\u20ac" * (MAX_CANDIDATE // 3 + 1), False),
        ("candidate", "\ud800" * MAX_CANDIDATE, False),
        ("usernameFragment", "x" * MAX_FRAGMENT, True),
        ("usernameFragment", "x" * (MAX_FRAGMENT + 1), False),
        ("sdpMid", "x" * (MAX_FRAGMENT + 1), False),
        ("sdpMLineIndex", 65535, True),
        ("sdpMLineIndex", 65536, False),
        ("sdpMLineIndex", 10**4000, False),
        ("sdpMLineIndex", -1, False),
    ],
)
def test_candidate_beyond_its_limits_is_rejected(key: str, value: object, valid: bool) -> None:
    body = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host"} | {key: value}
    text = json.dumps({"type": "candidate", "from": "a", "to": "b", "candidate": body})
    if valid:
        assert isinstance(parse(text), Candidate)
    else:
        with pytest.raises(ProtocolError):
            parse(text)


def test_unknown_type_keeps_its_whole_body() -> None:
    body = {"type": "hello", "from": "a", "extra": [1]}
    assert parse(json.dumps(body)) == Other("hello", "a", None, body)


def test_importing_messages_loads_no_media_engine() -> None:
    code = (
        "import sys, peer.signaling.message_json\n"
        "print([m for m in ('aiortc', 'av', 'cv2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_ice_servers_with_a_sender_are_not_the_relays() -> None:
    """The relay forwards no message whose ``from`` is not the id of its sender (rule 4)."""
    assert parse('{"type":"ice-servers","iceServers":[{"urls":"stun:a"}]}') == IceServers(({"urls": "stun:a"},))
    assert parse('{"type":"ice-servers"}') == IceServers(())
    forged = parse('{"type":"ice-servers","from":"a","iceServers":[]}')
    assert isinstance(forged, Other) and forged.from_ == "a"


def test_repr_of_ice_servers_has_no_passwords() -> None:
    servers = ({"urls": "turn:a", "username": "u", "credential": "hush"},)
    assert "hush" not in repr(PeerList((), servers)) + repr(IceServers(servers))
