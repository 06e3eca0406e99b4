"""Detection of a silent transport from its count of received datagrams. Pure: time is an argument."""

from __future__ import annotations

import enum
from typing import Final

SILENT_AFTER: Final = 2.5
"""Seconds without a datagram after which a transport that receives media is silent."""

LOST_AFTER: Final = 10.0
"""Seconds without a datagram after which such a transport is lost. ICE consent (RFC 7675) alone takes 30 s to
expire."""

IDLE_SILENT_AFTER: Final = 8.0
"""As ``SILENT_AFTER``, for a transport that receives no media: an RTCP report or consent check arrives every 5 s."""

IDLE_LOST_AFTER: Final = 20.0
"""As ``LOST_AFTER``, for a transport that receives no media."""


class Change(enum.Enum):
    """What an update found to have changed."""

    SILENT = enum.auto()
    FLOWING = enum.auto()
    """Datagrams arrive again after ``SILENT``."""
    LOST = enum.auto()


class SilenceDetector:
    """Comparison of the number of received datagrams with that of the last update. Times are in seconds."""

    def __init__(self, datagrams: int, now: float, *, receives_media: bool) -> None:
        self._receives_media = receives_media
        self._datagrams = datagrams
        self._received_at = now
        self._silent = False

    def set_receives_media(self, receives_media: bool, now: float) -> None:
        """Change the time-outs, because the remote holds or resumes the call. Resumed media has time to arrive."""
        if receives_media and not self._receives_media:
            self._received_at = now
        self._receives_media = receives_media

    def update(self, datagrams: int, now: float) -> Change | None:
        """Return what changed at ``now``, when ``datagrams`` had been received in total."""
        if datagrams != self._datagrams:
            self._datagrams, self._received_at = datagrams, now
            was_silent, self._silent = self._silent, False
            return Change.FLOWING if was_silent else None
        silence = now - self._received_at
        if silence >= (LOST_AFTER if self._receives_media else IDLE_LOST_AFTER):
            return Change.LOST
        if silence >= (SILENT_AFTER if self._receives_media else IDLE_SILENT_AFTER) and not self._silent:
            self._silent = True
            return Change.SILENT
        return None
