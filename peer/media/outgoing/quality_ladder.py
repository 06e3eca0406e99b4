"""Which of a few sizes of the same picture a viewer gets. PURE: time is an argument.

A source is coded once for all viewers of a rung, whatever their number, so a viewer whose network is slow cannot be
given a bitrate of its own; it is moved to a smaller picture, and the others keep theirs.

    0   the picture as it is                     goes down   when the network is full: the viewer's estimate (REMB)
    1   three quarters of its width and height               is below what we send, and packets are lost, or their
    2   a half                                               round trip has grown, or it stays below
    3   a third, at half the rate                goes up     when nothing was wrong for a while, and a probe was well

A receiver's estimate says when there is too little room; it cannot say how much more there would be, for it counts
what comes. So before going up the room is probed: the viewer is sent packets once more that it has, beside the
picture, from none up to the rate of the next rung. What fails then is the probe, and no picture stands still. The
next one is further away (5 s, 10 s, to 40 s), and so it is when the next rung itself turns out to be too much.

When hardly anything comes through, nothing says yet how much would: the estimate still falls. Then it is the last
rung at once, and from there up again.
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

_CHOKED: Final = 0.4
"""Estimate, as part of what we send, below which it has not come to rest: it counts what came within a second."""

_DOWN_AFTER: Final = 1.0
_PROVEN: Final = 10.0
"""Seconds: how long things must be wrong to go down; how long a move up must last to count."""

_UP_AFTER: Final = (5.0, 40.0)
_UP_UNPROBED: Final = (10.0, 160.0)
"""Seconds in which nothing is wrong before it goes up, at first and at most. Of who cannot be probed the picture
stands still for a moment when that fails."""

_UP_SOON: Final = 1.0
"""The same where the estimate says already that the next rung fits."""

_PROBE: Final = 3.0
_RAMP: Final = 2.0
"""Seconds that a probe takes, and those of them in which it grows: slowly, so that its end is seen as a queue that
grows, before packets are lost."""

_SHORT_AFTER: Final = 4.0
"""Seconds after which a low estimate alone is believed. A busy receiver's dips for a second or two."""

