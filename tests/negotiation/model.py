"""Model checker: explores every interleaving of two negotiations and the wire between them.

A ``World`` is one state of the model, and ``steps()`` yields every state that can follow it. There is no clock: a
pending deadline may expire at any step, so all timings are covered. Messages in one direction keep their order, as
the relay guarantees. The WebRTC stack is modeled by what it guarantees: createOffer and createAnswer finish later or
never, a connection is up once each side has the other's description, and a side detects at some point that the other
has closed its connection.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from peer import negotiation as n
from peer.signaling.messages import IceCandidate

_NAME = re.compile(r"([ab])\d+")

Message = tuple[Any, ...]


def sdp(name: str) -> str:
    return f"v=0\r\na=ice-ufrag:{name}\r\n"


def ufrag(text: str) -> str:
    return text.split("a=ice-ufrag:")[1].strip()


@dataclass(frozen=True, slots=True)
class Connection:
    """RTCPeerConnection of one side. ``name`` is its ufrag (side and generation), ``remote`` that of the other
    end."""

    name: str
    remote: str | None = None
    up: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """Maximum number of each kind of step in one exploration."""

    dials: int = 3
    hang_ups: int = 2
    losses: int = 0
    """Messages lost on the wire."""
    leaves: int = 0
    """Reports of the relay that the other side left, or left and returned."""
    failures: int = 0
    """createOffer and createAnswer calls that fail."""
    refusals: int = 0
    """Offers that a side's accept policy declines."""
    candidates: int = 0
    """Candidates that connections gather."""
    deadlines: int = 0
    """Deadlines that expire while another step is possible. When no other step is, every deadline may expire. With
    -1, a deadline that is pending then is an error."""


