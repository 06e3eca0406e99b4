"""Presence: the peers in the room, as reported by the relay.

Pure. The relay's list after a reconnect replaces the previous state. The differences are returned as peers that came
and peers that left, so that callers handle a reconnect like any other join or leave.
"""

from __future__ import annotations

from collections.abc import Iterable


class Presence:
    """The other peers in the room, in the order in which they joined."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._peers: dict[str, None] = {}

    def __contains__(self, peer: str) -> bool:
        return peer in self._peers

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(self._peers)

    def replace(self, peers: Iterable[str]) -> tuple[list[str], list[str]]:
        """Replace all peers by those of a ``peer-list``. Returns the peers that came and the peers that left."""
        listed = {peer: None for peer in peers if peer != self._me}
        came = [peer for peer in listed if peer not in self._peers]
        left = [peer for peer in self._peers if peer not in listed]
        self._peers = listed
        return came, left

    def add(self, peer: str) -> bool:
        """Add ``peer``. Returns whether it was absent; our own id is never added."""
        if peer == self._me or peer in self._peers:
            return False
        self._peers[peer] = None
        return True

    def remove(self, peer: str) -> bool:
        """Remove ``peer``. Returns whether it was present."""
        if peer not in self._peers:
            return False
        del self._peers[peer]
        return True
