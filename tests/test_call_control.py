"""Call control with scripted connections: which commands it executes, in which order, and what it publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from peer import call_control
from peer import events as ev
from peer import negotiation as n
from peer.call import Call, State
from peer.call_control import MAX_CALLS, CallControl
from peer.rtc.connection import ConnectionOptions
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.rtcp_stats import TransportStats
from peer.signaling import message_json, messages
from tests.rtc.descriptions import BUNDLE, HEAD, offer
from tests.waiting import until

OFFER, ANSWER, OTHER = "a=ice-ufrag:offer", "a=ice-ufrag:answer", "a=ice-ufrag:other"


def candidate(fragment: str) -> messages.IceCandidate:
    return messages.IceCandidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, fragment)


class ScriptedConnection:
    """A stand-in for ``Connection`` that records its calls, and posts only what a test tells it to.

    ``on_create``: called by ``create_offer`` and ``create_answer``, before they return.
    """

    made: list[ScriptedConnection]
    on_create: Callable[[ScriptedConnection], None] | None

    def __init__(
        self, generation: int, tracks: Any, incoming: Any, options: Any, post: Callable[[n.Event], None]
    ) -> None:
        self.generation, self.tracks, self.incoming, self.options, self.post = (
            generation, tracks, incoming, options, post,
        )  # fmt: skip
        self.calls: list[Any] = []
        self.closed = 0
        self.fails = False
        self.receives = frozenset({"video"})
        self._end = asyncio.Event()
        self.made.append(self)

    async def run(self) -> None:
        await self._end.wait()

    def create_offer(self) -> None:
        self._create("create_offer")

    def create_answer(self, sdp: str) -> None:
        self._create(("create_answer", sdp))

    def renegotiate(self, offer: str, *, ice_restart: bool) -> None:
        self._create(("renegotiate", offer, ice_restart))

    def _create(self, call: Any) -> None:
        assert not self.closed
        self.calls.append(call)
        if self.on_create is not None:
            self.on_create(self)

    def apply_answer(self, sdp: str) -> None:
        assert not self.closed
        self.calls.append(("apply_answer", sdp))

    def add_candidate(self, candidate: messages.IceCandidate) -> None:
        assert not self.closed
        self.calls.append(("add_candidate", candidate.username_fragment))

    def close(self) -> None:
        self.closed += 1
        self._end.set()

    async def stats(self) -> TransportStats:
        if self.fails:
            raise RuntimeError("scripted")
        return TransportStats(0.02, {"video": 9}, {"video": 1}, {"video": 0})


class RecordedPlayout:
    """A stand-in for ``Playout``."""

    def __init__(self, trace: list[Any]) -> None:
        self._trace = trace

    def add(self, call: Call) -> None:
        self._trace.append(("show", call.peer))

    def remove(self, peer: str) -> None:
        self._trace.append(("hide", peer))


class Bench:
    """A ``CallControl`` whose messages, events and playout go to one list, ``trace``, in order."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.trace: list[Any] = []
        self.present = {"b", "c"}
        self.options = ConnectionOptions()
        playout: Any = RecordedPlayout(self.trace)
        self.calls = CallControl(
            "a",
            tasks,
            options=self.options,
            tracks=OutgoingTracks,
            playout=playout,
            send=self.trace.append,
            publish=lambda event: self.trace.append(event.event),
            is_present=lambda peer: peer in self.present,
        )

    @property
    def connections(self) -> list[ScriptedConnection]:
        return ScriptedConnection.made

    def connect(self, peer: str = "b") -> Call:
        """Dial ``peer`` and go through to a connected call."""
        self.calls.dispatch(peer, n.Dial(15.0))
        connection = self.connections[-1]
        connection.post(n.OfferCreated(connection.generation, OFFER))
        self.calls.dispatch(peer, n.AnswerReceived(ANSWER))
        connection.post(n.TransportConnected(connection.generation))
        return self.calls.calls[peer]


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedConnection, "made", [], raising=False)
    monkeypatch.setattr(ScriptedConnection, "on_create", None, raising=False)
    monkeypatch.setattr(call_control, "Connection", ScriptedConnection)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as tasks:
        made = Bench(tasks)
        yield made
        for peer in made.calls.calls:
            made.calls.dispatch(peer, n.HangUp())
        made.calls.close()


