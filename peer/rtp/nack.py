"""When to ask for lost packets (RFC 4585 6.2.1), when again, and when to give them up. PURE: time is an argument.

A packet is asked for once it is overtaken; again when an answer should have come, which the answers themselves tell:
a receiver that sends nothing knows no other round trip. It is given up when a key frame is the quicker way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_RTT: Final = 0.1
"""Seconds that a round trip is taken for until one was seen."""

RETRY: Final = (0.02, 0.2)
"""Seconds, least and most, between two requests for a packet. A busy sender needs a moment; and where a round trip
takes longer, one request too many costs less than a lost one that is noticed late."""

PATIENCE: Final = (0.35, 0.6)
"""Seconds, least and most, after which a packet is given up, three requests in between. A frozen picture is worse
than a key frame."""

STILL: Final = 0.25
"""Seconds without any packet that count for patience; of a longer silence no more. Where nothing comes at all, a key
frame would not either, and the answers come first when it is over."""

QUIET: Final = 2.0
"""Seconds without any packet after which nothing is asked for until one comes: the sender has stopped, or goes on
under another SSRC, and would be asked as long as the call lasts."""

_LEAST_WAIT: Final = 0.005

MOST: Final = 120
"""Packets that may be missing. Beyond, a key frame is quicker, and aiortc's senders keep no more than 128."""

_FEW: Final = 10
"""Packets up to which their answers tell the round trip: those of many queue up behind each other."""


@dataclass(slots=True)
class _Loss:
    since: float
    asked: float
    noticed: float  # as ``since``, without silence


class Losses:
    """What is missing of one stream. ``rtt`` in seconds, from requests that were answered."""

    def __init__(self) -> None:
        self.rtt = FIRST_RTT
        self._next: int | None = None
        self._missing: dict[int, _Loss] = {}
        self._heard: float | None = None
        self._lively = 0.0  # seconds until then, without silence

    @property
    def missing(self) -> int:
        return len(self._missing)

    @property
    def retry(self) -> float:
        least, most = RETRY
        return min(max(1.5 * self.rtt, least), most)

    @property
    def patience(self) -> float:
        least, most = PATIENCE
        return min(max(3 * self.retry, least), most)

    def arrived(self, number: int, now: float) -> list[int]:
        """A packet came, by its extended number. What to ask for at once: what it overtook."""
        self._lively, self._heard = self._without_silence(now), now
        if self._next is None or number == self._next:
            self._next = number + 1
            return []
        if number < self._next:
            if (loss := self._missing.pop(number, None)) is not None:
                # Of a packet that was asked for again it is not clear which request was answered. Taken as the first
                # it may be too long, but a network whose round trip grows is noticed.
                if len(self._missing) < _FEW:
                    self.rtt += (now - loss.since - self.rtt) / 4
            return []
        lost = range(max(self._next, number - MOST - 1), number)
        self._next = number + 1
        for one in lost:
            self._missing[one] = _Loss(now, now, self._lively)
        return list(lost) if len(self._missing) <= MOST else []

    def due(self, now: float) -> tuple[list[int], bool]:
        """What to ask for again, and whether to give up what is missing first."""
        if not self._missing:
            return [], False
        if len(self._missing) > MOST or self._left(now) <= 0:
            return [], True
        again = [number for number, loss in self._missing.items() if now - loss.asked >= self.retry]
        for number in again:
            self._missing[number].asked = now
        return again, False

    def wait(self, now: float) -> float | None:
        """Seconds until ``due`` should be asked; ``None`` while nothing is missing, or nothing comes."""
        if not self._missing or self._heard is None or now - self._heard > QUIET:
            return None
        if len(self._missing) > MOST:
            return 0.0
        soonest = min(loss.asked for loss in self._missing.values()) + self.retry - now
        return max(_LEAST_WAIT, min(soonest, self._left(now)))

    def _without_silence(self, now: float) -> float:
        return self._lively + (0.0 if self._heard is None else min(now - self._heard, STILL))

    def _left(self, now: float) -> float:
        """Seconds of patience with what is missing first."""
        return next(iter(self._missing.values())).noticed + self.patience - self._without_silence(now)

    def forget(self, below: int) -> None:
        """What is missing below this number is not needed any more."""
        if self._missing:
            for number in [number for number in self._missing if number < below]:
                del self._missing[number]
