"""Other programs in the model: they break a rule, omit an extension, or already follow a later version's rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peer import negotiation as n
from peer.negotiation.description_identity import read_identity
from peer.negotiation.negotiation_state import Link
from tests.negotiation.model import Connection, Message, Side, name_of, sdp


class OfferingPeer(Side):
    """A peer with our state machine that also sends offers in a connected call. ``further``: its unanswered one, with
    its generation, ``call`` and ``round``."""

    __slots__ = ("further",)

    further: tuple[int, str | None, int | None] | None

    def __init__(self, me: str, negotiation: n.Negotiation, *, lossless: bool = False, named: bool = True) -> None:
        super().__init__(me, negotiation, lossless=lossless, named=named)
        self.further = None

    def _describe(self) -> str:
        further = f"{self.me}{self.further[0]}.{self.further[1]}.{self.further[2]}" if self.further else "-"
        return f"{super()._describe()};{further}"

    def can_make_further_offer(self) -> bool:
        negotiation = self.negotiation
        connected = negotiation.phase is n.Phase.CONNECTED and all(c.up for c in self.connections)
        return connected and self.further is None and negotiation._line.running is None

    def _next_keys(self) -> tuple[str | None, int | None]:
        """Return ``call`` and ``round`` of the next offer of this call."""
        rounds = self.negotiation._rounds
        if not self.named or rounds.call is None:
            return None, None
        self.negotiation._rounds = replace(rounds, round=rounds.round + 1)
        return rounds.call, rounds.round + 1

    @property
    def deadline(self) -> float | None:
        deadline: float | None = self.negotiation.deadline
        return 0.0 if deadline is None and self.further is not None else deadline

    def tick(self) -> list[Message]:
        return super().tick() if self.negotiation.deadline is not None else self.hang_up()

    def receive(self, message: Message) -> list[Message]:
        if self.further is None:
            return super().receive(message)
        _, *keys = self.further
        match message:
            case ("offer", *_) if self.me < self.negotiation.remote:
                return []  # glare: ours stands
            case ("offer", *_):
                self.roll_back()
            case ("answer", text, *echoed) if echoed in (keys, [None, None]):
                return self.answered(text)
            case ("hang-up", reason, *echoed) if echoed == keys and (keys[0] or reason == "declined"):
                return self.feed(n.HangUpReceived("hang-up", "", self.negotiation._rounds.call))
        return super().receive(message)

    def feed(self, event: n.Event, now: float = 0.0) -> list[Message]:
        sent = super().feed(event, now)
        if self.further is not None and self.negotiation.phase is not n.Phase.CONNECTED:
            self.roll_back()  # its call is over
        return sent

    def roll_back(self) -> None:
        self.further = None

    def answered(self, text: str) -> list[Message]:
        self.further = None
        return []


class ReofferingPeer(OfferingPeer):
    """Another implementation, which adds a track, or restarts ICE, on its connection (rule 3)."""

    __slots__ = ()

    def make_further_offer(self, restart: bool) -> list[Message]:
        generation = self.negotiation._current.generation
        connection = self._get(f"{self.me}{generation}")
        if restart:
            connection = replace(connection, ufrag=f"{connection.ufrag}r")
            self._put(connection)
        self.further = (generation, *self._next_keys())
        return [("offer", sdp(connection.name, connection.ufrag), *self.further[1:])]

    def answered(self, text: str) -> list[Message]:
        assert self.further is not None
        connection = self._get(f"{self.me}{self.further[0]}")
        if connection.remote == name_of(text):  # otherwise a stale answer, which breaks the call at its deadline
            self._put(connection.described(text))
        return super().answered(text)


class LaterPeer(OfferingPeer):
    """A peer of a later version, which continues a call on a new connection (rule 0 e)."""

    __slots__ = ()

    def can_make_further_offer(self) -> bool:
        return super().can_make_further_offer() and self.negotiation._rounds.named

    def make_further_offer(self, restart: bool) -> list[Message]:
        self.negotiation._generation += 1
        generation = self.negotiation._generation
        self._open(generation)
        self.further = (generation, *self._next_keys())
        return [("offer", sdp(f"{self.me}{generation}"), *self.further[1:])]

    @property
    def replacement(self) -> Connection | None:
        """The connection that is to continue the call."""
        current = self.negotiation._current
        others = (c for c in self.connections if current is not None and c.generation > current.generation)
        return next(others, None) if self.negotiation.phase is n.Phase.CONNECTED else None

    @property
    def deadline(self) -> float | None:
        deadline = super().deadline
        return 0.0 if deadline is None and self.replacement is not None else deadline

    def answered(self, text: str) -> list[Message]:
        assert self.further is not None
        self._put(self._get(f"{self.me}{self.further[0]}").described(text))
        self.further = None
        return []

    def roll_back(self) -> None:
        assert self.further is not None
        self._drop(f"{self.me}{self.further[0]}")
        self.further = None

    def feed(self, event: n.Event, now: float = 0.0) -> list[Message]:
        replacement = self.replacement
        sent = super().feed(event, now)
        if replacement is not None and self.negotiation.phase is not n.Phase.CONNECTED:
            self._drop(replacement.name)
        return sent

    def connection_up(self, connection: Connection) -> list[Message]:
        replacement = self.replacement
        if replacement is None or replacement.name != connection.name:
            return super().connection_up(connection)
        self._put(replace(connection, up=True))
        self._drop(f"{self.me}{self.negotiation._current.generation}")
        text = sdp(str(connection.remote), connection.remote_ufrag)
        self.negotiation._current = Link(connection.generation, read_identity(text))
        return []

    def connection_down(self, connection: Connection) -> list[Message]:
        if self.replacement is None:
            return super().connection_down(connection)
        self._put(replace(connection, up=False, remote=None))  # the call continues on the replacement
        return []


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
        super().__init__(me, LegacyPageState(), named=False)
        self.remote = remote

    @property
    def made(self) -> int:
        made: int = self.negotiation.made
        return made

    def _describe_negotiation(self) -> str:
        negotiation = self.negotiation
        return f"{negotiation.entry}{negotiation.calling:d}{negotiation.connected:d}"

    def can_repeat(self) -> bool:
        return False

    def can_dial(self) -> bool:
        return not self.negotiation.calling and not self.negotiation.connected

    def in_call(self) -> bool:
        return self.negotiation.calling or self.negotiation.connected

    @property
    def deadline(self) -> float | None:
        return None

    def _create(self, offer: str | None = None) -> int:
        self.negotiation.made += 1
        self.negotiation.entry = f"{self.me}{self.negotiation.made}"
        connection = self._open(self.negotiation.made)
        if offer is not None:
            self._put(connection.described(offer))
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
            case ("offer", text, _, _):
                if self.negotiation.entry:
                    if self.me < self.remote:
                        return []
                    self._close_entry()
                self.pending += (("answer", self._create(text)),)
                self.negotiation.connected, self.negotiation.calling = True, False  # ontrack
            case ("answer", text, _, _):
                connection = self._find(self.negotiation.entry or "")
                offered = connection and not any(f"{self.me}{p[1]}" == connection.name for p in self.pending)
                if connection and connection.remote is None and offered:
                    self._put(connection.described(text))
                    self.negotiation.connected, self.negotiation.calling = True, False  # ontrack
        return []

    def complete(self, work: Message) -> list[Message]:
        self.pending = tuple(p for p in self.pending if p != work)
        kind, generation = work
        name = f"{self.me}{generation}"
        if self._find(name) is None:
            return []  # setLocalDescription rejects on a closed connection; the page does not catch it
        return [(kind, sdp(name), None, None)]

    def connection_up(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=True))
        self.negotiation.connected, self.negotiation.calling = True, False
        return []

    def connection_down(self, connection: Connection) -> list[Message]:
        self._put(replace(connection, up=False, remote="gone"))
        self.negotiation.calling = self.negotiation.connected = False  # the entry stays
        return []
