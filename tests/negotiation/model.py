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
from peer.negotiation.description_identity import DescriptionIdentity
from peer.signaling.messages import IceCandidate

_NAME = re.compile(r"([abAB])\d+")

Message = tuple[Any, ...]
"""``("offer" | "answer", sdp, call, round)``, ``("hang-up", reason, call, round)``, ``("candidate", candidate)``, and
of the relay ``("restarted",)``."""


def sdp(name: str, ufrag: str | None = None) -> str:
    """Return the description of the connection ``name``. Its ufrag differs from its name after an ICE restart."""
    return f"v=0\r\no=- {name} 1\r\na=ice-ufrag:{ufrag or name}\r\na=fingerprint:sha-256 {name}\r\n"


def name_of(text: str) -> str:
    return text.split("o=- ")[1].split(" ")[0]


def ufrag_of(text: str) -> str:
    return text.split("a=ice-ufrag:")[1].split("\r")[0]


@dataclass(frozen=True, slots=True)
class Connection:
    """RTCPeerConnection of one side. ``name`` is side and generation, ``remote`` that of the other end."""

    name: str
    remote: str | None = None
    up: bool = False
    ufrag: str = ""
    remote_ufrag: str | None = None

    @property
    def generation(self) -> int:
        return int(self.name[1:])

    def described(self, text: str) -> Connection:
        """Return it with this remote description."""
        return replace(self, remote=name_of(text), remote_ufrag=ufrag_of(text))


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
    repeats: int = 0
    """Unanswered offers with an id that are sent again (rule 0 i)."""
    restarts: int = 0
    """Processes that die and are started again under the same id (another ``instance``)."""
    further_offers: int = 0
    """Second offers of a ``ReofferingPeer``, and continuing offers of a ``LaterPeer``."""
    deadlines: int = 0
    """Deadlines that expire while another step is possible. When no other step is, every deadline may expire. With
    -1, a deadline that is pending then is an error."""


