"""The room with a scripted signaling client: what each event of the relay publishes and dispatches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from peer import negotiation as n
from peer import room as room_module
from peer.call import Call
from peer.errors import CallFailed, JoinRefused, NotHere, ServerUnreachable
from peer.room import Room
from peer.rtc.connection import ConnectionOptions
from peer.signaling import client as signaling
from peer.signaling import messages
from peer.signaling.diagnosis import JOIN_UNANSWERED, NO_ANSWER, Diagnosis
from peer.signaling.ice_servers import parse_ice_server

URL = "ws://relay.example/ws"
AWAY = signaling.Disconnected(Diagnosis("connection refused"))
WRONG_PATH = signaling.Disconnected(Diagnosis("HTTP 404 Not Found", "the path of a relay is /ws", permanent=True))
STUN = {"urls": "stun:stun.example"}


def joined(
    *peers: str, ice_servers: tuple[Any, ...] = (), instances: dict[str, str] | None = None
) -> signaling.Joined:
    return signaling.Joined(messages.PeerList(peers, ice_servers, instances or {}))


class ScriptedClient:
    """A stand-in for ``SignalingClient``. A test passes events to ``on_event``."""

    timeout_diagnosis = NO_ANSWER

    def __init__(self, url: str, join: messages.Join, on_event: Callable[[Any], None], *, tls: Any = None) -> None:
        self.on_event = on_event
        self.sent: list[messages.Message] = []
        self.blocked = False

    def send(self, message: messages.Message) -> None:
        self.sent.append(message)

    async def flush(self) -> None:
        if self.blocked:
            await asyncio.Event().wait()


class RecordedCalls:
    """A stand-in for ``CallControl``. Peers in ``remotes`` have a negotiation."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self.remotes: dict[str, Any] = {}
        self.calls: dict[str, Any] = {}
        self.is_full = False
        self.offers_start_calls = True
        self.dispatched: list[tuple[str, n.Event]] = []

    def starts_call(self, peer: str, offer: n.OfferReceived) -> bool:
        return self.offers_start_calls

    def dispatch(self, peer: str, event: n.Event) -> None:
        self.dispatched.append((peer, event))


class Bench:
    """A ``Room`` of the peer "me", with everything it publishes and dispatches."""

    def __init__(self, *, options: ConnectionOptions | None = None, **room_options: Any) -> None:
        self.calls = RecordedCalls(options or ConnectionOptions())
        self.events: list[dict[str, Any]] = []
        calls: Any = self.calls
        self.room = Room(URL, messages.Join("me"), calls, self._publish, **room_options)
        self.client: Any = self.room._client

    def _publish(self, event: Any) -> None:
        body = event.to_json()
        del body["time"]
        self.events.append(body)

    def receive(self, *messages_: messages.Message) -> None:
        for message in messages_:
            self.client.on_event(signaling.MessageReceived(message))

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signaling, "SignalingClient", ScriptedClient)


# --- presence ---


async def test_first_join_publishes_the_peers_once() -> None:
    b = Bench()
    b.client.on_event(joined("a", "b"))
    assert b.events == [{"event": "joined", "id": "me", "peers": ["a", "b"]}]
    assert b.room.peers == ("a", "b") and "a" in b.room
    await b.room.wait_joined()


async def test_rejoin_publishes_the_difference() -> None:
    b = Bench()
    b.client.on_event(joined("a", "b"))
    b.client.on_event(AWAY)
    b.events.clear()
    b.client.on_event(joined("b", "c"))
    assert b.events == [
        {"event": "server-back"},
        {"event": "joined", "id": "me", "peers": ["b", "c"]},
        {"event": "peer-left", "peer": "a"},
        {"event": "peer-joined", "peer": "c"},
    ]


async def test_rejoin_tells_negotiations_who_left_and_returned() -> None:
    b = Bench()
    b.client.on_event(joined("a", "b"))
    b.calls.remotes = {"a": None, "c": None}
    b.client.on_event(joined("b", "c"))
    assert b.calls.dispatched == [("a", n.PeerGone()), ("c", n.PeerBack())]


