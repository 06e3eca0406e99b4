"""State machine of the negotiation with one remote: calls, offers, answers, glare, hang-ups and deadlines.

Pure. ``handle(event, now)`` takes one event and returns the commands to execute, in order. ``deadline`` is the time
at which the caller must pass in a ``Tick``. ``call_control.py`` executes the commands. Creating an offer or an answer
takes time; it ends with an event that carries the ``generation`` of its connection. Events of a closed generation are
ignored.

This module has what each event does. The state and the shared steps are in ``negotiation_state``, and decisions that
are made from values alone in:

- ``rounds``: to which call an offer belongs (rule 0).
- ``description_identity``: whether a second offer keeps its connection (rule 3).
- ``answer_line``: the remote's offers, answered one at a time and in order (rule 4).
- ``candidates``: those that wait for a description (rule 6).
- ``absence``: how long a call continues without its peer in the room (rule 7).

``server/web/negotiation.js`` is the same state machine for the browser page. The cases in
``tests/negotiation/cases.json`` test both, and ``tests/negotiation/test_model.py`` explores all interleavings of two
peers. The rules are those of docs/protocol.md, "Rules for a peer".

Phases:

    IDLE        no call
    WAITING     the user has dialed; an older offer, ours or theirs, has to be answered first (rule 4)
    OFFERING    createOffer is running; nothing has been sent yet, so an offer that arrives now causes no glare
    OFFERED     our offer is sent and unanswered
    ANSWERING   the remote's offer is being answered, or is queued behind an older one
    CONNECTING  both descriptions are exchanged
    CONNECTED   media can flow; a second offer is answered without leaving this phase

A ``hang-up`` without ``call`` refers only to messages that were sent before it, and messages between two peers keep
their order. In WAITING, OFFERING and OFFERED it can therefore only refer to an older call, and is ignored.
"""

from __future__ import annotations

from typing import Final

from ..events import Reason
from ..signaling.messages import IceCandidate
from . import commands as cmd
from . import events as ev
from .answer_line import AnswerLine, Outcome, RemoteOffer
from .candidates import MAX_QUEUED, belongs, queue
from .commands import Command
from .description_identity import SecondOffer, read_identity
from .events import Event
from .negotiation_state import NegotiationState, OwnOffer, Phase
from .rounds import OfferId, Relation, Rounds, wire_keys

_FAILURES: Final[dict[str | None, Reason]] = {
    "transport-failed": "transport-failed",
    "timeout": "timeout",
    "no-answer": "timeout",
    "media-error": "transport-failed",
}
"""Maps the peer's failure reasons to ours, so that a failed call is not reported as a deliberate hang-up because the
peer detected the failure first."""

_DIALING: Final = frozenset({Phase.WAITING, Phase.OFFERING, Phase.OFFERED})
_ESTABLISHED: Final = frozenset({Phase.CONNECTING, Phase.CONNECTED})


