"""Whom ``peer run --call`` calls, and when. PURE: time is an argument, events go in, ids to call come out.

What the owner of an unattended node expects:

- who is wanted and in the room is called at once, and again when a call was lost: after 1 s, 2 s, 4 s … up to 60 s,
  with jitter, so that two nodes that call each other do not keep step. A call that lasted 10 s starts the count anew;
- somebody hung up, here or there: that was meant. The peer is not called again until it has left and come back;
- it declined: it is asked again, once a minute;
- a call that we have already, also one that the other side began, is never disturbed;
- there is room for so many calls; who does not find any waits until one is over;
- who is in the room under a name that is no id (servers of before allow them) cannot be called, so is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..events import Reason
from ..signaling.messages import is_valid_id

FIRST: Final = 1.0
"""Seconds until the first call again."""

LONGEST: Final = 60.0

GOOD: Final = 10.0
"""Seconds a call must have lasted for the next failure to count as the first one."""

_MEANT: Final[frozenset[Reason]] = frozenset({"hang-up", "remote-hang-up", "shutdown"})


@dataclass
class _Wanted:
    due: float | None
    """When to call; ``None`` while there is a call, or until the peer comes back."""
    failures: int = 0


class Redial:
    """See the module. ``wanted`` are the ids to call, ``None`` is everybody; there can be ``room`` calls at once."""

    def __init__(self, wanted: Iterable[str] | None, room: int, rng: random.Random | None = None) -> None:
        self._room = room
        self._wanted = None if wanted is None else frozenset(wanted)
        self._here: dict[str, _Wanted] = {}
        self._busy: dict[str, float] = {}  # peer: when its call was connected, or inf before
        self._rng = rng or random.Random()

    @property
    def deadline(self) -> float | None:
        """When ``due`` will have something next; without room for a call that is only after one has ended."""
        if self._free <= 0:
            return None
        return min((peer.due for peer in self._here.values() if peer.due is not None), default=None)

    @property
    def _free(self) -> int:
        return self._room - len(self._busy)

    def here(self, peers: Iterable[str], now: float) -> None:
        """We joined, or joined again: exactly ``peers`` are in the room."""
        present = set(peers)
        for peer in set(self._here) - present:
            self.left(peer)
        for peer in present - set(self._here):
            self.joined(peer, now)

    def joined(self, peer: str, now: float) -> None:
        """``peer`` came in, perhaps again."""
        if is_valid_id(peer) if self._wanted is None else peer in self._wanted:
            self._here[peer] = _Wanted(None if peer in self._busy else now)

    def left(self, peer: str) -> None:
        """``peer`` went. A call that lives on without the room is not touched."""
        self._here.pop(peer, None)

    def began(self, peer: str) -> None:
        """There is a call with ``peer`` now, ours or theirs."""
        self._busy.setdefault(peer, float("inf"))
        if peer in self._here:
            self._here[peer].due = None

    def connected(self, peer: str, now: float) -> None:
        """The call with ``peer`` is connected."""
        self.began(peer)
        self._busy[peer] = now

    def ended(self, peer: str, reason: Reason, now: float) -> None:
        """The call with ``peer`` is over. One that was replaced goes on in another."""
        if reason == "replaced":
            return
        since = self._busy.pop(peer, float("inf"))
        state = self._here.get(peer)
        if state is None or reason in _MEANT:
            return
        if now - since >= GOOD:
            state.failures = 0
        wait = LONGEST if reason == "declined" else min(LONGEST, FIRST * 2.0**state.failures)
        state.failures = min(state.failures + 1, 16)
        state.due = now + wait * self._rng.uniform(0.75, 1.25)

    def due(self, now: float) -> list[str]:
        """The peers to call now, who waits longest first. Each is given once; its call says what comes next."""
        waiting = [
            (state.due, peer) for peer, state in self._here.items() if state.due is not None and state.due <= now
        ]
        ready = [peer for _, peer in sorted(waiting)[: max(0, self._free)]]
        for peer in ready:
            self.began(peer)
        return ready