async def test_dial_opens_one_connection_and_creates_an_offer() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        assert b.trace == ["calling"]
        assert [connection.calls for connection in b.connections] == [["create_offer"]]
        assert b.calls.state("b") is State.CALLING
        assert b.calls.calls["b"].incoming is False


async def test_dial_during_a_call_changes_nothing() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        call = b.calls.calls["b"]
        b.calls.dispatch("b", n.Dial(15.0))
        assert b.calls.calls["b"] is call
        assert len(b.connections) == 1


async def test_early_candidates_and_offers_are_limited_in_bytes() -> None:
    """Hundreds of peers send candidates and offers without a call, as large and as many as they can."""
    text = "x" * messages.MAX_CANDIDATE
    async with bench() as b:
        early = messages.IceCandidate(text, "0", 0, "f" * messages.MAX_FRAGMENT)
        b.calls.dispatch("c", n.CandidateReceived(candidate("offer")))
        names = [f"hostile-{number}" for number in range(300)]
        b.present.update(names)
        for name in names:
            for _ in range(70):
                b.calls.dispatch(name, n.CandidateReceived(early))
            total = sum(remote.negotiation.waiting_bytes for remote in b.calls.remotes.values())
            assert total <= call_control.MAX_WAITING
        assert total > call_control.MAX_WAITING / 2
        for name in names[:20]:
            for _ in range(70):
                b.calls.dispatch(name, n.OfferReceived("x" * messages.MAX_MESSAGE, allowed=True))
            waiting = [remote.negotiation.waiting_bytes for remote in b.calls.remotes.values()]
            assert max(waiting) <= call_control.MAX_WAITING_PER_REMOTE + 70 * 2048
            assert sum(waiting) <= call_control.MAX_WAITING
        b.calls.dispatch("c", n.OfferReceived(OFFER))
        assert b.connections[-1].calls[-1] == ("add_candidate", "offer"), "the honest peer's candidate is not lost"


async def test_each_remote_has_its_own_negotiation() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        b.calls.dispatch("c", n.Dial(15.0))
        b.connections[1].post(n.OfferCreated(1, OFFER))
        assert [connection.generation for connection in b.connections] == [1, 1]
        assert b.trace == ["calling", "calling", messages.Offer("a", "c", OFFER)]
        b.calls.dispatch("c", n.AnswerReceived(ANSWER))
        assert [c.calls for c in b.connections] == [["create_offer"], ["create_offer", ("apply_answer", ANSWER)]]


async def test_dialed_call_executes_all_commands_in_order() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        [connection] = b.connections
        connection.post(n.LocalCandidate(1, candidate("offer")))
        connection.post(n.OfferCreated(1, OFFER))
        connection.post(n.LocalCandidate(1, candidate("offer")))
        b.calls.dispatch("b", n.CandidateReceived(candidate("answer")))
        b.calls.dispatch("b", n.AnswerReceived(ANSWER))
        connection.post(n.TransportConnected(1))
        sent = messages.Candidate("a", "b", candidate("offer"))
        assert b.trace == ["calling", messages.Offer("a", "b", OFFER), sent, sent, "connected", ("show", "b")]
        assert connection.calls == ["create_offer", ("apply_answer", ANSWER), ("add_candidate", "answer")]
        assert b.calls.state("b") is State.CONNECTED


async def test_incoming_call_is_answered_and_connected() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(OFFER))
        [connection] = b.connections
        connection.post(n.AnswerCreated(1, ANSWER))
        connection.post(n.TransportConnected(1))
        assert b.trace == ["incoming", messages.Answer("a", "b", ANSWER), "connected", ("show", "b")]
        assert connection.calls == [("create_answer", OFFER)]
        assert connection.incoming is b.calls.calls["b"].media
        assert b.calls.calls["b"].incoming is True


async def test_event_caused_by_a_command_is_processed_after_it() -> None:
    """A connection that posts from within ``create_offer`` must not re-enter the negotiation."""
    seen: list[int] = []

    def post_at_once(connection: ScriptedConnection) -> None:
        connection.post(n.OfferCreated(1, OFFER))
        connection.post(n.LocalCandidate(1, candidate("offer")))
        seen.append(len(b.trace))

    ScriptedConnection.on_create = staticmethod(post_at_once)
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        assert seen == [1], "nothing is sent before create_offer has returned"
        assert b.trace == [
            "calling",
            messages.Offer("a", "b", OFFER),
            messages.Candidate("a", "b", candidate("offer")),
        ]