class Side:
    """A negotiation and its modeled connections. Subclasses model other programs.

    ``named``: whether it sends ``call`` and ``round``, and understands them. ``repeats``: whether offers may arrive
    twice. Otherwise the last reply, which is kept for them, is forgotten: it doubles the number of states.
    """

    __slots__ = ("_key", "connections", "lossless", "me", "named", "negotiation", "pending", "repeats")

    def __init__(
        self, me: str, negotiation: Any, *, lossless: bool = False, named: bool = True, repeats: bool = False
    ) -> None:
        self.repeats = repeats
        self.me = me
        self.lossless = lossless
        self.named = named
        self.negotiation = negotiation
        self.connections: tuple[Connection, ...] = ()
        self.pending: tuple[Message, ...] = ()  # createOffer and createAnswer calls that are running
        self._key: str | None = None

    def fork(self) -> Side:
        side = copy.copy(self)
        side.negotiation = copy.copy(self.negotiation)
        side._key = None
        return side

    def restarted(self) -> Side:
        """Return the process that takes the place of this one. Names of its connections are new."""
        fresh = type(self.negotiation)(self.me, self.negotiation.remote)
        fresh._generation = self.negotiation._generation
        side = type(self)(self.me, fresh, lossless=self.lossless, named=self.named)
        side.repeats = self.repeats
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
        return f"{self._describe_negotiation()};{self._describe_connections()}"

    def _describe_connections(self) -> str:
        connections = ",".join(f"{c.name}:{c.ufrag}>{c.remote}:{c.remote_ufrag}{c.up:d}" for c in self.connections)
        return f"{connections};{','.join(f'{kind}{self.me}{generation}' for kind, generation in self.pending)}"

    def _describe_negotiation(self) -> str:
        state, me = self.negotiation, self.me
        links = (
            f"{me}{link.generation}:{_identity(link.identity)}" if link else "-"
            for link in (state._current, state._replacement)
        )
        ours = f"{me}{state._unanswered.generation}{_id(state._unanswered.id)}" if state._unanswered else "-"
        running = state._line.running
        line = [f"{me}{running.generation}{_offer(running.offer)}" if running else "-"]
        line += [_offer(offer) for offer in state._line.offers]
        rounds, reply = state._rounds, state._rounds.reply
        last = f"{_id(reply.id)}{_command(reply.command)}" if reply else "-"
        waiting = (
            ",".join(sorted(str(c.username_fragment) for c in candidates))
            for candidates in (state._remote_candidates, state._local_candidates)
        )
        return " ".join(
            (
                state.phase.value,
                *links,
                ours,
                *line,
                f"{rounds.call}.{rounds.round}{rounds.named:d}",
                last,
                *waiting,
                _identity(state._described),
                "T" if state._call_deadline is not None else "-",
                "T" if state._replacement_deadline is not None else "-",
                "a" if state._absence.absent_since is not None else "-",
                "s" if state._absence.silent_since is not None else "-",
            )
        )

    # --- steps ---

    def dial(self) -> list[Message]:
        return self.feed(n.Dial(10.0, f"{self.me.upper()}{self.made}" if self.named else None))

    def hang_up(self) -> list[Message]:
        return self.feed(n.HangUp())

    def can_dial(self) -> bool:
        return self.negotiation.phase is n.Phase.IDLE

    def in_call(self) -> bool:
        return self.negotiation.phase is not n.Phase.IDLE

    def can_repeat(self) -> bool:
        ours = self.negotiation._unanswered
        return ours is not None and ours.id is not None and self.negotiation.phase is n.Phase.OFFERED

    def repeat(self) -> list[Message]:
        ours = self.negotiation._unanswered
        return [("offer", sdp(f"{self.me}{ours.generation}"), ours.id.call, ours.id.round)]

    def can_make_further_offer(self) -> bool:
        return False

    def make_further_offer(self, restart: bool) -> list[Message]:
        raise NotImplementedError

    def receive(self, message: Message) -> list[Message]:
        match message:
            case ("offer", text, call, number):
                return self.feed(n.OfferReceived(text, True, call, number))
            case ("answer", text, call, number):
                assert not self.lossless or self.negotiation._unanswered is not None, "an answer to no offer"
                return self.feed(n.AnswerReceived(text, call, number))
            case ("candidate", candidate):
                return self.feed(n.CandidateReceived(candidate))
            case ("hang-up", reason, call, number):
                return self.feed(n.HangUpReceived(reason, "", call, number))
            case ("restarted",):
                return self.peer_gone() + self.feed(n.PeerRestarted()) + self.peer_back()
        raise AssertionError(message)

    def complete(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        kind, generation = work
        connection = self._find(f"{self.me}{generation}")
        if connection is None:
            return []  # closed in the meantime, so the call was cancelled
        event = n.OfferCreated if kind == "offer" else n.AnswerCreated
        return self.feed(event(generation, sdp(connection.name, connection.ufrag)))

    def refuse(self, offer: Message) -> list[Message]:
        return self.feed(n.OfferReceived(offer[1], False, *offer[2:]))

    def fail(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        return self.feed(n.DescriptionFailed(work[1]))

    def trickle(self, connection: Connection) -> list[Message]:
        return self.feed(n.LocalCandidate(connection.generation, candidate(connection.ufrag)))

    def tick(self) -> list[Message]:
        return self.feed(n.Tick(), now=self.negotiation.deadline)

    def connection_up(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=True))
        return self.feed(n.TransportConnected(connection.generation))

    def connection_down(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=False, remote=None))
        return self.feed(n.TransportClosed(connection.generation, "remote-hang-up"))

    def peer_gone(self) -> list[Message]:
        return self.feed(n.PeerGone())

    def peer_back(self) -> list[Message]:
        return self.feed(n.PeerBack())

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
                    self._open(generation)
                    self.pending += (("offer", generation),)
                case n.CreateAnswer(generation, text):
                    self._put(self._open(generation).described(text))
                    self.pending += (("answer", generation),)
                case n.Renegotiate(generation, text, ice_restart):
                    connection = self._get(f"{self.me}{generation}")
                    assert connection.remote == name_of(text), "a second offer is applied to another connection"
                    ufrag = f"{connection.ufrag}r" if ice_restart else connection.ufrag
                    self._put(replace(connection.described(text), ufrag=ufrag))
                    self.pending += (("answer", generation),)
                case n.ApplyAnswer(generation, text):
                    self._put(self._get(f"{self.me}{generation}").described(text))
                case n.AddCandidate(generation, candidate):
                    fragment = self._get(f"{self.me}{generation}").remote_ufrag
                    assert fragment == candidate.username_fragment, "a candidate was added to another connection"
                case n.Close(generation):
                    self._get(f"{self.me}{generation}")  # raises unless it is open
                    self._drop(f"{self.me}{generation}")
                case n.SendOffer(text, call, number):
                    sent.append(("offer", text, call, number))
                case n.SendAnswer(text, call, number):
                    sent.append(("answer", text, call, number))
                case n.SendCandidate(candidate):
                    sent.append(("candidate", candidate))
                case n.SendHangUp(reason, _, call, number):
                    sent.append(("hang-up", reason, call, number))
        self._forget_reply()
        return sent

    def _forget_reply(self) -> None:
        if not self.repeats:
            self.negotiation._rounds = replace(self.negotiation._rounds, reply=None)

    def _open(self, generation: int) -> Connection:
        name = f"{self.me}{generation}"
        self._put(Connection(name, ufrag=name))
        return self._get(name)

    def _find(self, name: str) -> Connection | None:
        return next((connection for connection in self.connections if connection.name == name), None)

    def _get(self, name: str) -> Connection:
        connection = self._find(name)
        assert connection is not None, f"{name} is not open"
        return connection

    def _put(self, connection: Connection) -> None:
        self._drop(connection.name)
        self.connections += (connection,)

    def _drop(self, name: str) -> None:
        self.connections = tuple(c for c in self.connections if c.name != name)


