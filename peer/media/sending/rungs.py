"""Which of a few sizes of the same picture a viewer gets. PURE: time is an argument.

A source is coded once for all viewers of a rung, whatever their number, so a viewer whose network is slow cannot be
given a bitrate of its own; it is moved to a smaller picture, and the others keep theirs.

    0   the picture as it is                     goes down   when the network is full: the viewer's estimate (REMB)
    1   three quarters of its width and height               is below what we send, and packets are lost, or their
    2   a half                                               round trip has grown, or it stays below
    3   a third, at half the rate                goes up     when nothing was wrong for a while

A receiver's estimate says when there is too little room; it cannot say how much more there would be, for it counts
what comes. So going up is a trial: one that fails is undone, and the next one is further away (10 s, 20 s, to 160 s).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

BITS_PER_PIXEL: Final = 0.1
"""What a moving picture needs to look good, in VP8 or H.264 in real time."""

MIN_BITRATE: Final = 100_000
MAX_BITRATE: Final = 6_000_000
"""Bit/s of a rung that the user did not limit."""

_SCALES: Final = (Fraction(1), Fraction(3, 4), Fraction(1, 2), Fraction(1, 3))
_WORTH_IT: Final = 0.75
"""Bitrate of a rung, as part of that of the one above, from which it would save too little to be one."""

LOSS: Final = 0.02
"""Part of the packets lost, from which the network is full; radio loses less all the time (libwebrtc's figure)."""

HEAVY_LOSS: Final = 0.10
"""From which it is, whatever the estimate says, which some receivers do not send (libwebrtc's figure)."""

LATE: Final = 0.2
"""Seconds by which the round trip has grown when the queue before a slow link fills."""

_FULL: Final = 0.85
"""Estimate, as part of what we send, at which a receiver has seen its queue grow (draft-ietf-rmcat-gcc 5.5)."""

_DOWN_AFTER: Final = 1.0
_UP_AFTER: Final = 10.0
_UP_AFTER_MOST: Final = 160.0
_PROVEN: Final = 10.0
"""Seconds: how long things must be wrong to go down; be well to go up, at first and at most; for a trial to count."""

_SHORT_AFTER: Final = 4.0
"""Seconds after which a low estimate alone is believed. A busy receiver's dips for a second or two."""

_FRESH: Final = 3.0
"""Seconds that a report is believed."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One coding of a picture. Size in pixels, ``bitrate`` in bit/s."""

    width: int
    height: int
    fps: float
    """Pictures a second, about."""
    bitrate: int
    thinned: bool = False
    """Whether pictures that come faster are left out."""


def suitable_bitrate(width: int, height: int, fps: float) -> int:
    """Bit/s at which a moving picture of this size looks good."""
    return round(min(max(width * height * fps * BITS_PER_PIXEL, MIN_BITRATE), MAX_BITRATE))


def ladder(width: int, height: int, fps: float, max_bitrate: int | None = None) -> tuple[Rung, ...]:
    """The rungs for a picture, the full one first. ``max_bitrate``: bit/s that none may exceed."""
    rungs: list[Rung] = []
    for scale in _SCALES:
        thinned = scale == _SCALES[-1]
        rate = fps / 2 if thinned else fps
        size = (even(width * scale), even(height * scale))
        bitrate = min(suitable_bitrate(*size, rate), max_bitrate or MAX_BITRATE)
        if not rungs or bitrate <= rungs[-1].bitrate * _WORTH_IT:
            rungs.append(Rung(*size, rate, bitrate, thinned))
    return tuple(rungs)


def even(side: float | Fraction) -> int:
    """The even number of pixels at or below ``side``, at least 2: chroma has half of them."""
    return max(2, int(side) // 2 * 2)


class Chooser:
    """Where one viewer stands. ``rung`` counts from 0, the full picture; ``bitrates`` of the rungs in bit/s."""

    def __init__(self, bitrates: tuple[int, ...], now: float) -> None:
        self.bitrates = bitrates
        self.rung = 0
        self._since = now
        self._full_since: float | None = None
        self._short_since: float | None = None
        self._well_since = now
        self._up_after = _UP_AFTER
        self._on_trial = False
        self._estimate: tuple[float, int] | None = None
        self._loss: tuple[float, float] | None = None
        self._rtt: tuple[float, float] | None = None
        self._least_rtt = float("inf")

    def estimate(self, bitrate: int, now: float) -> None:
        """The viewer's estimate of its downlink, in bit/s."""
        self._estimate = (now, bitrate)

    def report(self, loss: float, rtt: float | None, now: float) -> None:
        """The viewer's reception report: part of the packets lost since the last one, round trip in seconds."""
        self._loss = (now, loss)
        if rtt is not None:
            self._rtt = (now, rtt)
            self._least_rtt = min(self._least_rtt, rtt)

    def look(self, sent: int, now: float) -> int:
        """The rung from now on. ``sent``: bit/s that this viewer was sent over the last second."""
        estimate = self._believed(self._estimate, now)
        loss = self._believed(self._loss, now) or 0.0
        rtt = self._believed(self._rtt, now)
        late = rtt is not None and rtt - self._least_rtt > LATE
        short = estimate is not None and estimate < sent * _FULL
        self._short_since = (now if self._short_since is None else self._short_since) if short else None
        lasting = self._short_since is not None and now - self._short_since >= _SHORT_AFTER
        if (short and (loss > LOSS or late or lasting)) or loss > HEAVY_LOSS:
            self._well_since = now
            self._full_since = now if self._full_since is None else self._full_since
            if now - max(self._full_since, self._since) >= _DOWN_AFTER:
                self._down(estimate if short else None, now)
        else:
            self._full_since = None
            if short or loss > LOSS:
                self._well_since = now
            if self._on_trial and now - self._since >= _PROVEN:
                self._on_trial, self._up_after = False, _UP_AFTER
            if self.rung > 0 and now - self._well_since >= self._up_after:
                self._move(self.rung - 1, now)
                self._on_trial = True
        return self.rung

    def _down(self, estimate: float | None, now: float) -> None:
        lowest = len(self.bitrates) - 1
        if self.rung >= lowest:
            return
        if self._on_trial:
            self._up_after = min(self._up_after * 2, _UP_AFTER_MOST)
        rung = self.rung + 1
        while estimate is not None and rung < lowest and self.bitrates[rung] * _FULL > estimate:
            rung += 1
        self._move(rung, now)

    def _move(self, rung: int, now: float) -> None:
        self.rung, self._since, self._well_since, self._full_since = rung, now, now, None
        self._on_trial = False

    @staticmethod
    def _believed(told: tuple[float, float] | None, now: float) -> float | None:
        return None if told is None or now - told[0] > _FRESH else told[1]