@pytest.mark.parametrize("head", [HEAD, (*HEAD, BUNDLE)])
async def test_offer_is_answered_by_one_connection_per_transport(
    head: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class ScriptedUnbundled(ScriptedConnection):
        def __init__(self, *args: Any) -> None:
            *args, self.parts = args
            super().__init__(*args)

    monkeypatch.setattr(call_control, "UnbundledConnection", ScriptedUnbundled)
    sdp = offer(head=head)
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(sdp))
        (connection,) = b.connections
        assert connection.calls == [("create_answer", sdp)]
        if isinstance(connection, ScriptedUnbundled):
            assert [part.kinds for part in connection.parts] == [("audio",), ("video",)]
        assert isinstance(connection, ScriptedUnbundled) is (head == HEAD)


async def test_exception_in_a_command_leaves_dispatch_usable() -> None:
    def fail(connection: ScriptedConnection) -> None:
        raise ZeroDivisionError

    ScriptedConnection.on_create = staticmethod(fail)
    async with bench() as b:
        with pytest.raises(ZeroDivisionError):
            b.calls.dispatch("b", n.Dial(15.0))
        ScriptedConnection.on_create = None
        b.connect("c")
        assert b.calls.state("c") is State.CONNECTED


async def test_call_unanswered_at_its_deadline_ends() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(0.05))
        b.connections[0].post(n.OfferCreated(1, OFFER))
        call = b.calls.calls["b"]
        async with asyncio.timeout(5):
            assert await call.ended() == "no-answer"
        assert b.trace[-3:] == [messages.HangUp("a", "b", "no-answer"), "ended", ("hide", "b")]
        assert b.connections[0].closed == 1


async def test_timer_serves_the_earliest_deadline_of_all_remotes() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        b.calls.dispatch("c", n.Dial(0.05))
        late, early = b.calls.calls["b"], b.calls.calls["c"]
        async with asyncio.timeout(5):
            assert await early.ended() == "timeout"
        assert late.reason is None
        assert b.calls._timer is not None, "the other deadline is still pending"


async def test_timer_without_deadlines_is_not_set() -> None:
    async with bench() as b:
        b.connect()
        assert b.calls._timer is None
        b.calls.dispatch("c", n.Dial(15.0))
        assert b.calls._timer is not None
        b.calls.dispatch("c", n.HangUp())
        assert b.calls._timer is None


async def test_timer_that_fires_early_is_set_again() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        b.calls._expire_deadlines()
        assert b.calls.state("b") is State.CALLING
        assert b.calls._timer is not None


async def test_hang_up_by_the_user_ends_the_call_on_both_sides() -> None:
    async with bench() as b:
        call = b.connect()
        b.trace.clear()
        await call.hang_up()
        assert b.trace == [messages.HangUp("a", "b", "hang-up"), "ended", ("hide", "b")]
        assert b.connections[0].closed == 1
        assert call.reason == "hang-up"
        assert dict(b.calls.calls) == {} and b.calls.state("b") is State.AVAILABLE


async def test_hang_up_by_the_remote_ends_the_call() -> None:
    async with bench() as b:
        call = b.connect()
        b.trace.clear()
        b.calls.dispatch("b", n.HangUpReceived())
        assert b.trace == ["ended", ("hide", "b")]
        assert call.reason == "remote-hang-up"
        assert b.connections[0].closed == 1


async def test_offer_during_a_connected_call_replaces_it() -> None:
    async with bench() as b:
        old = b.connect()
        b.trace.clear()
        b.calls.dispatch("b", n.OfferReceived(OTHER))
        new = b.calls.calls["b"]
        first, second = b.connections
        assert old.reason == "replaced" and new is not old and new.incoming
        assert b.trace == ["ended", ("hide", "b"), "incoming"]
        assert first.closed == 1 and second.closed == 0
        assert second.calls == [("create_answer", OTHER)] and second.generation == 2
        assert second.incoming is new.media