async def test_peer_joined_and_left_are_published_once() -> None:
    b = Bench()
    b.receive(messages.PeerJoined("a"), messages.PeerJoined("a"), messages.PeerJoined("me"))
    b.receive(messages.PeerLeft("a"), messages.PeerLeft("a"))
    assert b.events == [{"event": "peer-joined", "peer": "a"}, {"event": "peer-left", "peer": "a"}]
    assert b.calls.dispatched == [], "presence alone creates no negotiation"


async def test_presence_of_a_known_remote_reaches_its_negotiation() -> None:
    b = Bench()
    b.calls.remotes = {"a": None}
    b.receive(messages.PeerJoined("a"), messages.PeerLeft("a"))
    assert b.calls.dispatched == [("a", n.PeerBack()), ("a", n.PeerGone())]


async def test_restarted_peer_leaves_and_joins_again() -> None:
    b = Bench()
    b.client.on_event(joined("a", instances={"a": "1"}))
    b.client.on_event(joined("a", instances={"a": "1"}))
    b.events.clear()
    b.calls.remotes = {"a": None}
    b.calls.dispatched.clear()
    b.client.on_event(joined("a", instances={"a": "2"}))
    assert b.names() == ["server-back", "joined", "peer-left", "peer-joined"]
    assert b.calls.dispatched == [("a", n.PeerGone()), ("a", n.PeerRestarted()), ("a", n.PeerBack())]
    b.events.clear()
    b.calls.dispatched.clear()
    b.receive(messages.PeerLeft("a"), messages.PeerJoined("a", "3"))
    assert b.names() == ["peer-left", "peer-joined"]
    assert b.calls.dispatched == [("a", n.PeerGone()), ("a", n.PeerRestarted()), ("a", n.PeerBack())]


async def test_outage_is_published_once() -> None:
    b = Bench()
    b.client.on_event(AWAY)
    assert b.events == [], "before the first join there is nothing to lose"
    b.client.on_event(joined())
    b.client.on_event(AWAY)
    b.client.on_event(AWAY)
    assert b.names() == ["joined", "server-lost"]
    assert b.events[1]["detail"] == AWAY.diagnosis.why


# --- messages of remotes ---


async def test_messages_of_a_remote_become_events() -> None:
    b = Bench()
    candidate = messages.IceCandidate("candidate:1", "0", 0)
    b.receive(
        messages.Offer("a", "me", "o"),
        messages.Answer("a", "me", "x"),
        messages.Candidate("a", "me", candidate),
        messages.HangUp("a", "me", "declined"),
    )
    assert b.calls.dispatched == [
        ("a", n.OfferReceived("o", allowed=True)),
        ("a", n.AnswerReceived("x")),
        ("a", n.CandidateReceived(candidate)),
        ("a", n.HangUpReceived("declined")),
    ]


@pytest.mark.parametrize(("sender", "to"), [("a", "other"), ("me", "me"), ("not valid", "me"), ("a", "")])
async def test_message_with_wrong_addresses_is_ignored(sender: str, to: str) -> None:
    b = Bench()
    b.receive(messages.Offer(sender, to, "o"))
    assert b.calls.dispatched == []


async def test_message_of_unknown_type_is_ignored() -> None:
    b = Bench()
    b.receive(messages.Other("hello", "a", "me"))
    assert b.events == [] and b.calls.dispatched == []


async def test_lost_source_of_a_call_is_published_once() -> None:
    b = Bench()
    tasks = asyncio.TaskGroup()
    b.calls.calls["a"] = Call("a", incoming=True, tasks=tasks, publish=b._publish, hang_up=lambda _: None)
    for sender, to, kind, cause in (
        ("a", "me", "video", "gone"),
        ("a", "me", "video", "busy"),  # the cause has changed, the state has not
        ("a", "other", "audio", "gone"),
        ("b", "me", "video", "gone"),  # no call with it
        ("a", "me", "audio", None),  # was never lost
        ("a", "me", "video", None),
        ("a", "me", "video", None),
    ):
        b.receive(messages.Source(sender, to, kind, cause))
    assert [(event["event"], event["peer"], event["kinds"]) for event in b.events] == [
        ("source-lost", "a", ["video"]),
        ("source-back", "a", ["video"]),
    ]
    assert (b.events[0]["cause"], b.events[0]["message"]) == ("gone", "a has no live video: gone")