class Side:
    """A negotiation and its modeled connections. ``LegacyPage`` replaces the negotiation."""

    __slots__ = ("_key", "connections", "lossless", "me", "negotiation", "pending")

    def __init__(self, me: str, negotiation: Any, *, lossless: bool = False) -> None:
        self.me = me
        self.lossless = lossless
        self.negotiation = negotiation
        self.connections: tuple[Connection, ...] = ()
        self.pending: tuple[Message, ...] = ()  # createOffer and createAnswer calls that are running
        self._key: str | None = None

    def fork(self) -> Side:
        side = copy.copy(self)
        side.negotiation = copy.copy(self.negotiation)
        side._key = None
        return side

    def key(self) -> str:
        """All state that determines the next steps, except the number of generations."""
        if self._key is None:
            self._key = self._describe()
        return self._key

    @property
    def made(self) -> int:
        """Number of generations so far; it names the next one."""
        made: int = self.negotiation._generation
        return made

    def _describe(self) -> str:
        negotiation = self.negotiation
        parts = []
        for slot in negotiation.__slots__:
            value = getattr(negotiation, slot)
            if slot in ("_current", "_unanswered", "_answering"):
                parts.append(f"{self.me}{value}" if value else "-")
            elif slot == "phase":
                parts.append(value.value)
            elif slot == "_outcome":
                parts.append(value.value if negotiation._answering else "-")
            elif slot == "_offers":
                parts.append(",".join(ufrag(text) + outcome.value for text, outcome in value))
            elif slot in ("_fragments", "_remote_candidates", "_local_candidates"):
                parts.append(",".join(sorted(map(str, value))) if value else "-")
            elif slot.endswith("_deadline"):
                parts.append("T" if value is not None else "-")
            elif slot == "_silent":
                parts.append("y" if value else "n")
        connections = ",".join(f"{c.name}>{c.remote}{c.up:d}" for c in self.connections)
        pending = ",".join(f"{kind}{self.me}{generation}" for kind, generation in self.pending)
        return f"{' '.join(parts)};{connections};{pending}"

    # --- steps ---

    def dial(self) -> list[Message]:
        return self.feed(n.Dial(10.0))

    def hang_up(self) -> list[Message]:
        return self.feed(n.HangUp())

    def can_dial(self) -> bool:
        return self.negotiation.phase is n.Phase.IDLE

    def in_call(self) -> bool:
        return self.negotiation.phase is not n.Phase.IDLE

    def receive(self, message: Message) -> list[Message]:
        match message:
            case ("offer", text):
                return self.feed(n.OfferReceived(text))
            case ("answer", text):
                assert not self.lossless or self.negotiation._unanswered is not None, "an answer to no offer"
                return self.feed(n.AnswerReceived(text))
            case ("candidate", candidate):
                return self.feed(n.CandidateReceived(candidate))
            case ("hang-up", reason):
                return self.feed(n.HangUpReceived(reason))
        raise AssertionError(message)

    def complete(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        kind, generation = work
        if not any(c.name == f"{self.me}{generation}" for c in self.connections):
            return []  # closed in the meantime, so the call was cancelled
        event = n.OfferCreated if kind == "offer" else n.AnswerCreated
        return self.feed(event(generation, sdp(f"{self.me}{generation}")))

    def refuse(self, offer: Message) -> list[Message]:
        return self.feed(n.OfferReceived(offer[1], allowed=False))

    def fail(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        return self.feed(n.DescriptionFailed(work[1]))

    def trickle(self, connection: Connection) -> list[Message]:
        return self.feed(n.LocalCandidate(int(connection.name[1:]), candidate(connection.name)))

    def tick(self) -> list[Message]:
        return self.feed(n.Tick(), now=self.negotiation.deadline)

    def connection_up(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=True))
        return self.feed(n.TransportConnected(int(connection.name[1:])))

    def connection_down(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=False, remote=None))
        return self.feed(n.TransportClosed(int(connection.name[1:]), "remote-hang-up"))

    def peer_gone(self) -> list[Message]:
        return self.feed(n.PeerGone())

    def peer_back(self) -> list[Message]:
        return self.feed(n.PeerBack())

    def silent(self, connection: Connection) -> list[Message]:
        return self.feed(n.MediaSilent(int(connection.name[1:])))

    @property
    def deadline(self) -> float | None:
        deadline: float | None = self.negotiation.deadline
        return deadline

    # --- command execution ---

    def feed(self, event: n.Event, now: float = 0.0) -> list[Message]:
        sent: list[Message] = []
        for command in self.negotiation.handle(event, now):
            match command:
                case n.CreateOffer(generation):
                    self._put(Connection(f"{self.me}{generation}"))
                    self.pending += (("offer", generation),)
                case n.CreateAnswer(generation, text):
                    self._put(Connection(f"{self.me}{generation}", ufrag(text)))
                    self.pending += (("answer", generation),)
                case n.ApplyAnswer(generation, text):
                    self._put(replace(self._get(f"{self.me}{generation}"), remote=ufrag(text)))
                case n.AddCandidate(generation, candidate):
                    fragment = self._get(f"{self.me}{generation}").remote
                    assert fragment == candidate.username_fragment, "a candidate was added to another connection"
                case n.Close(generation):
                    self._get(f"{self.me}{generation}")  # raises unless it is open
                    self._drop(f"{self.me}{generation}")
                case n.SendOffer(text):
                    sent.append(("offer", text))
                case n.SendAnswer(text):
                    sent.append(("answer", text))
                case n.SendCandidate(candidate):
                    sent.append(("candidate", candidate))
                case n.SendHangUp(reason):
                    sent.append(("hang-up", reason))
        return sent

    def _get(self, name: str) -> Connection:
        for connection in self.connections:
            if connection.name == name:
                return connection
        raise AssertionError(f"{name} is not open")

    def _put(self, connection: Connection) -> None:
        self._drop(connection.name)
        self.connections += (connection,)

    def _drop(self, name: str) -> None:
        self.connections = tuple(c for c in self.connections if c.name != name)


class StepCache:
    """Cache of steps. A step depends only on its side, and the same side occurs in many worlds."""

    def __init__(self) -> None:
        self._sides: dict[tuple[str, int], Side] = {}
        self._steps: dict[tuple[int, str, tuple[Any, ...]], tuple[Side, tuple[Message, ...]]] = {}

    def step(self, side: Side, action: str, args: tuple[Any, ...]) -> tuple[Side, tuple[Message, ...]]:
        """Return ``side`` after ``action(*args)``, and the messages it sent."""
        step = (id(side), action, args)
        if step not in self._steps:
            after = side.fork()
            sent = tuple(getattr(after, action)(*args))
            same = self._sides.setdefault((f"{after.me} {after.key()}", after.made), after)
            self._steps[step] = (same, sent)
        return self._steps[step]