async def test_offer_while_connecting_replaces_only_the_connection() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(OFFER))
        call = b.calls.calls["b"]
        b.connections[0].post(n.AnswerCreated(1, ANSWER))
        b.calls.dispatch("b", n.OfferReceived(OTHER))
        first, second = b.connections
        assert b.calls.calls["b"] is call and call.reason is None
        assert first.closed == 1 and second.closed == 0
        assert first.incoming is second.incoming is call.media


async def test_events_of_a_replaced_connection_are_ignored() -> None:
    async with bench() as b:
        b.connect()
        b.calls.dispatch("b", n.OfferReceived(OTHER))
        b.trace.clear()
        for event in (n.OfferCreated(1, OFFER), n.LocalCandidate(1, candidate("offer")), n.TransportConnected(1)):
            b.connections[0].post(event)
        b.connections[0].post(n.TransportClosed(1, "transport-failed"))
        assert b.trace == []
        assert b.calls.calls["b"].reason is None


async def test_offer_answered_without_a_call_gets_media_of_its_own() -> None:
    """Two offers and a hang-up: the second is answered only because every offer is (rule 4)."""
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(OFFER))
        media = b.calls.calls["b"].media
        b.calls.dispatch("b", n.OfferReceived(OTHER))
        b.calls.dispatch("b", n.HangUpReceived())
        b.connections[0].post(n.AnswerCreated(1, ANSWER))
        b.connections[1].post(n.AnswerCreated(2, ANSWER))
        answer = messages.Answer("a", "b", ANSWER)
        assert b.trace == ["incoming", "ended", ("hide", "b"), answer, answer]
        assert b.connections[0].incoming is media and b.connections[1].incoming is not media
        assert [connection.closed for connection in b.connections] == [1, 1]


async def test_settled_remote_that_is_absent_is_discarded() -> None:
    async with bench() as b:
        call = b.connect()
        await call.hang_up()
        assert "b" in b.calls.remotes
        b.present.discard("b")
        b.calls.dispatch("b", n.PeerGone())
        assert "b" not in b.calls.remotes


async def test_connected_remote_that_is_absent_is_kept() -> None:
    async with bench() as b:
        b.connect()
        b.present.discard("b")
        b.calls.dispatch("b", n.PeerGone())
        assert "b" in b.calls.remotes
        assert b.calls.state("b") is State.CONNECTED


async def test_call_control_at_the_call_limit_is_full() -> None:
    async with bench() as b:
        for number in range(MAX_CALLS):
            assert not b.calls.is_full
            b.calls.dispatch(f"peer-{number}", n.Dial(15.0))
        assert b.calls.is_full


def offer_and_answer(b: Bench, peer: str) -> bool:
    """Let ``peer`` offer a new connection. Return whether it is answered; it then never connects."""
    made = len(b.connections)
    b.present.add(peer)
    b.calls.dispatch(peer, n.OfferReceived(f"a=ice-ufrag:{peer}{made}"))
    if len(b.connections) == made:
        return False
    connection = b.connections[-1]
    connection.post(n.AnswerCreated(connection.generation, ANSWER))
    return True


def age(b: Bench, seconds: float) -> None:
    """Let all attempts be older by ``seconds``."""
    for remote in b.calls.remotes.values():
        remote.attempted_at -= seconds
        if remote.call is not None:
            remote.call.started_at -= seconds


async def test_offers_that_never_connect_lock_no_viewer_out() -> None:
    """40 peers offer every 9 s; their calls end only by the time-out of 15 s."""
    async with bench() as b:
        hostile = [f"hostile-{number}" for number in range(40)]
        for wave in range(5):
            for name in hostile:
                offer_and_answer(b, name)
            attempts = [call for call in b.calls.calls.values() if call.connected_at is None]
            assert len(attempts) <= call_control.MAX_ATTEMPTS
            assert not b.calls.is_full
            if wave:
                assert offer_and_answer(b, f"viewer-{wave}"), "an honest viewer comes before those that repeat"
                b.connections[-1].post(n.TransportConnected(b.connections[-1].generation))
                assert b.calls.state(f"viewer-{wave}") is State.CONNECTED
            else:
                age(b, call_control.MIN_ATTEMPT_TIME)
                assert offer_and_answer(b, "viewer-0")
            age(b, 9 - call_control.MIN_ATTEMPT_TIME)
        assert [b.calls.state(f"viewer-{wave}") for wave in range(1, 5)] == [State.CONNECTED] * 4


