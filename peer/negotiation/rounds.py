"""Calls and rounds: which offers, answers and hang-ups belong to the current call (rule 0). Pure and immutable.

``call`` names a call, ``round`` numbers its offers. Legacy peers send neither, so every decision here also has a
result for a message without them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from .commands import SendAnswer, SendHangUp


@dataclass(frozen=True, slots=True)
class OfferId:
    """``call`` and ``round`` of an offer. The answer, or the hang-up in its place, carries the same."""

    call: str
    round: int

    @classmethod
    def of(cls, call: str | None, round: int | None) -> OfferId | None:
        """Return the id of an offer with these values. One without either of them counts as one without both."""
        return None if call is None or round is None else cls(call, round)


@dataclass(frozen=True, slots=True)
class Reply:
    """The last reply to an offer with an id, for a repetition of that offer."""

    id: OfferId
    command: SendAnswer | SendHangUp


class Relation(enum.Enum):
    """How an offer of the remote relates to the current call."""

    STARTS = "starts"
    """It starts a call: round 1, or no id."""
    CONTINUES = "continues"
    """It is a higher round of the current call."""
    REPEATED = "repeated"
    """It has been answered or declined: the same reply is sent again."""
    STALE = "stale"
    """It is being answered, or a newer round has voided it."""
    UNKNOWN = "unknown"
    """It continues a call that does not exist here."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The current call's id, and its highest round sent or received.

    ``call`` is ``None`` without a call, and for one that a legacy peer started. ``named``: whether the remote has
    sent ``call`` in this call. Only such a peer can be continued.
    """

    call: str | None = None
    round: int = 0
    named: bool = False
    reply: Reply | None = None

    def relate(self, offer: OfferId | None) -> Relation:
        """Return how an offer with this id relates to the current call."""
        if offer is None:
            return Relation.STARTS
        if self.reply is not None and offer == self.reply.id:
            return Relation.REPEATED
        if offer.call == self.call:
            return Relation.CONTINUES if offer.round > self.round else Relation.STALE
        return Relation.STARTS if offer.round == 1 else Relation.UNKNOWN

    def dialed(self, call: str | None) -> Rounds:
        """Our user starts ``call``; its first offer has round 1."""
        return replace(self, call=call, round=1, named=False)

    def started(self, offer: OfferId | None) -> Rounds:
        """The remote's ``offer`` starts a call, or takes the place of the one that is being set up."""
        if offer is None:
            return replace(self, call=None, round=0, named=False)
        return replace(self, call=offer.call, round=offer.round, named=True)

    def continued(self, offer: OfferId | None) -> Rounds:
        """The remote sent a further ``offer`` in the current call."""
        return self if offer is None else self.started(offer)

    def answered(self, call: str | None) -> Rounds:
        """The remote's answer to our offer arrived; ``call`` is what it echoed."""
        return replace(self, named=self.named or call is not None)

    def replied(self, offer: OfferId | None, command: SendAnswer | SendHangUp) -> Rounds:
        """``command`` was sent in reply to ``offer``."""
        if offer is None:
            return self
        reply = Reply(offer, command)
        return replace(self, reply=reply if offer.call == self.call else _over(reply))

    def ended(self) -> Rounds:
        """The call is over. A repetition of its offer no longer opens anything."""
        return Rounds(reply=None if self.reply is None else _over(self.reply))


def _over(reply: Reply) -> Reply:
    """Return the reply to send once the call is over."""
    if isinstance(reply.command, SendHangUp):
        return reply
    return Reply(reply.id, SendHangUp("unknown-call", "", reply.id.call, reply.id.round))


def wire_keys(offer: OfferId | None) -> tuple[str | None, int | None]:
    """Return ``call`` and ``round`` as they are sent."""
    return (None, None) if offer is None else (offer.call, offer.round)