_RISING: Final = 1.05
"""Factor within that time by which an estimate is on its way up: it rises by 8 % a second (draft-ietf-rmcat-gcc 5.5),
so after a narrow line it is low for long."""

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
    """Where one viewer stands. ``rung`` counts from 0, the full picture; ``bitrates`` of the rungs in bit/s.

    ``can_probe``: whether ``probe`` is heeded; without it the next rung itself is the probe.
    """

    def __init__(self, bitrates: tuple[int, ...], now: float, *, can_probe: bool = True) -> None:
        self.bitrates = bitrates
        self.rung = 0
        self.choked = False
        """Whether the last step down was because hardly anything came through: what is under way is lost too."""
        self._can_probe = can_probe
        self._up_first, self._up_most = _UP_AFTER if can_probe else _UP_UNPROBED
        self._since = now
        self._full_since: float | None = None
        self._short: tuple[float, float] | None = None
        """Since when the estimate is too low and does not rise, and how low."""
        self._well_since = now
        self._up_after = self._up_first
        self._on_trial = False
        self._probing: tuple[float, float] | None = None
        """Since when, and the estimate then."""
        self._estimate: tuple[float, float] | None = None
        self._loss: tuple[float, float] | None = None
        self._rtt: tuple[float, float] | None = None
        self._least_rtt = float("inf")

    def estimate(self, bitrate: int, now: float) -> None:
        """The viewer's estimate of its downlink, in bit/s."""
        self._estimate = (now, bitrate)
        if self._probing is not None and bitrate < self._probing[1] * _FULL:
            self._fail(now)

    def report(self, loss: float, rtt: float | None, now: float) -> None:
        """The viewer's reception report: part of the packets lost since the last one, round trip in seconds."""
        self._loss = (now, loss)
        if rtt is not None:
            self._rtt = (now, rtt)
            self._least_rtt = min(self._least_rtt, rtt)

    def probe(self, now: float) -> int:
        """Bit/s that the viewer is to get beside the picture, for a moment."""
        if self._probing is None:
            return 0
        room = self.bitrates[self.rung - 1] - self.bitrates[self.rung]
        return round(room * min(1.0, (now - self._probing[0]) / _RAMP))

    def look(self, sent: int, now: float, missed: float = 0.0) -> int:
        """The rung from now on. ``sent``: bit/s of pictures that this viewer was sent since the last look;
        ``missed``: part of their packets that it asked for again, which is known sooner than what it reports."""
        if self.rung >= len(self.bitrates):  # the source has become smaller
            self._move(len(self.bitrates) - 1, now)
        estimate = self._believed(self._estimate, now)
        loss = self._believed(self._loss, now) or 0.0
        rtt = self._believed(self._rtt, now)
        late = rtt is not None and rtt - self._least_rtt > LATE
        short = estimate is not None and estimate < sent * _FULL
        lost = max(loss, missed)
        lasting = self._lasting(estimate if short else None, now)
        if (short and (lost > LOSS or late or lasting)) or loss > HEAVY_LOSS:
            self._well_since = now
            self._full_since = now if self._full_since is None else self._full_since
            choked = estimate is not None and estimate < sent * _CHOKED and lost > HEAVY_LOSS
            if self._probing is not None:
                self._fail(now)
            elif now - self._since >= _DOWN_AFTER and (choked or now - self._full_since >= _DOWN_AFTER):
                self._down(estimate if short else None, now, choked=choked)
            return self.rung
        self._full_since = None
        if short or lost > LOSS or late:
            self._well_since = now
            if self._probing is not None and (lost > LOSS or late):
                self._fail(now)
        if self._on_trial and now - self._since >= _PROVEN:
            self._on_trial, self._up_after = False, self._up_first
        self._climb(now)
        return self.rung

    def _climb(self, now: float) -> None:
        if self._probing is not None:
            if now - self._probing[0] >= _PROBE:
                self._move(self.rung - 1, now)
                self._on_trial = True
        elif self.rung > 0:
            estimate = self._believed(self._estimate, now) or 0.0
            fits = self._can_probe and estimate * _FULL >= self.bitrates[self.rung - 1]
            if now - self._well_since < (_UP_SOON if fits else self._up_after):
                return
            if self._can_probe:
                self._probing = (now, estimate)
            else:
                self._move(self.rung - 1, now)
                self._on_trial = True

    def _lasting(self, short: float | None, now: float) -> bool:
        """Whether the estimate has been too low for long; ``short`` is what it is, ``None`` while it is not."""
        if short is None:
            self._short = None
        elif self._short is None or short > self._short[1] * _RISING:
            self._short = (now, short)
        return self._short is not None and now - self._short[0] >= _SHORT_AFTER

    def _fail(self, now: float) -> None:
        """There is no room for the next rung."""
        self._probing, self._well_since = None, now
        self._up_after = min(self._up_after * 2, self._up_most)

    def _down(self, estimate: float | None, now: float, *, choked: bool) -> None:
        lowest = len(self.bitrates) - 1
        if self.rung >= lowest:
            return
        if self._on_trial:
            self._fail(now)
        rung = self.rung + 1
        while rung < lowest and (choked or (estimate is not None and self.bitrates[rung] * _FULL > estimate)):
            rung += 1
        self._move(rung, now)
        self.choked = choked

    def _move(self, rung: int, now: float) -> None:
        self.rung, self._since, self._well_since, self._full_since = rung, now, now, None
        self._on_trial, self._probing, self._short, self.choked = False, None, None, False

    @staticmethod
    def _believed(told: tuple[float, float] | None, now: float) -> float | None:
        return None if told is None or now - told[0] > _FRESH else told[1]
