"""Generation of NACKs (RFC 4585 6.2.1): first request, retries, giving up. Pure: time is an argument.

A packet is requested as soon as a later one has arrived. It is requested again when the retransmission is overdue,
and given up when a key frame would arrive sooner. The RTT is measured from retransmissions, because a peer that only
receives has no other measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INITIAL_RTT: Final = 0.1
"""RTT assumed before the first retransmission, in seconds."""

RETRY_INTERVAL: Final = (0.02, 0.2)
"""Minimum and maximum time between two requests for a packet, in seconds. A busy sender needs the minimum to answer.
With an RTT above the maximum some requests are superfluous, which costs less than noticing a lost request late."""

GIVE_UP_AFTER: Final = (0.35, 0.6)
"""Minimum and maximum time until a packet is given up, in seconds: enough for three requests. After that, a key frame
ends the freeze sooner."""

MAX_COUNTED_SILENCE: Final = 0.25
"""At most this much of a silent period counts towards giving up on a packet, in seconds. During an outage a key frame
could not arrive either, and retransmissions arrive first when it ends."""

INACTIVE_AFTER: Final = 2.0
"""Seconds without a packet after which requests pause until the next one. Otherwise a sender that has
stopped, or continues with another SSRC, would receive requests until the call ends."""

MAX_MISSING: Final = 120
"""Maximum number of missing packets. Beyond it a key frame is quicker, and aiortc's senders keep only 128 packets."""

_MIN_DELAY: Final = 0.005
"""Minimum delay until the next check, in seconds. It limits the wake-ups to 200 per second."""

_MAX_MISSING_FOR_RTT: Final = 10
"""Number of missing packets below which retransmissions measure the RTT. With more, they queue behind each other at
the sender, which makes the RTT look longer."""


@dataclass(slots=True)
class _Missing:
    since: float
    requested_at: float
    active_since: float
    """As ``since``, in active time: see ``NackGenerator._active_time``."""


class NackGenerator:
    """The missing packets of one stream. Times are in seconds; numbers are extended sequence numbers."""

    def __init__(self) -> None:
        self.rtt = INITIAL_RTT
        """Smoothed RTT in seconds, measured from retransmissions."""
        self._next: int | None = None
        self._missing: dict[int, _Missing] = {}
        self._last_arrival: float | None = None
        self._active_until_last_arrival = 0.0

    @property
    def missing(self) -> int:
        """The number of missing packets."""
        return len(self._missing)

    @property
    def retry_interval(self) -> float:
        """Seconds between two requests for a packet."""
        shortest, longest = RETRY_INTERVAL
        return min(max(1.5 * self.rtt, shortest), longest)

    @property
    def give_up_after(self) -> float:
        """Seconds of active time until a packet is given up."""
        shortest, longest = GIVE_UP_AFTER
        return min(max(3 * self.retry_interval, shortest), longest)

    def add(self, number: int, now: float) -> list[int]:
        """Record the arrival of a packet. Return the missing numbers before it, to be requested at once."""
        self._active_until_last_arrival, self._last_arrival = self._active_time(now), now
        if self._next is None or number == self._next:
            self._next = number + 1
            return []
        if number < self._next:
            if (missing := self._missing.pop(number, None)) is not None:
                # After a retry it is unknown which request was answered. Measuring from the first one may give too
                # long an RTT, but follows one that grows.
                if len(self._missing) < _MAX_MISSING_FOR_RTT:
                    self.rtt += (now - missing.since - self.rtt) / 4
            return []
        gap = range(max(self._next, number - MAX_MISSING - 1), number)
        self._next = number + 1
        for one in gap:
            self._missing[one] = _Missing(now, now, self._active_until_last_arrival)
        return list(gap) if len(self._missing) <= MAX_MISSING else []

    def due(self, now: float) -> tuple[list[int], bool]:
        """Return the numbers to request again, and whether to give up the first missing packet."""
        if not self._missing:
            return [], False
        if len(self._missing) > MAX_MISSING or self._until_give_up(now) <= 0:
            return [], True
        retries = [n for n, missing in self._missing.items() if now - missing.requested_at >= self.retry_interval]
        for number in retries:
            self._missing[number].requested_at = now
        return retries, False

    def delay(self, now: float) -> float | None:
        """Return the seconds until ``due`` must be called, or ``None`` if no packet can be requested now."""
        if not self._missing or self._last_arrival is None or now - self._last_arrival > INACTIVE_AFTER:
            return None
        if len(self._missing) > MAX_MISSING:
            return 0.0
        until_retry = min(missing.requested_at for missing in self._missing.values()) + self.retry_interval - now
        return max(_MIN_DELAY, min(until_retry, self._until_give_up(now)))

    def discard_below(self, number: int) -> None:
        """Stop requesting packets below ``number``."""
        if self._missing:
            for one in [one for one in self._missing if one < number]:
                del self._missing[one]

    def _active_time(self, now: float) -> float:
        """Seconds since the first packet, with each silence counted up to ``MAX_COUNTED_SILENCE``."""
        if self._last_arrival is None:
            return self._active_until_last_arrival
        return self._active_until_last_arrival + min(now - self._last_arrival, MAX_COUNTED_SILENCE)

    def _until_give_up(self, now: float) -> float:
        first = next(iter(self._missing.values()))
        return first.active_since + self.give_up_after - self._active_time(now)
