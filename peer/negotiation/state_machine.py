"""The law of one call with one remote peer: offers, answers, glare, candidates, hang-ups, deadlines.

PURE: no await, no clock, no third-party import. ``handle(event, now)`` takes what happened and returns what to
do; ``deadline`` is when to come back with ``Tick``. The shell (``agent``) runs the commands, in order. Work that
takes time comes back as an event carrying the ``generation`` of the connection it belongs to, and a dead
generation changes nothing. ``server/web/negotiation.js`` is the same law for the page; both are held to
``tests/negotiation/cases.json``, and the tests enumerate every interleaving of two of them.

The rules (docs/protocol.md, "Rules for a peer"):

2. *Glare* is only the case in which an offer arrives while our own offer is unanswered: the lower id's offer
   stands. The lower side ignores the other offer; the higher side drops its connection and answers.
3. Any other offer is accepted and replaces the connection we had, whatever the ids.
4. *Exactly-once answer*: every offer gets one answer, in order, unless it lost the glare: even if the user hung
   up meanwhile (answer, then hang up), even if a newer offer waits. So an answer always belongs to our oldest
   unanswered offer, and no new offer goes out before that one is answered, timed out, or its peer left.
   What stands in the place of an answer is a ``hang-up`` with the reason ``declined``, and that reason is used
   for nothing else.
5. Every phase but idle and connected has a deadline.
6. Candidates wait for their description; those of another ``usernameFragment`` are dropped.
7. A peer that left while its media flows has a short grace to come back (``LEFT_GRACE``). Media that stops ends the
   call at once.

Phases:

    IDLE        no call
    WAITING     dialed; an older offer, ours or theirs, has to be answered first (rule 4)
    OFFERING    createOffer is running; nothing is on the wire yet, so an offer that arrives now is no glare
    OFFERED     our offer is on the wire and unanswered
    ANSWERING   their offer is being answered, or waits for an older one to be answered
    CONNECTING  both descriptions are exchanged
    CONNECTED   media can flow

A ``hang-up`` only ever speaks of what was sent before it, and frames between two peers keep their order. So
while we are WAITING, OFFERING or OFFERED it can only mean an older call, and is ignored.
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

MAX_WAITING: Final = 64
"""Candidates kept for a description that has not come; offers kept in line. The oldest candidates go first."""


LEFT_GRACE: Final = 20.0
"""Seconds that a peer whose media flows may be out of the room: it comes back after at most 10 s of backoff when the
relay restarts (``backoff.BACKOFF_MAX``), plus the time to connect."""


class Phase(enum.Enum):
    IDLE = "idle"
    WAITING = "waiting"
    OFFERING = "offering"
    OFFERED = "offered"
    ANSWERING = "answering"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Fate(enum.Enum):
    """What becomes of an offer once it is answered."""

    LIVE = "live"
    """The call goes on with it."""
    DROPPED = "dropped"
    """Answered, because every offer is; the other side has moved on."""
    HUNG_UP = "hung-up"
    """Answered, then hung up: our user hung up meanwhile."""
    DECLINED = "declined"
    """Not answered: the peer's policy says no."""


_FAULTS: Final[dict[str | None, Reason]] = {
    "transport-failed": "transport-failed",
    "timeout": "timeout",
    "no-answer": "timeout",
    "media-error": "transport-failed",
}
"""A hang-up that nobody meant is not told as one: who noticed first must not make the other think it was wanted."""

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