@dataclass(slots=True)
class World:
    sides: tuple[Side, Side]
    cache: StepCache = field(default_factory=StepCache)
    wires: tuple[tuple[Message, ...], tuple[Message, ...]] = ((), ())  # wires[i]: messages to sides[i]
    dials: tuple[int, int] = (0, 0)
    hang_ups: tuple[int, int] = (0, 0)
    losses: int = 0
    leaves: int = 0
    failures: int = 0
    refusals: int = 0
    candidates: int = 0
    deadlines: int = 0

    def key(self) -> str:
        """Canonical text of this world. Generations are renumbered in order of appearance: the negotiation only
        compares them, so worlds that differ in nothing else are equal."""
        wires = "|".join(",".join(map(_text_of, wire)) for wire in self.wires)
        text = (
            f"{self.sides[0].key()}|{self.sides[1].key()}|{wires}"
            f"|{self.dials}{self.hang_ups}{self.losses} {self.leaves} {self.failures} {self.refusals}"
            f" {self.candidates} {self.deadlines}"
        )
        names: dict[str, str] = {}
        return _NAME.sub(lambda m: names.setdefault(m[0], f"{m[1]}{len(names)}"), text)

    def _fork(self, **changes: Any) -> World:
        """Copy this world with ``changes``. Faster than ``dataclasses.replace``: an exploration copies it 10^5
        times."""
        world = World.__new__(World)
        for name in World.__slots__:
            setattr(world, name, changes[name] if name in changes else getattr(self, name))
        return world

    def _next(self, i: int, action: str, *args: Any, **changes: Any) -> World:
        side, sent = self.cache.step(self.sides[i], action, args)
        world = self._fork(**changes)
        world.sides = (side, self.sides[1]) if i == 0 else (self.sides[0], side)
        if sent:
            to_left, to_right = world.wires
            world.wires = (to_left, to_right + sent) if i == 0 else (to_left + sent, to_right)
        return world

    def steps(self, bounds: Bounds) -> Iterator[tuple[str, World]]:
        quiet = True
        for i in (0, 1):
            side, me = self.sides[i], self.sides[i].me
            if self.wires[i]:
                quiet = False
                message, *rest = self.wires[i]
                wires = (tuple(rest), self.wires[1]) if i == 0 else (self.wires[0], tuple(rest))
                yield f"{me} < {message[0]}", self._next(i, "receive", message, wires=wires)
                if message[0] == "offer" and self.refusals < bounds.refusals:
                    refused = {"wires": wires, "refusals": self.refusals + 1}
                    yield f"{me} refuses an offer", self._next(i, "refuse", message, **refused)
                if self.losses < bounds.losses:
                    yield f"{message[0]} to {me} is lost", self._fork(wires=wires, losses=self.losses + 1)
            for work in side.pending:
                quiet = False
                yield f"{me} created {work[0]} {work[1]}", self._next(i, "complete", work)
                if self.failures < bounds.failures:
                    failures = self.failures + 1
                    yield f"{me} fails at {work}", self._next(i, "fail", work, failures=failures)
            for connection in side.connections:
                other = next((c for c in self.sides[1 - i].connections if c.name == connection.remote), None)
                settled = not any(f"{me}{p[1]}" == connection.name for p in side.pending)
                if connection.remote and settled and not connection.up and other and other.remote == connection.name:
                    quiet = False
                    yield f"{connection.name} up", self._next(i, "connection_up", connection)
                if self.candidates < bounds.candidates:
                    used = self.candidates + 1
                    trickled = self._next(i, "trickle", connection, candidates=used)
                    yield f"{connection.name} has a candidate", trickled
                if connection.up and other is None:
                    quiet = False
                    yield f"{connection.name} down", self._next(i, "connection_down", connection)
            if self.dials[i] < bounds.dials and side.can_dial():
                dials = _bump(self.dials, i)
                yield f"{me} dials", self._next(i, "dial", dials=dials)
            if self.hang_ups[i] < bounds.hang_ups and side.in_call():
                hang_ups = _bump(self.hang_ups, i)
                yield f"{me} hangs up", self._next(i, "hang_up", hang_ups=hang_ups)
            if self.leaves < bounds.leaves:
                leaves = self.leaves + 1
                gone = self._next(i, "peer_gone", leaves=leaves)
                yield f"{me} sees the other leave", gone
                yield f"{me} sees the other leave and return", gone._next(i, "peer_back")
        for i in (0, 1):
            if self.sides[i].deadline is not None and (quiet or self.deadlines < bounds.deadlines):
                assert bounds.deadlines >= 0, "nothing was lost, but a side waits for its deadline"
                used = self.deadlines if quiet else self.deadlines + 1
                yield f"{self.sides[i].me} deadline", self._next(i, "tick", deadlines=used)


@functools.cache
def _text_of(message: Message) -> str:
    kind, content = message
    if isinstance(content, IceCandidate):
        return f"{kind}:{content.username_fragment}"
    return f"{kind}:{ufrag(content) if content.startswith('v=0') else content}"


def _bump(counts: tuple[int, int], i: int) -> tuple[int, int]:
    return (counts[0] + 1, counts[1]) if i == 0 else (counts[0], counts[1] + 1)


