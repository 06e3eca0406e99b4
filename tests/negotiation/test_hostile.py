"""A remote that keeps no rule, and a relay that repeats, drops and reorders: the law holds on our side, bounded.

Whatever comes:

- No exception; each connection is opened once and closed once, and nothing is done to one that is closed.
- At most one answer an offer, and never one while another is owed; what was declined is not answered.
- At most one offer of ours is unanswered.
- Every phase but idle and connected has a deadline; what is kept is bounded.
- A call is told as started, connected and ended in this order, once each.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peer import negotiation as n
from peer.negotiation.state_machine import MAX_QUEUED, Phase
from peer.signaling.messages import IceCandidate
from tests.negotiation.model import sdp

TIMEOUT = 15.0
FRAGMENTS = st.sampled_from(["x1", "x2", "", None])
REASONS = st.sampled_from(["hang-up", "declined", "no-answer", "timeout", "media-error", "nonsense", "", None])
TEXTS = st.sampled_from([sdp("x1"), sdp("x2"), sdp("x1") + sdp("x2"), "", "a=ice-ufrag:", "\0\ud800"])
GENERATIONS = st.integers(0, 6)
"""Of an event of the engine: counted back from the newest; most are of a connection that is gone."""


class Hostile(RuleBasedStateMachine):
    @initialize(me=st.sampled_from("ac"))
    def start(self, me: str) -> None:
        self.core = n.Negotiation(me, "b", TIMEOUT)
        self.now = 0.0
        self.opened = 0
        self.connections: dict[int, str] = {}  # open ones: offer, answer, answered
        self.offers = 0  # theirs that came
        self.replies = 0  # answers and refusals that went
        self.call = "over"

    def feed(self, event: n.Event) -> None:
        for command in self.core.handle(event, self.now):
            self.run(command)

    def run(self, command: n.Command) -> None:
        match command:
            case n.CreateOffer(generation) | n.CreateAnswer(generation):
                self.opened += 1
                assert generation == self.opened, "a generation is new"
                work = "offer" if isinstance(command, n.CreateOffer) else "answer"
                assert work not in self.connections.values(), "one at a time"
                self.connections[generation] = work
            case n.ApplyAnswer(generation):
                assert self.connections[generation] == "offered"
                self.connections[generation] = "answered"
            case n.AddCandidate(generation, candidate):
                assert self.connections[generation] in ("answer", "answered") and candidate.candidate
            case n.Close(generation):
                del self.connections[generation]
            case n.SendOffer():
                assert self.core._unanswered is not None
            case n.SendAnswer() | n.SendHangUp("declined"):
                self.replies += 1
                assert self.replies <= self.offers, "more answers than offers"
            case n.CallStarted():
                assert self.call == "over"
                self.call = "started"
            case n.CallConnected(generation):
                assert self.call == "started" and generation in self.connections
                self.call = "connected"
            case n.CallEnded():
                assert self.call != "over"
                self.call = "over"

    # --- the other side, and what the relay makes of it -----------------------------------------------------------

    @rule(text=TEXTS, allowed=st.sampled_from([True, True, True, False]), times=st.sampled_from([1, 1, 1, 2, 70]))
    def offer(self, text: str, allowed: bool, times: int) -> None:
        for _ in range(times):
            self.offers += 1
            self.feed(n.OfferReceived(text, allowed))

    @rule(text=TEXTS)
    def answer(self, text: str) -> None:
        self.feed(n.AnswerReceived(text))

    @rule(
        fragment=FRAGMENTS,
        line=st.sampled_from(["candidate:1", "candidate:1 ufrag x1", ""]),
        times=st.sampled_from([1, 70]),
    )
    def candidate(self, fragment: str | None, line: str, times: int) -> None:
        for _ in range(times):
            self.feed(n.CandidateReceived(IceCandidate(line, "0", 0, fragment)))

    @rule(reason=REASONS)
    def remote_hangs_up(self, reason: str | None) -> None:
        self.feed(n.HangUpReceived(reason))

    @rule(event=st.sampled_from([n.PeerGone(), n.PeerBack(), n.CandidateReceived(None)]))
    def relay(self, event: n.Event) -> None:
        if isinstance(event, n.PeerGone):
            self.replies = self.offers  # nothing is owed to who is gone
        self.feed(event)

    # --- our own side ---------------------------------------------------------------------------------------------

    @rule()
    def dial(self) -> None:
        self.feed(n.Dial(10.0))

    @rule()
    def hang_up(self) -> None:
        self.feed(n.HangUp())

    @precondition(lambda self: "offer" in self.connections.values() or "answer" in self.connections.values())
    @rule(succeeds=st.sampled_from([True, True, True, False]))
    def description_is_made(self, succeeds: bool) -> None:
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
    def late_event_of_the_engine(self, back: int) -> None:
        """Of a connection that is gone, or never was."""
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
                assert self.core.handle(event, self.now) == (), "a dead generation changes nothing"

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

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        core = self.core
        assert max(len(core._remote_candidates), len(core._local_candidates), len(core._offers)) <= MAX_QUEUED
        assert len(self.connections) <= 3

    @invariant()
    def everything_but_idle_and_connected_has_a_deadline(self) -> None:
        core = self.core
        if core.phase not in (Phase.IDLE, Phase.CONNECTED) or (core.phase is Phase.IDLE and not core.settled):
            assert core.deadline is not None and self.now < core.deadline <= self.now + max(
                TIMEOUT, n.state_machine.ABSENCE_TIMEOUT
            )
        assert (core.phase is Phase.IDLE) is (self.call == "over")
        assert (core.phase is Phase.CONNECTED) is (self.call == "connected")

    @invariant()
    def no_connection_is_left_behind(self) -> None:
        if self.core.settled:
            assert not self.connections

    def teardown(self) -> None:
        """Nobody says anything any more: it ends, all by itself, unless media flows."""
        for _ in range(MAX_QUEUED + 4):
            if self.core.deadline is not None:
                self.now = max(self.now, self.core.deadline)
                self.feed(n.Tick())
        assert self.core.deadline is None and self.core.phase in (Phase.IDLE, Phase.CONNECTED)
        self.feed(n.HangUp())
        assert not self.connections and self.core.settled


Hostile.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestHostile = Hostile.TestCase