class Negotiation(NegotiationState):
    """Negotiation between this peer and one remote; see ``NegotiationState`` for the arguments."""

    __slots__ = ()

    def starts_call(self, offer: ev.OfferReceived) -> bool:
        """Whether ``offer`` would start a call that our user did not dial: the accept policy decides on it."""
        if self.phase in _DIALING or (self._unanswered is not None and self.me < self.remote):
            return False
        starts = self._rounds.relate(OfferId.of(offer.call, offer.round)) is Relation.STARTS
        return starts and self._second_offer(read_identity(offer.sdp)) is SecondOffer.REPLACEMENT

    def handle(self, event: Event, now: float) -> tuple[Command, ...]:
        """Process ``event`` and return the commands to execute, in order. ``now``: seconds on any monotonic clock."""
        self._commands = ()
        match event:
            case ev.Dial(timeout, call):
                self._dial(now + timeout, call)
            case ev.HangUp(reason):
                self._hang_up(reason)
            case ev.OfferReceived():
                self._offer_received(event, now)
            case ev.AnswerReceived():
                self._answer_received(event)
            case ev.CandidateReceived(candidate):
                self._candidate_received(candidate)
            case ev.HangUpReceived():
                self._hang_up_received(event)
            case ev.OfferCreated(generation, sdp):
                self._offer_created(generation, sdp)
            case ev.AnswerCreated(generation, sdp):
                self._answer_created(generation, sdp)
            case ev.DescriptionFailed(generation, reason, detail):
                self._description_failed(generation, reason, detail)
            case ev.LocalCandidate(generation, candidate):
                self._local_candidate(generation, candidate)
            case ev.TransportConnected(generation):
                self._transport_connected(generation)
            case ev.TransportClosed(generation, reason):
                self._transport_closed(generation, reason)
            case ev.MediaSilent(generation):
                if self._is_current(generation) and self.phase is Phase.CONNECTED:
                    self._absence = self._absence.silent(now)
            case ev.MediaFlowing(generation):
                if self._is_current(generation):
                    self._absence = self._absence.flowing()
            case ev.PeerGone():
                self._peer_gone(now)
            case ev.PeerBack():
                self._absence = self._absence.returned()
            case ev.PeerRestarted():
                self._peer_restarted()
            case ev.Tick():
                self._tick(now)
        self._end_if_absent(now)
        self._process_line(now)
        commands, self._commands = self._commands, ()
        return commands

    # --- events of the user ---

    def _dial(self, deadline: float, call: str | None) -> None:
        if self.phase is not Phase.IDLE:
            return
        self._emit(cmd.CallStarted(incoming=False))
        self.phase = Phase.WAITING  # _process_line creates the offer once rule 4 permits it
        self._call_deadline = deadline
        self._rounds = self._rounds.dialed(call)

    def _hang_up(self, reason: Reason) -> None:
        if self.phase is Phase.IDLE:
            return
        if self.phase is Phase.ANSWERING:
            self._line = self._line.mark(Outcome.HUNG_UP)  # rule 4: answer, then hang up
        elif self.phase not in (Phase.WAITING, Phase.OFFERING):  # in those two nothing has been sent
            self._drop_second_offers()
            self._decline_next()
            self._send_hang_up(reason)
        self._end_call(reason)

    # --- messages of the remote ---

    def _offer_received(self, event: ev.OfferReceived, now: float) -> None:
        offer_id = OfferId.of(event.call, event.round)
        relation = self._rounds.relate(offer_id)
        if relation is Relation.REPEATED:
            assert self._rounds.reply is not None
            self._emit(self._rounds.reply.command)
            return
        if self._unanswered is not None:  # rule 2: glare
            if self.me < self.remote:
                return  # our offer stands, even if it was abandoned: the remote drops its own and answers ours
            self._unanswered = None  # the remote's offer stands, whatever its id; ours will never be answered
            relation = Relation.STARTS
        elif relation is Relation.STALE:
            return
        elif relation is Relation.UNKNOWN:
            self._emit(cmd.SendHangUp("unknown-call", "", event.call, event.round))
            return
        if len(self._line.offers) >= MAX_QUEUED:
            return  # a flood: a conforming peer waits for the answer or for its deadline (rule 4)
        identity = read_identity(event.sdp)
        continues = relation is Relation.CONTINUES
        second = self._second_offer(identity, continues=continues)
        if second is not SecondOffer.REPLACEMENT or (continues and self.phase is Phase.CONNECTED):
            self._further_offer(RemoteOffer(event.sdp, identity, offer_id, second=second), now)
        elif not event.allowed and not continues and self.phase not in _DIALING:
            self._line = self._line.add(RemoteOffer("", identity, offer_id, Outcome.DECLINED))
        else:
            self._accept_offer(RemoteOffer(event.sdp, identity, offer_id), now)

    def _further_offer(self, offer: RemoteOffer, now: float) -> None:
        """Put in line an offer that leaves the call as it is for the user: on its connection, or on a new one."""
        if not offer.is_second:
            self._close_replacement()
            self._line = self._line.without_connection()  # rule 0 d: a newer round voids older ones
            offer = RemoteOffer(offer.sdp, offer.identity, offer.id, continues=True)
            self._replacement_deadline = now + self._timeout
        self._rounds = self._rounds.continued(offer.id)
        self._described = offer.identity
        self._line = self._line.add(offer)

    def _accept_offer(self, offer: RemoteOffer, now: float) -> None:
        """Put in line an offer that starts a call, or takes the place of the one that is being set up."""
        if self.phase is Phase.CONNECTED:
            self._end_call("replaced")  # rule 3
        if self.phase is Phase.IDLE:
            self._emit(cmd.CallStarted(incoming=True))
            self._call_deadline = now + self._timeout
        self._line = self._line.mark(Outcome.SUPERSEDED)  # by this newer offer
        self._release_connections()
        self.phase = Phase.ANSWERING
        self._rounds = self._rounds.started(offer.id)
        self._described = offer.identity
        self._line = self._line.add(offer)

    def _answer_received(self, event: ev.AnswerReceived) -> None:
        ours = self._unanswered
        if event.call is not None and (ours is None or (event.call, event.round) != wire_keys(ours.id)):
            if event.call != self._rounds.call:
                self._emit(cmd.SendHangUp("hang-up", "", event.call))  # its call is over, and the remote missed that
            return  # rule 0 a
        if ours is None:
            return  # the answer to an offer that has timed out
        self._unanswered = None
        if not self._is_current(ours.generation):  # the offer was abandoned; repeat the hang-up, as it may be lost
            self._emit(cmd.SendHangUp("hang-up", "", ours.id.call if ours.id is not None else None))
            return
        self.phase = Phase.CONNECTING
        self._rounds = self._rounds.answered(event.call)
        self._described = read_identity(event.sdp)
        self._emit(cmd.ApplyAnswer(ours.generation, event.sdp))
        self._current = self._with_description(ours.generation, self._described)

    def _candidate_received(self, candidate: IceCandidate | None) -> None:
        # End-of-candidates is ignored: a candidate that arrives after it would be lost, and rule 5 bounds the wait.
        if candidate is None or not candidate.candidate:
            return
        for link in (self._replacement, self._current):
            if link is not None and link.ufrags and belongs(candidate, link.ufrags):
                self._emit(cmd.AddCandidate(link.generation, candidate))
                return
        self._remote_candidates = queue(self._remote_candidates, candidate)

    def _hang_up_received(self, event: ev.HangUpReceived) -> None:
        reason: Reason = _FAILURES.get(event.reason, "remote-hang-up")
        ours = self._unanswered
        if ours is not None and self._resolves(event, ours):
            self._unanswered = None
            if self._is_current(ours.generation):
                self._end_call("declined" if event.reason == "declined" else reason, event.detail)
        elif event.call is not None and event.call != self._rounds.call:
            return  # rule 0 h: of another call
        elif self.phase is Phase.ANSWERING:
            self._line = self._line.mark(Outcome.SUPERSEDED)
            self._end_call(reason, event.detail)
        elif self.phase in _ESTABLISHED or (event.call is not None and self.phase is not Phase.IDLE):
            self._end_call(reason, event.detail)
        # In the other phases a hang-up without call refers to an older call (see the head of this file).

    def _resolves(self, event: ev.HangUpReceived, ours: OwnOffer) -> bool:
        """Whether the hang-up takes the place of the answer to our offer, or says that its call is over."""
        if event.call is None:
            return event.reason == "declined"
        return ours.id is not None and event.call == ours.id.call and event.round in (None, ours.id.round)

    # --- presence of the remote ---

    def _peer_gone(self, now: float) -> None:
        self._unanswered = None
        if self.phase is Phase.CONNECTED:
            self._absence = self._absence.left(now)  # rule 7; what is in line belongs to this call
            return
        self._discard_line()
        if self.phase is not Phase.IDLE:
            self._end_call("peer-left")

    def _peer_restarted(self) -> None:
        self._unanswered = None
        self._discard_line()
        if self.phase not in (Phase.IDLE, Phase.WAITING, Phase.OFFERING):  # in those two nothing has been sent
            self._end_call("peer-left")
        self._rounds = Rounds(self._rounds.call, self._rounds.round)

    def _end_if_absent(self, now: float) -> None:
        deadline = self._absence.deadline(named=self._rounds.named)
        if self.phase is Phase.CONNECTED and deadline is not None and now >= deadline:
            self._end_call("peer-left")

    # --- events of the connections ---

    def _offer_created(self, generation: int, sdp: str) -> None:
        if not self._is_current(generation) or self.phase is not Phase.OFFERING:
            return
        assert self._call_deadline is not None
        self.phase = Phase.OFFERED
        offer_id = OfferId.of(self._rounds.call, self._rounds.round)
        self._unanswered = OwnOffer(generation, offer_id, self._call_deadline)
        self._emit(cmd.SendOffer(sdp, *wire_keys(offer_id)))
        self._send_local_candidates()

    def _answer_created(self, generation: int, sdp: str) -> None:
        running = self._line.running
        if running is None or generation != running.generation:
            return
        offer = running.offer
        self._line = AnswerLine(None, self._line.offers)
        self._reply(offer, cmd.SendAnswer(sdp, *wire_keys(offer.id)))
        if offer.outcome is Outcome.ACCEPTED:
            if offer.opens_call:
                assert self._is_current(generation) and self.phase is Phase.ANSWERING
                self.phase = Phase.CONNECTING
            self._send_local_candidates()
            return
        if offer.outcome is Outcome.HUNG_UP:
            self._emit(cmd.SendHangUp("hang-up", "", offer.id.call if offer.id is not None else None))
        self._emit(cmd.Close(generation))

    def _description_failed(self, generation: int, reason: Reason, detail: str) -> None:
        if self._line.is_answering(generation):
            self._abandon_answer(reason, detail)
        elif self._is_current(generation):
            if self.phase is not Phase.OFFERING:
                self._send_hang_up(reason, detail)
            self._end_call(reason, detail)
        elif self._is_link(generation):
            self._replacement_failed(reason, detail)

    def _local_candidate(self, generation: int, candidate: IceCandidate) -> None:
        if not self._is_link(generation):
            return
        if self.phase is Phase.OFFERING or self._line.is_answering(generation):
            self._local_candidates = queue(self._local_candidates, candidate)
        else:
            self._emit(cmd.SendCandidate(candidate))

    def _transport_connected(self, generation: int) -> None:
        if self._is_current(generation) and self.phase is Phase.CONNECTING:
            self.phase = Phase.CONNECTED
            self._call_deadline = None
            self._emit(cmd.CallConnected(generation))
        elif self._replacement is not None and self._replacement.generation == generation:
            if self._current is not None:
                self._close_current()
            self._current, self._replacement, self._replacement_deadline = self._replacement, None, None
            self._absence = self._absence.flowing()
            self._emit(cmd.CallConnected(generation))

    def _transport_closed(self, generation: int, reason: Reason) -> None:
        if self._is_current(generation) and self.phase in _ESTABLISHED:
            if self._replacement is not None or self._line.continues:
                self._close_current()  # the call continues on the replacement
                return
            self._send_hang_up(reason)
            self._end_call(reason)
        elif self._is_link(generation) and not self._is_current(generation):
            self._replacement_failed(reason)

    def _replacement_failed(self, reason: Reason, detail: str = "") -> None:
        """Keep the call on its old connection, if that still exists, and drop the offers meant for the new one."""
        self._close_replacement()
        if self._current is None:
            self._send_hang_up(reason, detail)
            self._end_call(reason, detail)
            return
        self._line = self._line.without_connection()
        self._described = self._current.identity

    # --- deadlines ---

    def _tick(self, now: float) -> None:
        if self._line.running is not None and now >= self._line.running.deadline:
            self._abandon_answer("timeout")
        if self._unanswered is not None and now >= self._unanswered.deadline:
            timed_out, self._unanswered = self._unanswered.generation, None
            if self._is_current(timed_out):
                self._send_hang_up("no-answer")
                self._end_call("no-answer")
        if self._replacement_deadline is not None and now >= self._replacement_deadline:
            self._replacement_failed("timeout")
        if self._call_deadline is not None and now >= self._call_deadline:
            self._hang_up("no-answer" if self.phase is Phase.WAITING else "timeout")
