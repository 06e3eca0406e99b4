"""Absence of a connected peer from the room: how long its call continues (rule 7). Pure and immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

ABSENCE_TIMEOUT: Final = 20.0
"""Maximum absence of a peer that does not send ``call``, in seconds, while its media flows. When the relay restarts,
a peer returns after at most 10 s of backoff (``backoff.BACKOFF_MAX``) plus the time to connect."""

PATIENCE: Final = 30.0
"""Maximum time without media during the absence of a peer that sends ``call``, in seconds: the time after which ICE
consent expires (RFC 7675 5.1). While its media flows, its absence does not matter."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Since when a connected peer has been absent from the room, and since when its transport has been silent."""

    absent_since: float | None = None
    silent_since: float | None = None

    def deadline(self, *, named: bool) -> float | None:
        """Return when the call ends. ``named``: whether the peer has sent ``call`` in this call.

        A legacy peer whose media stops may have closed its page: its call ends at once.
        """
        if self.absent_since is None:
            return None
        if named:
            return None if self.silent_since is None else self.silent_since + PATIENCE
        return self.absent_since + ABSENCE_TIMEOUT if self.silent_since is None else self.absent_since

    def left(self, now: float) -> Absence:
        """The peer left the room, or is still absent."""
        return self if self.absent_since is not None else replace(self, absent_since=now)

    def returned(self) -> Absence:
        """The peer is in the room."""
        return replace(self, absent_since=None)

    def silent(self, now: float) -> Absence:
        """The transport has received nothing for a short time."""
        return self if self.silent_since is not None else replace(self, silent_since=now)

    def flowing(self) -> Absence:
        """The transport receives again."""
        return replace(self, silent_since=None)
