"""Who is in the room, as the relay tells it.

PURE: no I/O, no clock. The relay's list after a reconnect is the truth; what differs from what we knew is told as
peers that came or went, so that nobody above sees more than one kind of news.
"""

from __future__ import annotations

from collections.abc import Iterable


class Directory:
    """The other peers, in the order they came."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._present: dict[str, None] = {}

    def __contains__(self, peer: str) -> bool:
        return peer in self._present

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(self._present)

    def replace(self, peers: Iterable[str]) -> tuple[list[str], list[str]]:
        """A fresh ``peer-list``: who came and who went since we last knew."""
        listed = {peer: None for peer in peers if peer != self._me}
        came = [peer for peer in listed if peer not in self._present]
        went = [peer for peer in self._present if peer not in listed]
        self._present = listed
        return came, went

    def joined(self, peer: str) -> bool:
        """Whether that is news."""
        if peer == self._me or peer in self._present:
            return False
        self._present[peer] = None
        return True

    def left(self, peer: str) -> bool:
        """Whether that is news."""
        if peer not in self._present:
            return False
        del self._present[peer]
        return True
