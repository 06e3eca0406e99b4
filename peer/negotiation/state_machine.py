"""State machine of the negotiation with one remote: offers, answers, glare, candidates, hang-ups and deadlines.

Pure. ``handle(event, now)`` takes one event and returns the commands to execute, in order. ``deadline`` is the time
at which the caller must pass in a ``Tick``. ``call_control.py`` executes the commands. Creating an offer or an answer
takes time; it ends with an event that carries the ``generation`` of its connection. Events of a closed generation are
ignored.

``server/web/negotiation.js`` is the same state machine for the browser page. The cases in
``tests/negotiation/cases.json`` test both, and ``tests/negotiation/test_model.py`` explores all interleavings of two
peers.

The rules (docs/protocol.md, "Rules for a peer"):

2. *Glare* means only this: an offer arrives while our own offer is unanswered. The offer of the lower id stands. The
   lower id ignores the other offer; the higher id closes its connection and answers.
3. Any other offer is accepted and replaces the existing connection, whatever the ids.
4. *Exactly-once answer*: every offer that did not lose the glare gets one answer, in order. This holds even if the
   user hangs up in the meantime (answer, then hang up), and even if a newer offer is queued. Therefore an answer
   always belongs to our oldest unanswered offer, and no new offer is sent until that one is answered, has timed out,
   or its peer has left. A ``hang-up`` with the reason ``declined`` takes the place of an answer. That reason has no
   other use.
5. Every phase except IDLE and CONNECTED has a deadline.
6. Candidates are queued until their description arrives. Candidates with another ``usernameFragment`` are dropped.
7. A connected peer that leaves the room has ``ABSENCE_TIMEOUT`` to return, as long as its media flows. If the media
   stops, the call ends at once.

Phases:

    IDLE        no call
    WAITING     the user has dialed; an older offer, ours or theirs, has to be answered first (rule 4)
    OFFERING    createOffer is running; nothing has been sent yet, so an offer that arrives now causes no glare
    OFFERED     our offer is sent and unanswered
    ANSWERING   the remote's offer is being answered, or is queued behind an older one
    CONNECTING  both descriptions are exchanged
    CONNECTED   media can flow

A ``hang-up`` refers only to messages that were sent before it, and messages between two peers keep their order. In
WAITING, OFFERING and OFFERED it can therefore only refer to an older call, and is ignored.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from ..events import Reason
from ..signaling.messages import IceCandidate
from .commands import (
    AddCandidate,
    ApplyAnswer,
    CallConnected,
    CallEnded,
    CallStarted,
    Close,
    Command,
    CreateAnswer,
    CreateOffer,
    SendAnswer,
    SendCandidate,
    SendHangUp,
    SendOffer,
)
from .events import (
    AnswerCreated,
    AnswerReceived,
    CandidateReceived,
    DescriptionFailed,
    Dial,
    Event,
    HangUp,
    HangUpReceived,
    LocalCandidate,
    MediaFlowing,
    MediaSilent,
    OfferCreated,
    OfferReceived,
    PeerBack,
    PeerGone,
    Tick,
    TransportClosed,
    TransportConnected,
)

MAX_QUEUED: Final = 64
"""Maximum number of queued candidates, and of queued offers. When full, the oldest candidate or the newest offer is
dropped. Limits the memory that a misbehaving remote can occupy."""

ITEM_OVERHEAD: Final = 256
"""Memory of a queued offer or candidate in addition to its text, in bytes."""

ABSENCE_TIMEOUT: Final = 20.0
"""Maximum absence of a connected peer from the room, in seconds, while its media flows. When the relay restarts, a
peer returns after at most 10 s of backoff (``backoff.BACKOFF_MAX``) plus the time to connect."""


class Phase(enum.Enum):
    """Phase of the call; see the head of this file."""

    IDLE = "idle"
    WAITING = "waiting"
    OFFERING = "offering"
    OFFERED = "offered"
    ANSWERING = "answering"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Outcome(enum.Enum):
    """What to do with an offer of the remote once its answer is created."""

    ACCEPTED = "accepted"
    """Send the answer; the call continues on this connection."""
    SUPERSEDED = "superseded"
    """Send the answer, because every offer gets one (rule 4), and close: a newer offer or a hang-up has arrived."""
    HUNG_UP = "hung-up"
    """Send the answer, then a hang-up: our user hung up in the meantime."""
    DECLINED = "declined"
    """Send a ``declined`` hang-up in place of an answer: the accept policy rejected the call."""


_FAILURES: Final[dict[str | None, Reason]] = {
    "transport-failed": "transport-failed",
    "timeout": "timeout",
    "no-answer": "timeout",
    "media-error": "transport-failed",
}
"""Maps the peer's failure reasons to ours, so that a failed call is not reported as a deliberate hang-up because the
peer detected the failure first."""

_DIALING: Final = frozenset({Phase.WAITING, Phase.OFFERING, Phase.OFFERED})
_UFRAG = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
_CANDIDATE_UFRAG = re.compile(r" ufrag (\S+)")


def _fragments(sdp: str) -> frozenset[str]:
    return frozenset(_UFRAG.findall(sdp))


def _fragment(candidate: IceCandidate) -> str | None:
    if candidate.username_fragment:
        return candidate.username_fragment
    match = _CANDIDATE_UFRAG.search(candidate.candidate)
    return match[1] if match else None


def _size(candidate: IceCandidate) -> int:
    """Return the memory that a queued candidate takes, in bytes."""
    texts = (candidate.candidate, candidate.sdp_mid, candidate.username_fragment)
    return ITEM_OVERHEAD + sum(len(text) for text in texts if text is not None)


class Negotiation:
    """Negotiation between this peer and one remote.

    All fields hold immutable values, so ``copy.copy`` makes an independent copy.

    Args:
        me: this peer's id; the lower id wins glare.
        remote: the remote's id.
        timeout: maximum time to connect an incoming call, in seconds.
    """

    __slots__ = (
        "_absence_deadline",
        "_answer_deadline",
        "_answering",
        "_call_deadline",
        "_commands",
        "_current",
        "_fragments",
        "_generation",
        "_local_candidates",
        "_offer_deadline",
        "_offers",
        "_outcome",
        "_remote_candidates",
        "_silent",
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
        self._current: int | None = None  # generation of the call's connection
        self._call_deadline: float | None = None
        self._unanswered: int | None = None  # generation of our unanswered offer; not _current once it is abandoned
        self._offer_deadline: float | None = None
        self._answering: int | None = None  # generation whose createAnswer is running
        self._answer_deadline: float | None = None
        self._outcome = Outcome.ACCEPTED  # of the offer that is being answered
        self._offers: tuple[tuple[str, Outcome], ...] = ()  # the remote's, queued behind that one
        self._fragments: frozenset[str] = frozenset()  # ufrags of the current remote description
        self._remote_candidates: tuple[IceCandidate, ...] = ()  # queued until the remote description arrives
        self._local_candidates: tuple[IceCandidate, ...] = ()  # queued until our description is sent
        self._absence_deadline: float | None = None  # set while the peer is out of the room (rule 7)
        self._silent = False
        self._commands: tuple[Command, ...] = ()

    @property
    def deadline(self) -> float | None:
        """Time at which ``handle(Tick(), now)`` is due, on the clock of ``now``; ``None`` if there is no deadline."""
        deadlines = (self._call_deadline, self._offer_deadline, self._answer_deadline, self._absence_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def waiting_bytes(self) -> int:
        """Size of the remote's queued offers and candidates, in bytes."""
        offers = sum(len(sdp) + ITEM_OVERHEAD for sdp, _ in self._offers)
        return offers + sum(_size(candidate) for candidate in self._remote_candidates)

    def drop_waiting(self) -> None:
        """Drop the remote's queued offers and candidates. A call that they belong to ends at its deadline."""
        self._offers = ()
        self._remote_candidates = ()

    @property
    def settled(self) -> bool:
        """Whether there is no call and no offer is unanswered on either side. This object may then be discarded."""
        return self.phase is Phase.IDLE and self._unanswered is None and self._answering is None

    def handle(self, event: Event, now: float) -> tuple[Command, ...]:
        """Process ``event`` and return the commands to execute, in order. ``now``: seconds on any monotonic clock."""
        self._commands = ()
        match event:
            case Dial(timeout):
                self._dial(now + timeout)
            case HangUp(reason):
                self._hang_up(reason)
            case OfferReceived(sdp, allowed):
                self._offer_received(sdp, allowed, now)
            case AnswerReceived(sdp):
                self._answer_received(sdp)
            case CandidateReceived(candidate):
                self._candidate_received(candidate)
            case HangUpReceived(reason, detail):
                self._hang_up_received(reason, detail)
            case OfferCreated(generation, sdp):
                self._offer_created(generation, sdp)
            case AnswerCreated(generation, sdp):
                self._answer_created(generation, sdp)
            case DescriptionFailed(generation, reason, detail):
                self._description_failed(generation, reason, detail)
            case LocalCandidate(generation, candidate):
                self._local_candidate(generation, candidate)
            case TransportConnected(generation):
                self._transport_connected(generation)
            case TransportClosed(generation, reason):
                self._transport_closed(generation, reason)
            case MediaSilent(generation):
                self._media_silent(generation)
            case MediaFlowing(generation):
                if generation == self._current:
                    self._silent = False
            case PeerGone():
                self._peer_gone(now)
            case PeerBack():
                self._absence_deadline = None
            case Tick():
                self._tick(now)
        self._process_queue(now)
        commands, self._commands = self._commands, ()
        return commands

    # --- events of the user ---

    def _dial(self, deadline: float) -> None:
        if self.phase is not Phase.IDLE:
            return
        self._emit(CallStarted(incoming=False))
        self.phase = Phase.WAITING  # _process_queue creates the offer once rule 4 permits it
        self._call_deadline = deadline

    def _hang_up(self, reason: Reason) -> None:
        if self.phase is Phase.IDLE:
            return
        if self.phase is Phase.ANSWERING:
            self._mark_accepted_offers(Outcome.HUNG_UP)  # rule 4: answer, then hang up
        elif self.phase not in (Phase.WAITING, Phase.OFFERING):  # in those two nothing has been sent
            self._emit(SendHangUp(reason))
        self._end_call(reason)

    # --- messages of the remote ---

    def _offer_received(self, sdp: str, allowed: bool, now: float) -> None:
        if self._unanswered is not None:  # rule 2: glare
            if self.me < self.remote:
                return  # our offer stands, even if it was abandoned: the remote drops its own and answers ours
            self._resolve_offer()  # the remote's offer stands; ours will never be answered
        if len(self._offers) >= MAX_QUEUED:
            return  # a flood: a conforming peer waits for the answer or for its deadline (rule 4)
        if not allowed and self.phase not in _DIALING:
            self._offers += (("", Outcome.DECLINED),)  # its text is not needed
            return
        if self.phase is Phase.CONNECTED:
            self._end_call("replaced")  # rule 3
        if self.phase is Phase.IDLE:
            self._emit(CallStarted(incoming=True))
            self._call_deadline = now + self._timeout
        self._mark_accepted_offers(Outcome.SUPERSEDED)  # by this newer offer
        self._release_connection()
        self.phase = Phase.ANSWERING
        self._offers += ((sdp, Outcome.ACCEPTED),)

    def _answer_received(self, sdp: str) -> None:
        if self._unanswered is None:
            return  # the answer to an offer that has timed out
        answered = self._unanswered
        self._resolve_offer()
        if answered != self._current:
            self._emit(SendHangUp("hang-up"))  # the offer was abandoned; repeat the hang-up, as the first may be lost
            return
        self.phase = Phase.CONNECTING
        self._emit(ApplyAnswer(answered, sdp))
        self._remote_description_set(sdp)

    def _candidate_received(self, candidate: IceCandidate | None) -> None:
        # End-of-candidates is ignored: a candidate that arrives after it would be lost, and rule 5 bounds the wait.
        if candidate is None or not candidate.candidate:
            return
        fragment = _fragment(candidate)
        if self._current is not None and self._fragments and (fragment is None or fragment in self._fragments):
            self._emit(AddCandidate(self._current, candidate))
        else:
            self._remote_candidates = (*self._remote_candidates, candidate)[-MAX_QUEUED:]

    def _hang_up_received(self, reason: str | None, detail: str) -> None:
        if reason == "declined" and self._unanswered is not None:
            declined = self._unanswered
            self._resolve_offer()
            if declined == self._current:
                self._end_call("declined", detail)
        elif self.phase is Phase.ANSWERING:
            self._mark_accepted_offers(Outcome.SUPERSEDED)
            self._end_call(_FAILURES.get(reason, "remote-hang-up"), detail)
        elif self.phase in (Phase.CONNECTING, Phase.CONNECTED):
            self._end_call(_FAILURES.get(reason, "remote-hang-up"), detail)
        # In the other phases it refers to an older call (see the head of this file).

    def _peer_gone(self, now: float) -> None:
        self._resolve_offer()
        self._offers = ()
        self._remote_candidates = ()
        if self._answering is not None:
            if self._answering != self._current:
                self._emit(Close(self._answering))
            self._resolve_answer()
        if self.phase is Phase.CONNECTED and not self._silent:
            self._absence_deadline = self._absence_deadline or now + ABSENCE_TIMEOUT  # rule 7
        elif self.phase is not Phase.IDLE:
            self._end_call("peer-left")

    # --- events of the connection ---

    def _offer_created(self, generation: int, sdp: str) -> None:
        if generation != self._current or self.phase is not Phase.OFFERING:
            return
        self.phase = Phase.OFFERED
        self._unanswered = generation
        self._offer_deadline = self._call_deadline
        self._emit(SendOffer(sdp))
        self._send_local_candidates()

    def _answer_created(self, generation: int, sdp: str) -> None:
        if generation != self._answering:
            return
        outcome = self._outcome
        self._resolve_answer()
        self._emit(SendAnswer(sdp))
        if outcome is Outcome.ACCEPTED:
            assert generation == self._current and self.phase is Phase.ANSWERING
            self.phase = Phase.CONNECTING
            self._send_local_candidates()
            return
        if outcome is Outcome.HUNG_UP:
            self._emit(SendHangUp("hang-up"))
        self._emit(Close(generation))

    def _description_failed(self, generation: int, reason: Reason, detail: str) -> None:
        if generation == self._answering:
            self._abandon_answer(reason, detail)
        elif generation == self._current:
            if self.phase is not Phase.OFFERING:
                self._emit(SendHangUp(reason, detail))
            self._end_call(reason, detail)

    def _local_candidate(self, generation: int, candidate: IceCandidate) -> None:
        if generation != self._current:
            return
        if self.phase in (Phase.OFFERING, Phase.ANSWERING):
            self._local_candidates = (*self._local_candidates, candidate)[-MAX_QUEUED:]
        else:
            self._emit(SendCandidate(candidate))

    def _transport_connected(self, generation: int) -> None:
        if generation == self._current and self.phase is Phase.CONNECTING:
            self.phase = Phase.CONNECTED
            self._call_deadline = None
            self._emit(CallConnected(generation))

    def _transport_closed(self, generation: int, reason: Reason) -> None:
        if generation == self._current and self.phase in (Phase.CONNECTING, Phase.CONNECTED):
            self._emit(SendHangUp(reason))
            self._end_call(reason)

    def _media_silent(self, generation: int) -> None:
        if generation == self._current and self.phase is Phase.CONNECTED:
            self._silent = True
            if self._absence_deadline is not None:
                self._end_call("peer-left")

    # --- deadlines ---

    def _tick(self, now: float) -> None:
        if self._answer_deadline is not None and now >= self._answer_deadline:
            self._abandon_answer("timeout")
        if self._offer_deadline is not None and now >= self._offer_deadline:
            timed_out = self._unanswered
            self._resolve_offer()
            if timed_out == self._current:
                self._emit(SendHangUp("no-answer"))
                self._end_call("no-answer")
        if self._absence_deadline is not None and now >= self._absence_deadline:
            self._end_call("peer-left")
        if self._call_deadline is not None and now >= self._call_deadline:
            self._hang_up("no-answer" if self.phase is Phase.WAITING else "timeout")

    # --- steps that several events share ---

    def _emit(self, command: Command) -> None:
        self._commands += (command,)

    def _process_queue(self, now: float) -> None:
        """Start what rule 4 has delayed: answering the next queued offer, then sending our own."""
        while self._offers and self._answering is None:
            (sdp, outcome), *rest = self._offers
            self._offers = tuple(rest)
            if outcome is Outcome.DECLINED:
                self._emit(SendHangUp("declined"))
                continue
            self._generation += 1
            self._answering = self._generation
            self._answer_deadline = now + self._timeout
            self._outcome = outcome
            self._emit(CreateAnswer(self._generation, sdp))
            if outcome is Outcome.ACCEPTED:
                self._current = self._generation
                self._remote_description_set(sdp)
        if self.phase is Phase.WAITING and self._unanswered is None and self._answering is None:
            self._generation += 1
            self._current = self._generation
            self.phase = Phase.OFFERING
            self._emit(CreateOffer(self._generation))

    def _remote_description_set(self, sdp: str) -> None:
        """Accept candidates of the new remote description: add the queued ones that belong to it, drop the others."""
        assert self._current is not None
        self._fragments = _fragments(sdp)
        for candidate in self._remote_candidates:
            fragment = _fragment(candidate)
            if fragment is None or fragment in self._fragments:
                self._emit(AddCandidate(self._current, candidate))
        self._remote_candidates = ()

    def _send_local_candidates(self) -> None:
        for candidate in self._local_candidates:
            self._emit(SendCandidate(candidate))
        self._local_candidates = ()

    def _mark_accepted_offers(self, outcome: Outcome) -> None:
        if self._answering is not None and self._outcome is Outcome.ACCEPTED:
            self._outcome = outcome
        self._offers = tuple((sdp, outcome if old is Outcome.ACCEPTED else old) for sdp, old in self._offers)

    def _resolve_offer(self) -> None:
        self._unanswered = None
        self._offer_deadline = None

    def _resolve_answer(self) -> None:
        self._answering = None
        self._answer_deadline = None

    def _abandon_answer(self, reason: Reason, detail: str = "") -> None:
        """Send a ``declined`` hang-up in place of the answer, because creating it failed or timed out."""
        generation, outcome = self._answering, self._outcome
        assert generation is not None
        self._resolve_answer()
        self._emit(SendHangUp("declined", detail))
        if outcome is Outcome.ACCEPTED:
            self._end_call(reason, detail)
        else:
            self._emit(Close(generation))

    def _release_connection(self) -> None:
        """Close the call's connection. One that is being answered stays open until ``_answer_created`` closes it."""
        if self._current is not None and self._current != self._answering:
            self._emit(Close(self._current))
        self._current = None
        self._fragments = frozenset()
        self._local_candidates = ()
        self._absence_deadline = None
        self._silent = False

    def _end_call(self, reason: Reason, detail: str = "") -> None:
        self._release_connection()
        self.phase = Phase.IDLE
        self._call_deadline = None
        self._emit(CallEnded(reason, detail))
