"""Selection of the rung of the quality ladder that one viewer receives. Pure: time is an argument.

Each rung is encoded once for all its viewers. A viewer with a slow network therefore cannot get a bitrate of its own;
it is moved to a lower rung, and the other viewers keep theirs.

A viewer moves down when its network is full. That is the case when its bandwidth estimate (REMB) is below the bitrate
sent, and packets are lost, or the RTT has grown, or the estimate stays low.

A viewer moves up after a period without problems and a successful probe. The estimate shows when the bandwidth is too
low, but not how much more there would be, because it is limited by the bitrate received. So before a move up, the
available bandwidth is probed: packets are sent a second time along with the video, at a rate that grows from zero to
the difference to the next rung. If the network is full, the probe fails instead of the video. After a failed probe,
and after a rung that turned out to be too high, the next probe waits twice as long (5 s, 10 s, up to 40 s).

When almost nothing arrives, the estimate is still falling, so the available bandwidth is unknown. The viewer then
moves to the lowest rung at once, and up again from there.
"""

from __future__ import annotations

from collections import deque
from typing import Final

LOSS: Final = 0.02
"""Fraction of packets lost above which the network may be full. Radio links always lose some (libwebrtc's value)."""

HEAVY_LOSS: Final = 0.10
"""Fraction of packets lost above which the network is full, whatever the estimate (libwebrtc's value). Some receivers
send no estimate."""

RTT_INCREASE: Final = 0.2
"""Minimum growth of the RTT that indicates a queue in front of a slow link, in seconds."""

MIN_RTT_WINDOW: Final = 10
"""Time over which the minimum RTT is taken, in seconds, as in BBR (draft-ietf-ccwg-bbr, MinRTTFilterLen).
A move down takes at most 5 s and a probe 3 s, so the minimum is still that of an empty queue. A route that becomes
longer would otherwise look like a full queue for the rest of the call."""

_FULL: Final = 0.85
"""Estimate, as a fraction of the bitrate sent, below which the receiver has detected a growing queue
(draft-ietf-rmcat-gcc section 5.5)."""

_STALLED: Final = 0.4
"""Estimate, as a fraction of the bitrate sent, below which it is assumed to be still falling. It is a mean over the
last second."""

_DOWN_AFTER: Final = 1.0
"""Time for which the network must be full before a move down, in seconds; also the minimum time on a rung."""

_TRIAL_PERIOD: Final = 10.0
"""Time after which a move up counts as successful, in seconds."""

_UP_AFTER: Final = (5.0, 40.0)
"""Initial and maximum time without problems before a probe, in seconds."""

_UP_AFTER_WITHOUT_PROBES: Final = (10.0, 160.0)
"""As ``_UP_AFTER``, for a viewer that cannot be probed. Its video freezes briefly if a move up fails."""

_UP_SOON: Final = 1.0
"""Time without problems before a probe, in seconds, if the estimate already covers the next rung."""

_PROBE_DURATION: Final = 3.0
_PROBE_RAMP: Final = 2.0
"""Duration of a probe and of the part in which its rate grows, in seconds. It grows slowly, so that a full network
shows as a growing queue before packets are lost."""

_LOW_ESTIMATE_AFTER: Final = 4.0
"""Time after which a low estimate alone means that the network is full, in seconds. The estimate of a busy receiver
drops for a second or two."""

_RISING: Final = 1.05
"""Factor by which an estimate rises within ``_LOW_ESTIMATE_AFTER`` if it is recovering. Estimates rise by 8% per
second (draft-ietf-rmcat-gcc section 5.5), so they stay low for long after a slow link has improved."""

_MAX_REPORT_AGE: Final = 3.0
"""Time for which a report or an estimate is used, in seconds."""