async def test_peer_not_found_ends_the_negotiation() -> None:
    b = Bench()
    b.calls.remotes = {"a": None}
    b.receive(messages.Error("peer-not-found", "no such peer", "a"), messages.Error("peer-not-found", "?", "b"))
    b.receive(messages.Error("rate-limited", "slow down"))
    assert b.calls.dispatched == [("a", n.PeerGone())]
    assert [(event["code"], event.get("peer")) for event in b.events] == [
        ("peer-not-found", "a"),
        ("peer-not-found", "b"),
        ("rate-limited", None),
    ]


# --- accept policy ---


def allowed(b: Bench, peer: str = "a") -> bool:
    b.receive(messages.Offer(peer, "me", "o"))
    event = b.calls.dispatched[-1][1]
    assert isinstance(event, n.OfferReceived)
    return event.allowed


async def test_offer_is_allowed_as_the_policy_decides() -> None:
    b = Bench(accept=lambda peer: peer == "a")
    assert allowed(b, "a") is True
    assert allowed(b, "b") is False


async def test_policy_is_asked_for_new_calls_only() -> None:
    asked: list[str] = []
    b = Bench(accept=lambda peer: bool(asked.append(peer)))
    b.calls.offers_start_calls = False
    assert allowed(b) is True and asked == []
    b.calls.offers_start_calls = True
    assert allowed(b) is False and asked == ["a"]


async def test_call_and_round_of_messages_reach_the_negotiation() -> None:
    b = Bench()
    b.receive(
        messages.Offer("a", "me", "o", "c1", 1),
        messages.Answer("a", "me", "s", "c1", 2),
        messages.HangUp("a", "me", "declined", "no", "c1", 3),
    )
    assert [event for _, event in b.calls.dispatched] == [
        n.OfferReceived("o", True, "c1", 1),
        n.AnswerReceived("s", "c1", 2),
        n.HangUpReceived("declined", "no", "c1", 3),
    ]


async def test_offer_with_failing_policy_is_not_allowed(caplog: pytest.LogCaptureFixture) -> None:
    def fail(peer: str) -> bool:
        raise ZeroDivisionError

    assert allowed(Bench(accept=fail)) is False
    assert "accept('a') failed; the call is declined" in caplog.text


async def test_offer_at_the_call_limit_is_allowed_for_calls_only() -> None:
    b = Bench()
    b.calls.is_full = True
    b.calls.calls = {"a": None}
    assert allowed(b, "a") is True
    assert allowed(b, "b") is False


async def test_offer_while_leaving_is_not_allowed() -> None:
    b = Bench()
    b.room.leave()
    assert allowed(b) is False


# --- ICE servers ---


async def test_ice_servers_of_the_relay_follow_our_own() -> None:
    own = parse_ice_server("turn:me:secret@turn.example")
    b = Bench(options=ConnectionOptions(ice_servers=(own,)))
    b.client.on_event(joined(ice_servers=(STUN,)))
    assert b.calls.options.ice_servers == (own, parse_ice_server("stun:stun.example"))
    b.receive(messages.IceServers(()))
    assert b.calls.options.ice_servers == (own,)


async def test_unusable_ice_server_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    b = Bench()
    for _ in range(3):
        b.receive(messages.IceServers(({"urls": "gopher:x"},)))
    assert caplog.text.count("skipped an ICE server of the relay") == 1