def candidate(fragment: str) -> IceCandidate:
    return IceCandidate("candidate:1 1 udp 1 192.0.2.1 1 typ host", "0", 0, fragment)


_USER_STEPS = ("dials", "hangs up", "leave", "leave and return", "has a candidate")
"""Steps of the users, the relay and ICE gathering, which may never occur. A world is at rest when no other step is
possible."""


def explore(start: World, bounds: Bounds, check: Callable[[World], str | None]) -> int:
    """Visit every reachable world and return their number.

    ``check`` is called with every world at rest. It returns an error message if the world is wrong.

    Raises:
        AssertionError: a world is wrong. The message holds the steps that lead to it.
    """
    seen: dict[str, tuple[str, str] | None] = {start.key(): None}
    stack = [(start.key(), start)]
    while stack:
        key, world = stack.pop()
        moved = False
        try:
            for label, following in world.steps(bounds):
                moved = moved or not label.endswith(_USER_STEPS)
                new = following.key()
                if new not in seen:
                    seen[new] = (key, label)
                    stack.append((new, following))
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n" + _trace(seen, key)) from exc
        if not moved and (wrong := check(world)):
            raise AssertionError(f"{wrong}\n" + _trace(seen, key))
    return len(seen)


def _trace(seen: dict[str, tuple[str, str] | None], key: str) -> str:
    labels: list[str] = []
    while (entry := seen[key]) is not None:
        key, label = entry
        labels.append(label)
    return "\n".join(reversed(labels))


@dataclass(slots=True)
class LegacyPageState:
    """State that the legacy page keeps for one remote: its map entry, and whether it shows Calling or Connected."""

    entry: str | None = None
    calling: bool = False
    connected: bool = False
    made: int = 0


class LegacyPage(Side):
    """Line-by-line model of ``tests/legacy/page.tsx`` with its bugs: it compares ids for any offer while an entry
    exists, sends no message when it hangs up, keeps the entry of a closed connection, and ignores every failure."""

    __slots__ = ("remote",)

    def __init__(self, me: str, remote: str) -> None:
        super().__init__(me, LegacyPageState())
        self.remote = remote

    @property
    def made(self) -> int:
        made: int = self.negotiation.made
        return made

    def _describe(self) -> str:
        negotiation = self.negotiation
        connections = ",".join(f"{c.name}>{c.remote}{c.up:d}" for c in self.connections)
        pending = ",".join(f"{kind}{self.me}{generation}" for kind, generation in self.pending)
        return f"{negotiation.entry}{negotiation.calling:d}{negotiation.connected:d};{connections};{pending}"

    def can_dial(self) -> bool:
        return not self.negotiation.calling and not self.negotiation.connected

    def in_call(self) -> bool:
        return self.negotiation.calling or self.negotiation.connected

    @property
    def deadline(self) -> float | None:
        return None

    def _create(self, remote: str | None = None) -> int:
        self.negotiation.made += 1
        self.negotiation.entry = f"{self.me}{self.negotiation.made}"
        self._put(Connection(self.negotiation.entry, remote))
        return self.negotiation.made

    def _close_entry(self) -> None:
        self._drop(self.negotiation.entry)
        self.negotiation.entry = None

    def dial(self) -> list[Message]:
        self.negotiation.calling = True
        self.pending += (("offer", self._create()),)
        return []

    def hang_up(self) -> list[Message]:
        if self.negotiation.entry:
            self._close_entry()
        self.negotiation.calling = self.negotiation.connected = False
        return []

    def receive(self, message: Message) -> list[Message]:
        match message:
            case ("offer", text):
                if self.negotiation.entry:
                    if self.me < self.remote:
                        return []
                    self._close_entry()
                self.pending += (("answer", self._create(ufrag(text))),)
                self.negotiation.connected, self.negotiation.calling = True, False  # ontrack
            case ("answer", text):
                connection = next((c for c in self.connections if c.name == self.negotiation.entry), None)
                offered = connection and not any(f"{self.me}{p[1]}" == connection.name for p in self.pending)
                if connection and connection.remote is None and offered:
                    self._put(replace(connection, remote=ufrag(text)))
                    self.negotiation.connected, self.negotiation.calling = True, False  # ontrack
        return []

    def complete(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        kind, generation = work
        name = f"{self.me}{generation}"
        if not any(c.name == name for c in self.connections):
            return []  # setLocalDescription rejects on a closed connection; the page does not catch it
        return [(kind, sdp(name))]

    def connection_up(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=True))
        self.negotiation.connected, self.negotiation.calling = True, False
        return []

    def connection_down(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=False, remote="gone"))
        self.negotiation.calling = self.negotiation.connected = False  # the entry stays
        return []