async def test_remote_whose_calls_do_not_connect_is_slowed_down() -> None:
    async with bench() as b:
        answered = [offer_and_answer(b, "b") for _ in range(call_control.FREE_ATTEMPTS + 2)]
        assert answered == [True] * call_control.FREE_ATTEMPTS + [False] * 2
        assert b.trace[-1] == messages.HangUp("a", "b", "declined")
        age(b, call_control.ATTEMPT_INTERVAL)
        assert [offer_and_answer(b, "b") for _ in range(2)] == [True, False]
        assert offer_and_answer(b, "c"), "each remote has its own budget"
        connected = b.connections[-1]
        connected.post(n.TransportConnected(connected.generation))
        assert b.calls.remotes["c"].attempts == 0


async def test_as_many_viewers_as_calls_are_answered_at_once() -> None:
    async with bench() as b:
        assert all([offer_and_answer(b, f"viewer-{number}") for number in range(MAX_CALLS)])
        for connection in b.connections:
            connection.post(n.TransportConnected(connection.generation))
        assert len(b.calls.calls) == MAX_CALLS and b.calls.is_full


async def test_recent_attempts_are_not_replaced_by_newer_ones() -> None:
    async with bench() as b:
        peers = [f"peer-{number}" for number in range(call_control.MAX_ATTEMPTS)]
        assert all([offer_and_answer(b, peer) for peer in peers])
        assert not offer_and_answer(b, "late")
        assert all(b.calls.state(peer) is State.CALLING for peer in peers)
        age(b, call_control.MIN_ATTEMPT_TIME)
        b.calls.calls["peer-3"].started_at -= 1
        assert offer_and_answer(b, "late")
        assert [peer for peer in peers if b.calls.state(peer) is State.AVAILABLE] == ["peer-3"]


async def test_attempt_that_connects_beyond_the_call_limit_ends() -> None:
    async with bench() as b:
        assert offer_and_answer(b, "b")
        connection = b.connections[-1]
        for number in range(MAX_CALLS):
            b.calls.dispatch(f"peer-{number}", n.Dial(15.0))
        connection.post(n.TransportConnected(connection.generation))
        assert b.calls.state("b") is State.AVAILABLE and connection.closed
        assert len(b.calls.calls) == MAX_CALLS


async def test_new_options_apply_to_new_connections_only() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.Dial(15.0))
        b.calls.options = changed = ConnectionOptions(relay_only=True)
        b.calls.dispatch("c", n.Dial(15.0))
        assert b.connections[0].options is b.options
        assert b.connections[1].options is changed


async def test_close_closes_connections_still_answering() -> None:
    async with asyncio.TaskGroup() as tasks:
        b = Bench(tasks)
        b.calls.dispatch("b", n.OfferReceived(OFFER))
        b.calls.dispatch("b", n.HangUp("shutdown"))
        assert b.connections[0].closed == 0, "the answer is still being created (rule 4)"
        b.calls.close()
        assert b.connections[0].closed == 1
        timer = b.calls._timer
        assert timer is not None and timer.cancelled()


async def test_statistics_that_fail_once_do_not_end_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as b:
        call = b.connect()
        [connection] = b.connections
        connection.fails = True
        await until(lambda: "cannot read the statistics of the call with b" in caplog.text)
        assert "stats" not in b.trace and call.reason is None
        connection.fails = False
        async with asyncio.timeout(10):
            stats = await call.stats()
        assert isinstance(stats, ev.Stats) and stats.rtt_ms == 20.0 and stats.loss == 0.1
        assert "stats" in b.trace


# --- second offers, calls and rounds ---


async def test_second_offer_is_applied_to_the_same_connection() -> None:
    async with bench() as b:
        call = b.connect()
        b.trace.clear()
        [connection] = b.connections
        connection.receives = frozenset({"video", "audio"})
        b.calls.dispatch("b", n.OfferReceived(ANSWER))
        connection.post(n.AnswerCreated(1, OTHER))
        assert connection.calls[-1] == ("renegotiate", ANSWER, False)
        assert b.trace == [messages.Answer("a", "b", OTHER)]
        assert call.reason is None and call._kinds == {"video", "audio"}
        assert len(b.connections) == 1 and not connection.closed


