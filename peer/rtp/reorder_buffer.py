"""Packets of sound in order, each handed out at once; only what overtook another waits, and not for long. PURE.

A buffer against jitter belongs to whoever plays (``media.sound.mixer``): in front of a recorder, a level meter or
the lips of a picture it would only be latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .sequence import NEW_BEGINNING

PATIENCE: Final = 0.06
"""Seconds that packets wait for one they overtook: nothing is asked for again, so it is under way or lost."""

MOST: Final = 3
"""Packets that wait. More than that, and the missing one was lost."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One packet of sound. ``timestamp`` as it came, modulo 2**32."""

    data: bytes
    timestamp: int
    gap: bool
    """Whether packets before it were lost."""
    key: bool = True
    """Decoding can start at any."""


class Sounds:
    """Brings the packets of one stream into order. ``lost`` counts those that did not come in time."""

    def __init__(self) -> None:
        self.lost = 0
        self._next: int | None = None
        self._waiting: dict[int, tuple[Sound, float]] = {}

    def add(self, number: int, timestamp: int, data: bytes, now: float) -> list[Sound]:
        """A packet came at ``now`` seconds; ``number`` is its extended sequence number. What can be heard now."""
        if self._next is None:
            self._next = number
        if number < self._next or number in self._waiting:
            return []  # twice, or too late
        self._waiting[number] = (Sound(data, timestamp, False), now)
        done = self._advance()
        while self._waiting and (
            len(self._waiting) > MOST or now - min(since for _, since in self._waiting.values()) >= PATIENCE
        ):
            first = min(self._waiting)
            if first - self._next < NEW_BEGINNING:  # else nothing was sent that was lost
                self.lost += first - self._next
            self._next = first
            sound, since = self._waiting[self._next]
            self._waiting[self._next] = (Sound(sound.data, sound.timestamp, True), since)
            done += self._advance()
        return done

    def _advance(self) -> list[Sound]:
        assert self._next is not None
        done = []
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            if waiting[0].data:  # else: padding
                done.append(waiting[0])
        return done
