"""State of a negotiation, and the steps that several of its events share. Pure.

``state_machine.Negotiation`` adds what each event does. Here are the fields, the deadlines, the line of answers, and
the closing of connections.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..events import Reason
from . import commands as cmd
from .absence import Absence
from .answer_line import Answering, AnswerLine, Outcome, RemoteOffer
from .candidates import Candidates, belongs, size
from .commands import Command
from .description_identity import DescriptionIdentity, SecondOffer, classify
from .rounds import OfferId, Rounds, wire_keys


class Phase(enum.Enum):
    """Phase of the call; see ``state_machine``."""

    IDLE = "idle"
    WAITING = "waiting"
    OFFERING = "offering"
    OFFERED = "offered"
    ANSWERING = "answering"
    CONNECTING = "connecting"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class OwnOffer:
    """Our unanswered offer. Its ``generation`` is not the current one once the offer is abandoned."""

    generation: int
    id: OfferId | None
    deadline: float


@dataclass(frozen=True, slots=True)
class Link:
    """A connection of the call, with the identity of the remote description that is set; ``None`` before."""

    generation: int
    identity: DescriptionIdentity | None = None

    @property
    def ufrags(self) -> frozenset[str]:
        """The ufrags of the remote description; empty before it is set."""
        return frozenset() if self.identity is None else self.identity.ufrags


class NegotiationState:
    """Negotiation between this peer and one remote: its state.

    All fields hold immutable values, so ``copy.copy`` makes an independent copy.

    Args:
        me: this peer's id; the lower id wins glare.
        remote: the remote's id.
        timeout: maximum time to connect an incoming call, in seconds.
    """

    __slots__ = (
        "_absence",
        "_call_deadline",
        "_commands",
        "_current",
        "_described",
        "_generation",
        "_line",
        "_local_candidates",
        "_remote_candidates",
        "_replacement",
        "_replacement_deadline",
        "_rounds",
        "_timeout",
        "_unanswered",
        "me",
        "phase",
        "remote",
    )

    def __init__(self, me: str, remote: str, timeout: float = 15.0) -> None:
        assert me != remote, "a peer does not call itself"
        self.me = me
        self.remote = remote
        self.phase = Phase.IDLE
        self._timeout = timeout
        self._generation = 0
        self._call_deadline: float | None = None
        self._current: Link | None = None
        self._replacement: Link | None = None  # of the current connection (rule 0 e)
        self._replacement_deadline: float | None = None
        self._described: DescriptionIdentity | None = None  # the remote's last description, applied or in line
        self._unanswered: OwnOffer | None = None
        self._line = AnswerLine()
        self._rounds = Rounds()
        self._remote_candidates: Candidates = ()  # queued until the remote description arrives
        self._local_candidates: Candidates = ()  # queued until our description is sent
        self._absence = Absence()
        self._commands: tuple[Command, ...] = ()

    @property
    def deadline(self) -> float | None:
        """Time at which ``handle(Tick(), now)`` is due, on the clock of ``now``; ``None`` if there is no deadline."""
        deadlines = (
            self._call_deadline,
            self._replacement_deadline,
            self._unanswered.deadline if self._unanswered is not None else None,
            self._line.running.deadline if self._line.running is not None else None,
            self._absence.deadline(named=self._rounds.named),
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def waiting_bytes(self) -> int:
        """Size of the remote's queued offers and candidates, in bytes."""
        return self._line.waiting_bytes + sum(size(candidate) for candidate in self._remote_candidates)

    def drop_waiting(self) -> None:
        """Drop the remote's queued offers and candidates. A call that they belong to ends at its deadline."""
        self._line = AnswerLine(self._line.running)
        self._remote_candidates = ()

    @property
    def settled(self) -> bool:
        """Whether there is no call and no offer is unanswered on either side. This object may then be discarded."""
        return self.phase is Phase.IDLE and self._unanswered is None and self._line.running is None

    # --- steps that several events share ---

    def _emit(self, command: Command) -> None:
        self._commands += (command,)

    def _send_hang_up(self, reason: Reason, detail: str = "") -> None:
        self._emit(cmd.SendHangUp(reason, detail, self._rounds.call))

    def _reply(self, offer: RemoteOffer, command: cmd.SendAnswer | cmd.SendHangUp) -> None:
        self._emit(command)
        self._rounds = self._rounds.replied(offer.id, command)

    def _is_current(self, generation: int) -> bool:
        return self._current is not None and self._current.generation == generation

    def _is_link(self, generation: int) -> bool:
        replaced = self._replacement is not None and self._replacement.generation == generation
        return replaced or self._is_current(generation)

    def _second_offer(self, identity: DescriptionIdentity, *, continues: bool = False) -> SecondOffer:
        if self._described is None:
            return SecondOffer.REPLACEMENT
        return classify(self._described, identity, continues=continues)

    def _process_line(self, now: float) -> None:
        """Start what rule 4 has delayed: answering the next queued offer, then sending our own."""
        self._decline_next()
        if self._line.offers and self._line.running is None:
            self._answer_next(now)
        if self.phase is Phase.WAITING and self._unanswered is None and self._line.running is None:
            self._generation += 1
            self._current = Link(self._generation)
            self.phase = Phase.OFFERING
            self._emit(cmd.CreateOffer(self._generation))

    def _decline_next(self) -> None:
        """Decline the offers at the head of the line that are to be declined."""
        while self._line.running is None and self._line.offers[:1]:
            offer, *rest = self._line.offers
            if offer.outcome is not Outcome.DECLINED:
                return
            self._line = AnswerLine(None, tuple(rest))
            self._reply(offer, cmd.SendHangUp("declined", "", *wire_keys(offer.id)))

    def _answer_next(self, now: float) -> None:
        offer, *rest = self._line.offers
        if offer.is_second:
            link = self._replacement or self._current
            assert link is not None, "a second offer outlives its connection"
            generation = link.generation
            restart = offer.second is SecondOffer.ICE_RESTART
            self._emit(cmd.Renegotiate(generation, offer.sdp, restart))
        else:
            self._generation = generation = self._generation + 1
            self._emit(cmd.CreateAnswer(generation, offer.sdp))
        self._line = AnswerLine(Answering(generation, offer, now + self._timeout), tuple(rest))
        if offer.continues or (offer.is_second and self._replacement is not None):
            self._replacement = self._with_description(generation, offer.identity)
        elif offer.outcome is Outcome.ACCEPTED:
            self._current = self._with_description(generation, offer.identity)

    def _with_description(self, generation: int, identity: DescriptionIdentity) -> Link:
        """Accept candidates of a new remote description: add the queued ones that belong to it, drop the others."""
        for candidate in self._remote_candidates:
            if belongs(candidate, identity.ufrags):
                self._emit(cmd.AddCandidate(generation, candidate))
        self._remote_candidates = ()
        return Link(generation, identity)

    def _send_local_candidates(self) -> None:
        for candidate in self._local_candidates:
            self._emit(cmd.SendCandidate(candidate))
        self._local_candidates = ()

    def _abandon_answer(self, reason: Reason, detail: str = "") -> None:
        """Send a ``declined`` hang-up in place of the answer, because creating it failed or timed out."""
        running = self._line.running
        assert running is not None
        self._line = AnswerLine(None, self._line.offers)
        self._reply(running.offer, cmd.SendHangUp("declined", detail, *wire_keys(running.offer.id)))
        if running.offer.outcome is Outcome.ACCEPTED:
            self._end_call(reason, detail)
        else:
            self._emit(cmd.Close(running.generation))

    def _discard_line(self) -> None:
        """Drop what is in line: its sender is gone and expects no answer."""
        running, self._line = self._line.running, AnswerLine()
        self._remote_candidates = ()
        if running is not None and not self._is_link(running.generation):
            self._emit(cmd.Close(running.generation))

    # --- closing ---

    def _drop_second_offers(self) -> None:
        """Drop the offers of connections that are about to close; see ``AnswerLine.without_connection``."""
        running = self._line.running
        if running is not None and (running.offer.is_second or running.offer.continues):
            self._line = AnswerLine(None, self._line.offers)
            if running.offer.id is None:
                self._emit(cmd.SendHangUp("declined"))
        self._line = self._line.without_connection()

    def _close_current(self) -> None:
        """Close the connection that the replacement takes the place of, and drop its running answer."""
        assert self._current is not None
        if self._line.is_answering(self._current.generation):
            self._line = AnswerLine(None, self._line.offers)
        self._emit(cmd.Close(self._current.generation))
        self._current = None

    def _close_replacement(self) -> None:
        """Close the connection that was to continue the call, if there is one, and drop its running answer."""
        self._replacement_deadline = None
        if self._replacement is None:
            return
        if self._line.is_answering(self._replacement.generation):
            self._line = AnswerLine(None, self._line.offers)
            self._local_candidates = ()
        self._emit(cmd.Close(self._replacement.generation))
        self._replacement = None

    def _release_connections(self) -> None:
        """Close the call's connections. One that is being answered stays open until ``_answer_created`` closes it."""
        self._drop_second_offers()
        self._close_replacement()
        if self._current is not None and not self._line.is_answering(self._current.generation):
            self._emit(cmd.Close(self._current.generation))
        self._current = None
        self._described = None
        self._local_candidates = ()
        self._absence = Absence()

    def _end_call(self, reason: Reason, detail: str = "") -> None:
        self._release_connections()
        self.phase = Phase.IDLE
        self._call_deadline = None
        self._rounds = self._rounds.ended()
        self._emit(cmd.CallEnded(reason, detail))
