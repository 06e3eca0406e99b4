"""The remote's offers in line to be answered, one at a time and in order (rule 4). Pure and immutable."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from .candidates import ITEM_OVERHEAD
from .description_identity import DescriptionIdentity, SecondOffer
from .rounds import OfferId


class Outcome(enum.Enum):
    """What to do with an offer of the remote once its answer is created."""

    ACCEPTED = "accepted"
    """Send the answer; the call continues on this connection."""
    SUPERSEDED = "superseded"
    """Send the answer, because every offer gets one (rule 4), and close: a newer offer or a hang-up has arrived."""
    HUNG_UP = "hung-up"
    """Send the answer, then a hang-up: our user hung up in the meantime."""
    DECLINED = "declined"
    """Send a ``declined`` hang-up in place of an answer: the accept policy rejected the call, or the connection of a
    second offer is closed."""


@dataclass(frozen=True, slots=True)
class RemoteOffer:
    """An offer of the remote.

    ``second``: ``REPLACEMENT`` opens a connection; the others are applied to the existing one. ``continues``: the
    connection takes the place of the call's connection once it is connected (rule 0 e).
    """

    sdp: str
    identity: DescriptionIdentity
    id: OfferId | None = None
    outcome: Outcome = Outcome.ACCEPTED
    second: SecondOffer = SecondOffer.REPLACEMENT
    continues: bool = False

    @property
    def is_second(self) -> bool:
        """Whether it is applied to an existing connection."""
        return self.second is not SecondOffer.REPLACEMENT

    @property
    def opens_call(self) -> bool:
        """Whether it opens the first connection of a call that has been accepted."""
        return self.outcome is Outcome.ACCEPTED and not self.is_second and not self.continues


@dataclass(frozen=True, slots=True)
class Answering:
    """The offer that is being answered, on the connection ``generation``."""

    generation: int
    offer: RemoteOffer
    deadline: float


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """``running`` is being answered; ``offers`` wait behind it."""

    running: Answering | None = None
    offers: tuple[RemoteOffer, ...] = ()

    @property
    def continues(self) -> bool:
        """Whether an offer that continues the call is running or waiting."""
        running = () if self.running is None else (self.running.offer,)
        return any(offer.continues for offer in (*running, *self.offers))

    @property
    def waiting_bytes(self) -> int:
        """Size of the waiting offers, in bytes."""
        return sum(len(offer.sdp) + ITEM_OVERHEAD for offer in self.offers)

    def is_answering(self, generation: int | None) -> bool:
        """Whether the connection ``generation`` is being answered."""
        return self.running is not None and self.running.generation == generation

    def add(self, offer: RemoteOffer) -> AnswerLine:
        """Put ``offer`` at the end."""
        return replace(self, offers=(*self.offers, offer))

    def mark(self, outcome: Outcome) -> AnswerLine:
        """Give all offers that open the call another outcome."""
        running = self.running
        if running is not None and running.offer.opens_call:
            running = replace(running, offer=replace(running.offer, outcome=outcome))
        offers = (replace(offer, outcome=outcome) if offer.opens_call else offer for offer in self.offers)
        return AnswerLine(running, tuple(offers))

    def without_connection(self) -> AnswerLine:
        """Return the waiting offers that still get a reply once the call's connections are closed.

        A second offer without an id gets ``declined``. One with an id needs nothing: the hang-up, or the round that
        replaces its call, voids it (rule 0 d, h).
        """
        offers = (
            RemoteOffer("", offer.identity, offer.id, Outcome.DECLINED) if offer.is_second else offer
            for offer in self.offers
            if not offer.continues and (offer.id is None or not offer.is_second)
        )
        return replace(self, offers=tuple(offers))