class RungSelector:
    """Selection of one viewer's rung. ``bitrates`` are those of the rungs, best first, in bit/s.

    ``can_probe`` states whether ``probe_bitrate`` is honored. Without probes, the next rung itself is tried.
    """

    def __init__(self, bitrates: tuple[int, ...], now: float, *, can_probe: bool = True) -> None:
        self.bitrates = bitrates
        self.rung = 0
        """Index of the selected rung; 0 is the best."""
        self.stalled = False
        """Whether the last move down was made because almost nothing arrived. Packets in flight are lost, too."""
        self._can_probe = can_probe
        self._initial_up_after, self._max_up_after = _UP_AFTER if can_probe else _UP_AFTER_WITHOUT_PROBES
        self._moved_at = now
        self._full_since: float | None = None
        self._low_estimate: tuple[float, float] | None = None
        """Time since which the estimate is low without rising, and its value then."""
        self._well_since = now
        self._up_after = self._initial_up_after
        self._on_trial = False
        """Whether the last move was up and has not lasted for ``_TRIAL_PERIOD`` yet."""
        self._probe: tuple[float, float] | None = None
        """Start of the current probe, and the estimate then."""
        self._estimate: tuple[float, float] | None = None
        self._loss: tuple[float, float] | None = None
        self._rtt: tuple[float, float] | None = None
        """Time and value of the last estimate and reports."""
        self._min_rtts: deque[tuple[int, float]] = deque()
        """Minimum RTT of each second within ``MIN_RTT_WINDOW``. Their number does not depend on the reports."""

    def set_estimate(self, bitrate: int, now: float) -> None:
        """Set the viewer's estimate of its bandwidth (REMB), in bit/s."""
        self._estimate = (now, bitrate)
        if self._probe is not None and bitrate < self._probe[1] * _FULL:
            self._postpone_up(now)

    def add_report(self, loss: float, rtt: float | None, now: float) -> None:
        """Add a receiver report: the fraction of packets lost since the previous one, and the RTT in seconds.

        An RTT that is not positive is discarded: the viewer reports a wrong delay.
        """
        self._loss = (now, loss)
        if rtt is not None and rtt > 0:
            self._rtt = (now, rtt)
            second = int(now)
            if self._min_rtts and self._min_rtts[-1][0] == second:
                rtt = min(rtt, self._min_rtts.pop()[1])
            self._min_rtts.append((second, rtt))
            while self._min_rtts[0][0] <= second - MIN_RTT_WINDOW:
                self._min_rtts.popleft()

    def probe_bitrate(self, now: float) -> int:
        """Return the bitrate to send in addition to the video now, in bit/s."""
        if self._probe is None:
            return 0
        difference = self.bitrates[self.rung - 1] - self.bitrates[self.rung]
        return round(difference * min(1.0, (now - self._probe[0]) / _PROBE_RAMP))

    def select(self, sent: int, now: float, nack_ratio: float = 0.0) -> int:
        """Return the rung to send from now on.

        ``sent`` is the bitrate of the video sent since the previous call, in bit/s. ``nack_ratio`` is the fraction of
        its packets that the viewer has requested again. It is known earlier than the loss in receiver reports.
        """
        if self.rung >= len(self.bitrates):  # the source has become smaller, and has fewer rungs
            self._move(len(self.bitrates) - 1, now)
        estimate = self._recent(self._estimate, now)
        reported_loss = self._recent(self._loss, now) or 0.0
        rtt = self._recent(self._rtt, now)
        rtt_grown = rtt is not None and rtt - min(least for _, least in self._min_rtts) > RTT_INCREASE
        is_low = estimate is not None and estimate < sent * _FULL
        loss = max(reported_loss, nack_ratio)
        stays_low = self._stays_low(estimate if is_low else None, now)
        if (is_low and (loss > LOSS or rtt_grown or stays_low)) or reported_loss > HEAVY_LOSS:
            self._well_since = now
            self._full_since = now if self._full_since is None else self._full_since
            stalled = estimate is not None and estimate < sent * _STALLED and loss > HEAVY_LOSS
            if self._probe is not None:
                self._postpone_up(now)
            elif now - self._moved_at >= _DOWN_AFTER and (stalled or now - self._full_since >= _DOWN_AFTER):
                self._move_down(estimate if is_low else None, now, stalled=stalled)
            return self.rung
        self._full_since = None
        if is_low or loss > LOSS or rtt_grown:
            self._well_since = now
            if self._probe is not None and (loss > LOSS or rtt_grown):
                self._postpone_up(now)
        if self._on_trial and now - self._moved_at >= _TRIAL_PERIOD:
            self._on_trial, self._up_after = False, self._initial_up_after
        self._probe_or_move_up(now)
        return self.rung

    def _probe_or_move_up(self, now: float) -> None:
        if self._probe is not None:
            if now - self._probe[0] >= _PROBE_DURATION:
                self._move(self.rung - 1, now)
                self._on_trial = True
        elif self.rung > 0:
            estimate = self._recent(self._estimate, now) or 0.0
            fits = self._can_probe and estimate * _FULL >= self.bitrates[self.rung - 1]
            if now - self._well_since < (_UP_SOON if fits else self._up_after):
                return
            if self._can_probe:
                self._probe = (now, estimate)
            else:
                self._move(self.rung - 1, now)
                self._on_trial = True

    def _stays_low(self, estimate: float | None, now: float) -> bool:
        """Whether the estimate has been low without rising for long. ``estimate`` is ``None`` while it is not low."""
        if estimate is None:
            self._low_estimate = None
        elif self._low_estimate is None or estimate > self._low_estimate[1] * _RISING:
            self._low_estimate = (now, estimate)
        return self._low_estimate is not None and now - self._low_estimate[0] >= _LOW_ESTIMATE_AFTER

    def _postpone_up(self, now: float) -> None:
        """End the probe and wait twice as long before the next one: the next rung is too high."""
        self._probe, self._well_since = None, now
        self._up_after = min(self._up_after * 2, self._max_up_after)

    def _move_down(self, estimate: float | None, now: float, *, stalled: bool) -> None:
        lowest = len(self.bitrates) - 1
        if self.rung >= lowest:
            return
        if self._on_trial:
            self._postpone_up(now)
        rung = self.rung + 1
        while rung < lowest and (stalled or (estimate is not None and self.bitrates[rung] * _FULL > estimate)):
            rung += 1
        self._move(rung, now)
        self.stalled = stalled

    def _move(self, rung: int, now: float) -> None:
        self.rung, self._moved_at, self._well_since, self._full_since = rung, now, now, None
        self._on_trial, self._probe, self._low_estimate, self.stalled = False, None, None, False

    @staticmethod
    def _recent(reported: tuple[float, float] | None, now: float) -> float | None:
        """Return a reported value, or ``None`` if it is too old."""
        return None if reported is None or now - reported[0] > _MAX_REPORT_AGE else reported[1]