def _id(offer: Any) -> str:
    return f"({offer.call}.{offer.round})" if offer else "()"


def _identity(identity: DescriptionIdentity | None) -> str:
    return f"{identity.session_id}:{identity.ufrag}" if identity else "-"


def _offer(offer: Any) -> str:
    return f"{_identity(offer.identity)}{_id(offer.id)}{offer.outcome.value}{offer.second.value}{offer.continues:d}"


def _command(command: n.SendAnswer | n.SendHangUp) -> str:
    return name_of(command.sdp) if isinstance(command, n.SendAnswer) else command.reason


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

    def fresh(self, key: str, made: int, side: Side) -> Side:
        """Return the process that takes the place of ``side``."""
        if (key, made) not in self._sides:
            self._sides[(key, made)] = side.restarted()
        return self._sides[(key, made)]


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
    repeats: int = 0
    restarts: int = 0
    further_offers: int = 0
    deadlines: int = 0

    def key(self) -> str:
        """Canonical text of this world. Generations are renumbered in order of appearance: the negotiation only
        compares them, so worlds that differ in nothing else are equal."""
        wires = "|".join(",".join(map(_text_of, wire)) for wire in self.wires)
        text = (
            f"{self.sides[0].key()}|{self.sides[1].key()}|{wires}"
            f"|{self.dials}{self.hang_ups}{self.losses} {self.leaves} {self.failures} {self.refusals}"
            f" {self.candidates} {self.repeats} {self.restarts} {self.further_offers} {self.deadlines}"
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

    def _restart(self, i: int) -> World:
        """Replace the process of one side. What was on its way to it is discarded (server rule 3)."""
        key, made = f"{self.sides[i].me} fresh", self.sides[i].made
        fresh = self.cache.fresh(key, made, self.sides[i])
        world = self._fork(restarts=self.restarts + 1)
        world.sides = (fresh, self.sides[1]) if i == 0 else (self.sides[0], fresh)
        to_left, to_right = self.wires
        notice = (("restarted",),)
        world.wires = ((), to_right + notice) if i == 0 else (to_left + notice, ())
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
                    refused: dict[str, Any] = {"wires": wires, "refusals": self.refusals + 1}
                    yield f"{me} refuses an offer", self._next(i, "refuse", message, **refused)
                if self.losses < bounds.losses and message[0] != "restarted":
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
            if self.repeats < bounds.repeats and side.can_repeat():
                assert self.sides[1 - i].repeats, "the other side needs its last reply"
                yield f"{me} repeats its offer", self._next(i, "repeat", repeats=self.repeats + 1)
            if self.further_offers < bounds.further_offers and side.can_make_further_offer():
                used = self.further_offers + 1
                for restart in (False, True):
                    label = f"{me} makes a further offer{' with an ICE restart' if restart else ''}"
                    yield label, self._next(i, "make_further_offer", restart, further_offers=used)
            if self.restarts < bounds.restarts:
                yield f"{me} restarts", self._restart(i)
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
    match message:
        case ("candidate", IceCandidate(username_fragment=fragment)):
            return f"candidate:{fragment}"
        case ("offer" | "answer" as kind, text, call, number):
            return f"{kind}:{name_of(text)}:{ufrag_of(text)}:{call}.{number}"
    return ":".join(map(str, message))


def _bump(counts: tuple[int, int], i: int) -> tuple[int, int]:
    return (counts[0] + 1, counts[1]) if i == 0 else (counts[0], counts[1] + 1)


def candidate(fragment: str) -> IceCandidate:
    return IceCandidate("candidate:1 1 udp 1 192.0.2.1 1 typ host", "0", 0, fragment)


_USER_STEPS = (
    "dials",
    "hangs up",
    "leave",
    "leave and return",
    "has a candidate",
    "repeats its offer",
    "restarts",
    "makes a further offer",
    "with an ICE restart",
)
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