async def test_relay_only_without_turn_server_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    b = Bench(options=ConnectionOptions(relay_only=True))
    b.client.on_event(joined())
    b.receive(messages.IceServers((STUN,)))
    assert caplog.text.count("no call can connect: --relay-only is set, but no TURN server is known") == 1
    turn = {"urls": "turn:turn.example", "username": "me", "credential": "secret"}
    b.receive(messages.IceServers((turn,)), messages.IceServers(()))
    assert caplog.text.count("no TURN server is known") == 2, "the relay has withdrawn its TURN server"


# --- waiting ---


async def test_wait_joined_after_time_out_names_the_last_failure() -> None:
    b = Bench(join_timeout=0.05)
    b.client.on_event(AWAY)
    with pytest.raises(ServerUnreachable, match="connection refused"):
        await b.room.wait_joined()


async def test_wait_joined_without_any_answer_says_so() -> None:
    b = Bench(join_timeout=0.05)
    b.client.timeout_diagnosis = JOIN_UNANSWERED
    with pytest.raises(ServerUnreachable, match="does not answer the join"):
        await b.room.wait_joined()


async def test_wait_joined_rejected_for_now_raises_join_refused() -> None:
    b = Bench(join_timeout=0.05)
    b.client.on_event(signaling.Disconnected(Diagnosis("the room is full", None), ("room-full", "the room is full")))
    with pytest.raises(JoinRefused, match=r"the room is full \(room-full\)"):
        await b.room.wait_joined()


async def test_wait_joined_with_permanent_failure_raises_at_once() -> None:
    b = Bench(join_timeout=600.0)
    b.client.on_event(WRONG_PATH)
    async with asyncio.timeout(5):
        with pytest.raises(ServerUnreachable, match="404"):
            await b.room.wait_joined()


async def test_wait_joined_without_limit_outlasts_permanent_failure(caplog: pytest.LogCaptureFixture) -> None:
    b = Bench()
    waiting = asyncio.ensure_future(b.room.wait_joined())
    for _ in range(3):
        b.client.on_event(WRONG_PATH)
        await asyncio.sleep(0)
    assert not waiting.done()
    assert caplog.text.count("404") == 1, "the same failure is logged once"
    b.client.on_event(joined())
    await waiting


async def test_rejection_for_good_ends_all_waiting() -> None:
    b = Bench()
    b.client.on_event(joined())
    waiting = [asyncio.ensure_future(b.room.wait_closed()), asyncio.ensure_future(b.room.wait_for("a", None))]
    await asyncio.sleep(0)
    b.client.on_event(signaling.Rejected("replaced", "another program took this seat"))
    for future in waiting:
        with pytest.raises(JoinRefused, match="replaced"):
            await future
    assert b.events[-1]["code"] == "replaced"


async def test_rejection_before_the_first_join_publishes_no_event() -> None:
    b = Bench()
    b.client.on_event(signaling.Rejected("unauthorized", "the token was rejected"))
    assert b.events == []
    with pytest.raises(JoinRefused, match="unauthorized"):
        await b.room.wait_joined()


async def test_wait_for_returns_when_the_peer_joins() -> None:
    b = Bench()
    waiting = asyncio.ensure_future(b.room.wait_for("a", 5.0))
    await asyncio.sleep(0)
    b.receive(messages.PeerJoined("a"))
    await waiting


async def test_wait_for_absent_peer_raises_not_here() -> None:
    with pytest.raises(NotHere):
        await Bench().room.wait_for("a", 0.01)


async def test_leave_ends_all_waiting() -> None:
    b = Bench()
    closed, present = asyncio.ensure_future(b.room.wait_closed()), asyncio.ensure_future(b.room.wait_for("a", None))
    await asyncio.sleep(0)
    b.room.leave()
    await closed
    with pytest.raises(CallFailed, match="shutdown"):
        await present


async def test_flush_to_a_blocked_relay_is_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room_module, "FLUSH_TIMEOUT", 0.05)
    b = Bench()
    b.room.send(messages.HangUp("me", "a"))
    b.client.blocked = True
    async with asyncio.timeout(5):
        await b.room.flush()
    assert b.client.sent == [messages.HangUp("me", "a")]
    assert "hang-ups were not sent" in caplog.text
