"""Redial: which peers ``peer run --call`` calls, and when. Pure; the caller passes events and the time.

The rules, for an unattended node:

- A target (a peer that the node should call) is called as soon as it is in the room.
- After a lost or failed call it is called again: after 1 s, then 2 s, 4 s and so on up to 60 s. Jitter prevents two
  nodes that call each other from keeping step. A call of at least 10 s resets the delay.
- A hang-up by either side is deliberate: the peer is not called again until it has left the room and come back.
- A peer that declined is called again after about a minute.
- A peer that already has a call is not called, whichever side started it.
- At most ``max_calls`` calls exist at a time. Further targets wait until a call ends.
- Peers with an invalid id, which older servers allow, are never called.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..events import Reason
from ..signaling.messages import is_valid_id

FIRST_DELAY: Final = 1.0
"""Delay before the first retry, in seconds."""

MAX_DELAY: Final = 60.0
"""Maximum delay between retries, in seconds. Also the delay after a peer declined."""

STABLE_AFTER: Final = 10.0
"""Duration of a call, in seconds, after which the next failure counts as the first one."""

_MAX_EXPONENT: Final = 16
"""Maximum number of failures counted. The delay reaches ``MAX_DELAY`` after 6; more would only grow the number."""

_JITTER: Final = (0.75, 1.25)
"""Range of the random factor of a delay."""

_DELIBERATE: Final[frozenset[Reason]] = frozenset({"hang-up", "remote-hang-up", "shutdown"})
"""Reasons of a call's end after which the peer is not called again."""


@dataclass
class _Target:
    due: float | None
    """When to call; ``None`` during a call, or until the peer comes back."""
    failures: int = 0


class Redial:
    """The redial policy of one node.

    Args:
        targets: ids to call; ``None``: all peers.
        max_calls: maximum number of simultaneous calls, those of other peers included.
        rng: source of the jitter.
    """

    def __init__(self, targets: Iterable[str] | None, max_calls: int, rng: random.Random | None = None) -> None:
        self._max_calls = max_calls
        self._targets = None if targets is None else frozenset(targets)
        self._present: dict[str, _Target] = {}
        self._calls: dict[str, float] = {}  # by peer: when the call was connected; inf before that
        self._rng = rng or random.Random()

    @property
    def deadline(self) -> float | None:
        """When to call ``due`` next; ``None`` while no peer is due, or no further call is possible."""
        if self._free <= 0:
            return None
        return min((target.due for target in self._present.values() if target.due is not None), default=None)

    @property
    def _free(self) -> int:
        return self._max_calls - len(self._calls)

    def room_joined(self, peers: Iterable[str], now: float) -> None:
        """Process a join or rejoin of this node. ``peers``: all others in the room."""
        present = set(peers)
        for peer in set(self._present) - present:
            self.peer_left(peer)
        for peer in present - set(self._present):
            self.peer_joined(peer, now)

    def peer_joined(self, peer: str, now: float) -> None:
        """Process that ``peer`` has joined the room, possibly again."""
        if is_valid_id(peer) if self._targets is None else peer in self._targets:
            self._present[peer] = _Target(None if peer in self._calls else now)

    def peer_left(self, peer: str) -> None:
        """Process that ``peer`` has left the room. A call with it may continue."""
        self._present.pop(peer, None)

    def call_started(self, peer: str) -> None:
        """Process the start of a call with ``peer``, by either side."""
        self._calls.setdefault(peer, float("inf"))
        if peer in self._present:
            self._present[peer].due = None

    def call_connected(self, peer: str, now: float) -> None:
        """Process that the call with ``peer`` is connected."""
        self.call_started(peer)
        self._calls[peer] = now

    def call_ended(self, peer: str, reason: Reason, now: float) -> None:
        """Process the end of the call with ``peer``. If it was replaced, another one continues it."""
        if reason == "replaced":
            return
        connected_at = self._calls.pop(peer, float("inf"))
        target = self._present.get(peer)
        if target is None or reason in _DELIBERATE:
            return
        if now - connected_at >= STABLE_AFTER:
            target.failures = 0
        delay = MAX_DELAY if reason == "declined" else min(MAX_DELAY, FIRST_DELAY * 2.0**target.failures)
        target.failures = min(target.failures + 1, _MAX_EXPONENT)
        target.due = now + delay * self._rng.uniform(*_JITTER)

    def due(self, now: float) -> list[str]:
        """Return the peers to call now, longest due first, and count their calls as started."""
        due = [(target.due, peer) for peer, target in self._present.items() if target.due is not None]
        ready = [peer for at, peer in sorted(due) if at <= now][: max(0, self._free)]
        for peer in ready:
            self.call_started(peer)
        return ready
