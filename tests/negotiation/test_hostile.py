"""Negotiation with a remote that breaks every rule, over a relay that repeats, drops and reorders messages.

Whatever arrives:

- ``handle`` does not raise. Each connection is opened once and closed once, and not used after it is closed.
- Each offer gets at most one answer, one at a time. A declined offer gets none.
- At most one of our own offers is unanswered.
- Every phase except idle and connected has a deadline, and all queues are bounded.
- A call starts, connects and ends in this order, each at most once.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peer import negotiation as n
from peer.negotiation import MAX_QUEUED, Phase
from peer.signaling.messages import MAX_ROUND, IceCandidate
from tests.negotiation.model import sdp

TIMEOUT = 15.0
FRAGMENTS = st.sampled_from(["x1", "x2", "", None])
REASONS = st.sampled_from(["hang-up", "declined", "no-answer", "timeout", "media-error", "nonsense", "", None])
TEXTS = st.sampled_from(
    [
        *(sdp("x1"), sdp("x2"), sdp("x1", "r1"), sdp("x1", "r2"), sdp("x1") + sdp("x2")),
        *("a=ice-ufrag:x1", "a=ice-ufrag:x2", "", "a=ice-ufrag:", "\0\ud800"),
    ]
)
CALLS = st.sampled_from([None, "c1", "c1", "c2", "ours"])
ROUNDS = st.sampled_from([None, 1, 1, 2, 3, MAX_ROUND])
GENERATIONS = st.integers(0, 6)
"""Generation of a connection event, counted back from the newest. Most of these connections are closed."""


class Hostile(RuleBasedStateMachine):
    @initialize(me=st.sampled_from("ac"))
    def start(self, me: str) -> None:
        self.negotiation = n.Negotiation(me, "b", TIMEOUT)
        self.now = 0.0
        self.opened = 0
        self.connections: dict[int, str] = {}  # open connections: offer, answer, offered or answered
        self.offers = 0  # received from the remote
        self.replies = 0  # answers and declined hang-ups sent
        self.call = "over"

    def feed(self, event: n.Event) -> None:
        for command in self.negotiation.handle(event, self.now):
            self.run(command)

    def run(self, command: n.Command) -> None:
        match command:
            case n.CreateOffer(generation) | n.CreateAnswer(generation):
                self.opened += 1
                assert generation == self.opened, "a generation is used once"
                work = "offer" if isinstance(command, n.CreateOffer) else "answer"
                assert work not in self.connections.values(), "one description at a time"
                self.connections[generation] = work
            case n.Renegotiate(generation):
                assert self.connections[generation] == "answered" and "answer" not in self.connections.values()
                self.connections[generation] = "answer"
            case n.ApplyAnswer(generation):
                assert self.connections[generation] == "offered"
                self.connections[generation] = "answered"
            case n.AddCandidate(generation, candidate):
                assert self.connections[generation] in ("answer", "answered") and candidate.candidate
            case n.Close(generation):
                del self.connections[generation]
            case n.SendOffer():
                assert self.negotiation._unanswered is not None
            case n.SendAnswer() | n.SendHangUp("declined") | n.SendHangUp("unknown-call"):
                self.replies += 1
                assert self.replies <= self.offers, "more answers than offers"
            case n.CallStarted():
                assert self.call == "over"
                self.call = "started"
            case n.CallConnected(generation):
                assert self.call in ("started", "connected") and self.connections[generation] == "answered"
                self.call = "connected"
            case n.CallEnded():
                assert self.call != "over"
                self.call = "over"

    # --- messages of the remote and of the relay ------------------------------------------------------------------

    @rule(
        text=TEXTS,
        allowed=st.sampled_from([True, True, True, False]),
        call=CALLS,
        round=ROUNDS,
        times=st.sampled_from([1, 1, 1, 2, 70]),
    )
    def offer(self, text: str, allowed: bool, call: str | None, round: int | None, times: int) -> None:
        for _ in range(times):
            self.offers += 1
            self.feed(n.OfferReceived(text, allowed, call, round))

    @rule(text=TEXTS, call=CALLS, round=ROUNDS)
    def answer(self, text: str, call: str | None, round: int | None) -> None:
        self.feed(n.AnswerReceived(text, call, round))

    @rule(
        fragment=FRAGMENTS,
        line=st.sampled_from(["candidate:1", "candidate:1 ufrag x1", ""]),
        times=st.sampled_from([1, 70]),
    )
    def candidate(self, fragment: str | None, line: str, times: int) -> None:
        for _ in range(times):
            self.feed(n.CandidateReceived(IceCandidate(line, "0", 0, fragment)))

    @rule(reason=REASONS, call=CALLS, round=ROUNDS)
    def remote_hangs_up(self, reason: str | None, call: str | None, round: int | None) -> None:
        self.feed(n.HangUpReceived(reason, "", call, round))

    @rule(event=st.sampled_from([n.PeerGone(), n.PeerBack(), n.PeerRestarted(), n.CandidateReceived(None)]))
    def relay(self, event: n.Event) -> None:
        self.feed(event)
        self.write_off()  # a peer that left needs no answer

    def write_off(self) -> None:
        """Count the offers that are no longer in line as answered."""
        line = self.negotiation._line
        self.replies = self.offers - len(line.offers) - (line.running is not None)

    # --- our own side ---------------------------------------------------------------------------------------------

    @rule(call=st.sampled_from([None, "ours"]))
    def dial(self, call: str | None) -> None:
        self.feed(n.Dial(10.0, call))

    @rule()
    def hang_up(self) -> None:
        self.feed(n.HangUp())

    @precondition(lambda self: "offer" in self.connections.values() or "answer" in self.connections.values())
    @rule(succeeds=st.sampled_from([True, True, True, False]))
    def description_created(self, succeeds: bool) -> None:
        for generation, state in list(self.connections.items()):
            if state not in ("offer", "answer"):
                continue
            if not succeeds:
                self.feed(n.DescriptionFailed(generation))
                continue
            self.connections[generation] = "offered" if state == "offer" else "answered"
            made = n.OfferCreated if state == "offer" else n.AnswerCreated
            self.feed(made(generation, sdp(f"a{generation}")))

    @rule(back=GENERATIONS)
    def late_connection_event(self, back: int) -> None:
        """An event of a connection that is closed or never existed."""
        generation = self.opened - back
        if generation not in self.connections:
            for event in (
                n.OfferCreated(generation, sdp("late")),
                n.AnswerCreated(generation, sdp("late")),
                n.DescriptionFailed(generation),
                n.TransportConnected(generation),
                n.TransportClosed(generation, "transport-failed"),
                n.MediaSilent(generation),
            ):
                assert self.negotiation.handle(event, self.now) == (), "an event of a closed generation is ignored"

    @precondition(lambda self: self.connections)
    @rule(
        back=GENERATIONS,
        make=st.sampled_from([n.TransportConnected, n.MediaSilent, n.MediaFlowing, n.TransportClosed]),
    )
    def transport(self, back: int, make: type[n.Event]) -> None:
        generation = sorted(self.connections)[-1 - back % len(self.connections)]
        if make is n.TransportClosed:
            self.feed(n.TransportClosed(generation, "remote-hang-up"))
        else:
            self.feed(make(generation))  # type: ignore[call-arg]

    @precondition(lambda self: self.connections)
    @rule(times=st.sampled_from([1, 70]))
    def own_candidate(self, times: int) -> None:
        for _ in range(times):
            self.feed(n.LocalCandidate(max(self.connections), IceCandidate("candidate:1", "0", 0, "own")))

    @rule(seconds=st.sampled_from([0.0, 1.0, 10.0, TIMEOUT, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(n.Tick())

    @rule()
    def memory_is_short(self) -> None:
        self.negotiation.drop_waiting()
        self.write_off()

    # --- invariants ---------------------------------------------------------------------------------------------

    @invariant()
    def queues_are_bounded(self) -> None:
        negotiation = self.negotiation
        assert (
            max(
                len(negotiation._remote_candidates), len(negotiation._local_candidates), len(negotiation._line.offers)
            )
            <= MAX_QUEUED
        )
        assert len(self.connections) <= 3

    @invariant()
    def unfinished_phases_have_a_deadline(self) -> None:
        negotiation = self.negotiation
        if negotiation.phase not in (Phase.IDLE, Phase.CONNECTED) or (
            negotiation.phase is Phase.IDLE and not negotiation.settled
        ):
            assert negotiation.deadline is not None and self.now < negotiation.deadline <= self.now + TIMEOUT
        assert (negotiation.phase is Phase.IDLE) is (self.call == "over")
        assert (negotiation.phase is Phase.CONNECTED) is (self.call == "connected")

    @invariant()
    def connected_call_has_a_connection_or_a_deadline(self) -> None:
        if self.negotiation.phase is Phase.CONNECTED:
            assert self.negotiation._current is not None or self.negotiation.deadline is not None

    @invariant()
    def settled_negotiation_has_no_connections(self) -> None:
        if self.negotiation.settled:
            assert not self.connections

    def teardown(self) -> None:
        """Without further messages every call ends at its deadline, unless it is connected."""
        for _ in range(MAX_QUEUED + 4):
            if self.negotiation.deadline is not None:
                self.now = max(self.now, self.negotiation.deadline)
                self.feed(n.Tick())
        assert self.negotiation.deadline is None and self.negotiation.phase in (Phase.IDLE, Phase.CONNECTED)
        self.feed(n.HangUp())
        assert not self.connections and self.negotiation.settled


Hostile.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestHostile = Hostile.TestCase
