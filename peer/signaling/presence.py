"""Presence: the peers in the room, as reported by the relay, and which of them were restarted.

Pure. The relay's list after a reconnect replaces the previous state. Every report results in ``Changes``, so that
callers handle a reconnect like any other join or leave.

A peer is restarted if the relay reports another ``instance`` than before (docs/protocol.md, server rule 3). The
instance of a peer that has left is remembered, because its call may continue until it is back. A report without an
instance proves nothing: its relay, or the relay's before it, may be too old to have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_DEPARTED: Final = 1024
"""Maximum number of remembered peers that have left. Without the limit, a peer that joins under ever new ids would
fill the memory."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Effect of one report, in the order in which callers apply it."""

    left: Sequence[str] = ()
    restarted: Sequence[str] = ()
    """Peers whose earlier process is gone. All of them are in ``came``, and in ``left`` if they were present."""
    came: Sequence[str] = ()


class Presence:
    """The other peers in the room, in the order in which they joined."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._peers: dict[str, str | None] = {}  # id to instance
        self._departed: dict[str, str] = {}  # the same for peers that have left; the oldest first

    def __contains__(self, peer: str) -> bool:
        return peer in self._peers

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(self._peers)

    def replace(self, peers: Iterable[str], instances: Mapping[str, str]) -> Changes:
        """Replace all peers by those of a ``peer-list``."""
        listed = {peer: instances.get(peer) for peer in peers if peer != self._me}
        known = self._departed | self._peers
        left = [peer for peer in self._peers if peer not in listed or _differ(known[peer], listed[peer])]
        for peer in left:
            self._forget(peer)
        came = [peer for peer in listed if peer not in self._peers]
        restarted = [peer for peer in came if _differ(known.get(peer), listed[peer])]
        for peer in came:
            self._departed.pop(peer, None)
        self._peers = {peer: instance or known.get(peer) for peer, instance in listed.items()}
        return Changes(left, restarted, came)

    def add(self, peer: str, instance: str | None) -> Changes:
        """Add the peer of a ``peer-joined``; our own id is never added."""
        if peer == self._me:
            return Changes()
        known = self._peers.get(peer)
        if peer in self._peers and not _differ(known, instance):
            self._peers[peer] = instance or known
            return Changes()
        left = self.remove(peer).left
        known = self._departed.pop(peer, None)
        self._peers[peer] = instance or known
        return Changes(left, (peer,) if _differ(known, instance) else (), (peer,))

    def remove(self, peer: str) -> Changes:
        """Remove the peer of a ``peer-left``."""
        if peer not in self._peers:
            return Changes()
        self._forget(peer)
        return Changes(left=(peer,))

    def _forget(self, peer: str) -> None:
        instance = self._peers.pop(peer)
        if instance is not None:
            self._departed[peer] = instance
            if len(self._departed) > MAX_DEPARTED:
                del self._departed[next(iter(self._departed))]


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