class Negotiation:
    """Everything between us (``me``) and one ``remote``. All fields hold immutable values: ``copy.copy`` forks it.

    ``timeout`` is how long an incoming call may take until it is connected, in seconds.
    """

    __slots__ = (
        "_answer_deadline",
        "_answering",
        "_call_deadline",
        "_current",
        "_early",
        "_fate",
        "_fragments",
        "_generation",
        "_held",
        "_left_deadline",
        "_offer_deadline",
        "_offers",
        "_out",
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
        self._current: int | None = None  # the connection of the call
        self._call_deadline: float | None = None
        self._unanswered: int | None = None  # our offer on the wire; not _current once it is abandoned
        self._offer_deadline: float | None = None
        self._answering: int | None = None  # the connection whose createAnswer is running
        self._answer_deadline: float | None = None
        self._fate = Fate.LIVE  # of the offer that is being answered
        self._offers: tuple[tuple[str, Fate], ...] = ()  # theirs, in line behind it
        self._fragments: frozenset[str] = frozenset()  # of the remote description in force
        self._early: tuple[IceCandidate, ...] = ()  # theirs, before their description
        self._held: tuple[IceCandidate, ...] = ()  # ours, before our description is sent
        self._left_deadline: float | None = None  # the peer left the room; by then it must be back
        self._silent = False
        self._out: tuple[Command, ...] = ()

    @property
    def deadline(self) -> float | None:
        """When ``handle(Tick(), now)`` is due, on the clock of ``now``; ``None`` while nothing is."""
        deadlines = (self._call_deadline, self._offer_deadline, self._answer_deadline, self._left_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def settled(self) -> bool:
        """Whether nothing is owed to or awaited from the other side: this object may be forgotten."""
        return self.phase is Phase.IDLE and self._unanswered is None and self._answering is None

    def handle(self, event: Event, now: float) -> tuple[Command, ...]:
        """What to do about ``event``, in order. ``now``: seconds on any monotonic clock."""
        self._out = ()
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
            case HangUpReceived(reason):
                self._hang_up_received(reason)
            case OfferCreated(generation, sdp):
                self._offer_created(generation, sdp)
            case AnswerCreated(generation, sdp):
                self._answer_created(generation, sdp)
            case DescriptionFailed(generation, reason):
                self._description_failed(generation, reason)
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
                self._left_deadline = None
            case Tick():
                self._tick(now)
        self._go_on(now)
        out, self._out = self._out, ()
        return out

    # --- the user ---

    def _dial(self, deadline: float) -> None:
        if self.phase is not Phase.IDLE:
            return
        self._do(CallStarted(incoming=False))
        self.phase = Phase.WAITING  # _go_on makes the offer when nothing stands in its way
        self._call_deadline = deadline

    def _hang_up(self, reason: Reason) -> None:
        if self.phase is Phase.IDLE:
            return
        if self.phase is Phase.ANSWERING:
            self._mark_live_offers(Fate.HUNG_UP)  # rule 4: answer, then hang up
        elif self.phase not in (Phase.WAITING, Phase.OFFERING):  # then the other side knows nothing of it
            self._do(SendHangUp(reason))
        self._end(reason)

    # --- the other side ---

    def _offer_received(self, sdp: str, allowed: bool, now: float) -> None:
        if self._unanswered is not None:  # rule 2: glare
            if self.me < self.remote:
                return  # ours stands, even abandoned: the other side drops its own and answers ours
            self._resolve_offer()  # theirs stands; ours will never be answered
        if len(self._offers) >= MAX_WAITING:
            return  # a flood; nobody with an honest deadline comes this far
        if not allowed and self.phase not in _DIALING:
            self._offers += ((sdp, Fate.DECLINED),)
            return
        if self.phase is Phase.CONNECTED:
            self._end("replaced")  # rule 3
        if self.phase is Phase.IDLE:
            self._do(CallStarted(incoming=True))
            self._call_deadline = now + self._timeout
        self._mark_live_offers(Fate.DROPPED)  # the newer one stands
        self._release()
        self.phase = Phase.ANSWERING
        self._offers += ((sdp, Fate.LIVE),)

    def _answer_received(self, sdp: str) -> None:
        if self._unanswered is None:
            return  # of an offer that timed out
        answered = self._unanswered
        self._resolve_offer()
        if answered != self._current:
            self._do(SendHangUp("hang-up"))  # of an offer that we gave up: said again, in case it was lost
            return
        self.phase = Phase.CONNECTING
        self._do(ApplyAnswer(answered, sdp))
        self._describe(sdp)

    def _candidate_received(self, candidate: IceCandidate | None) -> None:
        # The end of candidates is of no use: a late candidate would be lost after it, and rule 5 ends what fails.
        if candidate is None or not candidate.candidate:
            return
        fragment = _fragment(candidate)
        if self._current is not None and self._fragments and (fragment is None or fragment in self._fragments):
            self._do(AddCandidate(self._current, candidate))
        else:
            self._early = (*self._early, candidate)[-MAX_WAITING:]

    def _hang_up_received(self, reason: str | None) -> None:
        if reason == "declined" and self._unanswered is not None:
            declined = self._unanswered
            self._resolve_offer()
            if declined == self._current:
                self._end("declined")
        elif self.phase is Phase.ANSWERING:
            self._mark_live_offers(Fate.DROPPED)
            self._end(_FAULTS.get(reason, "remote-hang-up"))
        elif self.phase in (Phase.CONNECTING, Phase.CONNECTED):
            self._end(_FAULTS.get(reason, "remote-hang-up"))
        # else: it speaks of an older call (see the head of this file)

    def _peer_gone(self, now: float) -> None:
        self._resolve_offer()
        self._offers = ()
        self._early = ()
        if self._answering is not None:
            if self._answering != self._current:
                self._do(Close(self._answering))
            self._resolve_answer()
        if self.phase is Phase.CONNECTED and not self._silent:
            self._left_deadline = self._left_deadline or now + LEFT_GRACE  # rule 7
        elif self.phase is not Phase.IDLE:
            self._end("peer-left")

    # --- the engine ---

    def _offer_created(self, generation: int, sdp: str) -> None:
        if generation != self._current or self.phase is not Phase.OFFERING:
            return
        self.phase = Phase.OFFERED
        self._unanswered = generation
        self._offer_deadline = self._call_deadline
        self._do(SendOffer(sdp))
        self._send_held()

    def _answer_created(self, generation: int, sdp: str) -> None:
        if generation != self._answering:
            return
        fate = self._fate
        self._resolve_answer()
        self._do(SendAnswer(sdp))
        if fate is Fate.LIVE:
            assert generation == self._current and self.phase is Phase.ANSWERING
            self.phase = Phase.CONNECTING
            self._send_held()
            return
        if fate is Fate.HUNG_UP:
            self._do(SendHangUp("hang-up"))
        self._do(Close(generation))

    def _description_failed(self, generation: int, reason: Reason) -> None:
        if generation == self._answering:
            self._give_up_answer(reason)
        elif generation == self._current:
            if self.phase is not Phase.OFFERING:
                self._do(SendHangUp(reason))
            self._end(reason)

    def _local_candidate(self, generation: int, candidate: IceCandidate) -> None:
        if generation != self._current:
            return
        if self.phase in (Phase.OFFERING, Phase.ANSWERING):
            self._held = (*self._held, candidate)[-MAX_WAITING:]
        else:
            self._do(SendCandidate(candidate))

    def _transport_connected(self, generation: int) -> None:
        if generation == self._current and self.phase is Phase.CONNECTING:
            self.phase = Phase.CONNECTED
            self._call_deadline = None
            self._do(CallConnected(generation))

    def _transport_closed(self, generation: int, reason: Reason) -> None:
        if generation == self._current and self.phase in (Phase.CONNECTING, Phase.CONNECTED):
            self._do(SendHangUp(reason))
            self._end(reason)

    def _media_silent(self, generation: int) -> None:
        if generation == self._current and self.phase is Phase.CONNECTED:
            self._silent = True
            if self._left_deadline is not None:
                self._end("peer-left")

    # --- time ---

    def _tick(self, now: float) -> None:
        if self._answer_deadline is not None and now >= self._answer_deadline:
            self._give_up_answer("timeout")
        if self._offer_deadline is not None and now >= self._offer_deadline:
            timed_out = self._unanswered
            self._resolve_offer()
            if timed_out == self._current:
                self._do(SendHangUp("no-answer"))
                self._end("no-answer")
        if self._left_deadline is not None and now >= self._left_deadline:
            self._end("peer-left")
        if self._call_deadline is not None and now >= self._call_deadline:
            self._hang_up("no-answer" if self.phase is Phase.WAITING else "timeout")

    # --- the parts of the law ---

    def _do(self, command: Command) -> None:
        self._out += (command,)

    def _go_on(self, now: float) -> None:
        """Take up what rule 4 held back: the next offer in line, then our own."""
        while self._offers and self._answering is None:
            (sdp, fate), *rest = self._offers
            self._offers = tuple(rest)
            if fate is Fate.DECLINED:
                self._do(SendHangUp("declined"))
                continue
            self._generation += 1
            self._answering = self._generation
            self._answer_deadline = now + self._timeout
            self._fate = fate
            self._do(CreateAnswer(self._generation, sdp))
            if fate is Fate.LIVE:
                self._current = self._generation
                self._describe(sdp)
        if self.phase is Phase.WAITING and self._unanswered is None and self._answering is None:
            self._generation += 1
            self._current = self._generation
            self.phase = Phase.OFFERING
            self._do(CreateOffer(self._generation))

    def _describe(self, sdp: str) -> None:
        """A remote description is in force: its candidates need not wait any more, others' are dropped."""
        assert self._current is not None
        self._fragments = _fragments(sdp)
        for candidate in self._early:
            fragment = _fragment(candidate)
            if fragment is None or fragment in self._fragments:
                self._do(AddCandidate(self._current, candidate))
        self._early = ()

    def _send_held(self) -> None:
        for candidate in self._held:
            self._do(SendCandidate(candidate))
        self._held = ()

    def _mark_live_offers(self, fate: Fate) -> None:
        if self._answering is not None and self._fate is Fate.LIVE:
            self._fate = fate
        self._offers = tuple((sdp, fate if was is Fate.LIVE else was) for sdp, was in self._offers)

    def _resolve_offer(self) -> None:
        self._unanswered = None
        self._offer_deadline = None

    def _resolve_answer(self) -> None:
        self._answering = None
        self._answer_deadline = None

    def _give_up_answer(self, reason: Reason) -> None:
        """The engine cannot answer, or does not come back: a refusal goes out in the answer's place."""
        generation, fate = self._answering, self._fate
        assert generation is not None
        self._resolve_answer()
        self._do(SendHangUp("declined"))
        if fate is Fate.LIVE:
            self._end(reason)
        else:
            self._do(Close(generation))

    def _release(self) -> None:
        """Let go of the call's connection. One that is being answered closes itself when it is."""
        if self._current is not None and self._current != self._answering:
            self._do(Close(self._current))
        self._current = None
        self._fragments = frozenset()
        self._held = ()
        self._left_deadline = None
        self._silent = False

    def _end(self, reason: Reason) -> None:
        self._release()
        self.phase = Phase.IDLE
        self._call_deadline = None
        self._do(CallEnded(reason))