async def test_ice_restart_is_passed_to_the_connection() -> None:
    offer = "o=- 1 1\r\na=fingerprint:sha-256 AA\r\na=ice-ufrag:old"
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(offer))
        [connection] = b.connections
        connection.post(n.AnswerCreated(1, ANSWER))
        connection.post(n.TransportConnected(1))
        restart = offer.replace("old", "new")
        b.calls.dispatch("b", n.OfferReceived(restart))
        assert connection.calls[-1] == ("renegotiate", restart, True)


async def test_second_offer_that_fails_ends_the_call_with_its_detail() -> None:
    async with bench() as b:
        call = b.connect()
        b.trace.clear()
        b.calls.dispatch("b", n.OfferReceived(ANSWER))
        b.connections[0].post(n.DescriptionFailed(1, detail="no common codec"))
        assert b.trace[0] == messages.HangUp("a", "b", "declined", "no common codec")
        assert (call.reason, call._detail) == ("media-error", "no common codec")
        assert b.connections[0].closed == 1


async def test_flood_of_second_offers_is_dropped() -> None:
    """Each costs as much CPU as a new call, and needs no new connection."""
    async with bench() as b:
        call = b.connect()
        [connection] = b.connections
        for _ in range(10 * call_control.FREE_FURTHER_OFFERS):
            b.calls.dispatch("b", n.OfferReceived(ANSWER))
            connection.post(n.AnswerCreated(1, OTHER))
        assert connection.calls.count(("renegotiate", ANSWER, False)) == call_control.FREE_FURTHER_OFFERS
        b.calls.remotes["b"].further_offers._paid_until -= call_control.FURTHER_OFFER_INTERVAL
        b.calls.dispatch("b", n.OfferReceived(ANSWER))
        assert connection.calls.count(("renegotiate", ANSWER, False)) == call_control.FREE_FURTHER_OFFERS + 1
        assert call.reason is None


async def test_dialed_call_has_an_id_that_its_messages_carry() -> None:
    async with bench() as b:
        b.calls.dial("b", 15.0)
        b.connections[0].post(n.OfferCreated(1, OFFER))
        offer = b.trace[-1]
        assert offer.round == 1 and message_json.parse(message_json.dump(offer)) == offer and offer.call is not None
        b.calls.dispatch("b", n.AnswerReceived(ANSWER, offer.call, 1))
        b.calls.dispatch("b", n.HangUp())
        assert messages.HangUp("a", "b", "hang-up", "", offer.call) in b.trace
        b.calls.dial("b", 15.0)
        b.connections[1].post(n.OfferCreated(2, OFFER))
        assert b.trace[-1].call != offer.call


async def test_continued_call_is_the_same_for_its_program() -> None:
    async with bench() as b:
        b.calls.dispatch("b", n.OfferReceived(OFFER, True, "c1", 1))
        call = b.calls.calls["b"]
        b.connections[0].post(n.AnswerCreated(1, ANSWER))
        b.connections[0].post(n.TransportConnected(1))
        connected_at = call.connected_at
        b.trace.clear()
        b.calls.dispatch("b", n.OfferReceived(OTHER, True, "c1", 2))
        b.connections[1].post(n.AnswerCreated(2, ANSWER))
        assert b.connections[0].closed == 0, "the old connection receives until the new one is connected"
        b.connections[1].post(n.TransportConnected(2))
        assert b.trace == [messages.Answer("a", "b", ANSWER, "c1", 2)]
        assert b.calls.calls["b"] is call and call.connected_at == connected_at
        assert [connection.closed for connection in b.connections] == [1, 0]
        assert b.connections[1].incoming is call.media
        b.connections[0].fails = True  # the statistics are those of the new connection
        async with asyncio.timeout(10):
            assert (await call.stats()).rtt_ms == 20.0


async def test_restarted_peer_loses_its_call_at_once() -> None:
    async with bench() as b:
        call = b.connect()
        b.trace.clear()
        b.calls.dispatch("b", n.PeerRestarted())
        assert b.trace == ["ended", ("hide", "b")] and call.reason == "peer-left"
        assert b.connections[0].closed == 1
