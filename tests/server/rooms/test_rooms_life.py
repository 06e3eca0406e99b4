"""The invariant of the rooms after any sequence of events.

- Every client's view is the room without itself: no peer is missing, and none is reported twice. It has the
  ``instance`` of the process that holds each seat.
- At most one connection holds a seat, and none is replaced without a new holder.
- A join gets one answer: a seat, or ``id-taken`` and a close. No waiting client is forgotten.
- A message reaches its recipients once, in order, and no other client. For a seat in grace it waits for the owner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peer.signaling.messages import CLOSE_ID_TAKEN, CLOSE_REPLACED, Envelope, Join
from server.rooms.rooms import Admit, Close, Ping, Rooms, Send

GRACE, TAKEOVER, QUEUE = 5.0, 2.0, 100

Home = tuple[str, str]
"""Room and id."""

INSTANCES = st.sampled_from([None, "1", "1", "2"])
"""Process of a client's owner; ``None``: it sends none."""

WHICH = st.integers(0, 7)
"""One of the existing clients."""


@dataclass
class Away:
    """A seat in grace."""

    key: str
    instance: str | None
    frames: list[bytes] = field(default_factory=list)


FORGED = st.sampled_from([False] * 7 + [True])


class Life(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.rooms: Rooms[int] = Rooms(grace=GRACE, takeover_ping=TAKEOVER, max_seat_queue=QUEUE)
        self.now = 0.0
        self.count = 0
        self.views: dict[int, dict[str, str | None]] = {}  # of admitted clients: id to instance
        self.joins: dict[int, Join] = {}
        self.homes: dict[int, Home] = {}
        self.unanswered: set[int] = set()
        self.rejected: set[int] = set()  # id-taken; the close must follow
        self.gone: set[int] = set()
        self.away: dict[Home, Away] = {}
        self.sent = 0
        self.received: list[tuple[int, bytes]] = []
        self.expected: list[tuple[int, bytes]] = []

    # --- commands -------------------------------------------------------------------------------------------------

    def see(self, commands: Iterable[Any]) -> None:
        replaced = []
        for command in commands:
            match command:
                case Admit(conn, peers, instances):
                    self.admit(conn, peers, instances)
                case Ping(conn):
                    assert conn in self.views
                case Close(conn, code, _):
                    assert conn not in self.gone
                    assert (code == CLOSE_ID_TAKEN) is (conn in self.rejected)
                    if code == CLOSE_REPLACED:
                        replaced.append(self.homes[conn])
                    self.views.pop(conn, None)
                    self.gone.add(conn)
                case Send(to, text):
                    assert len(set(to)) == len(to)
                    for conn in to:
                        self.receive(conn, text)
        assert not self.rejected - self.gone, "rejected, but not closed"
        assert set(replaced) <= {self.homes[conn] for conn in self.views}, "replaced without a new holder"
        assert self.received == self.expected
        self.received, self.expected = [], []
        for home in [home for home in self.away if home[1] not in self.rooms.peers(home[0])]:
            del self.away[home]

    def admit(self, conn: int, peers: tuple[str, ...], instances: Mapping[str, str]) -> None:
        self.unanswered.remove(conn)
        assert conn not in self.gone and len(set(peers)) == len(peers)
        home = self.homes[conn]
        assert home not in (self.homes[other] for other in self.views), "two hold one seat"
        assert instances.keys() <= set(peers) and None not in instances.values()
        self.views[conn] = {peer: instances.get(peer) for peer in peers}
        away = self.away.pop(home, None)
        if away is not None and (away.key, away.instance) == (self.joins[conn].key, self.joins[conn].instance):
            self.expected += [(conn, text) for text in away.frames]

    def receive(self, conn: int, text: bytes) -> None:
        assert conn not in self.gone, "a frame to a connection that is closed"
        body = json.loads(text)
        match body["type"]:
            case "peer-joined":
                assert body["peerId"] not in self.views[conn], "seen twice"
                self.views[conn][body["peerId"]] = body.get("instance")
            case "peer-left":
                del self.views[conn][body["peerId"]]
                self.away.pop((self.homes[conn][0], body["peerId"]), None)
            case "error" if body["code"] == "id-taken":
                self.unanswered.remove(conn)
                self.rejected.add(conn)
            case _:
                self.received.append((conn, text if body["type"] == "hello" else body["code"].encode()))

    # --- events ---------------------------------------------------------------------------------------------------

    @rule(
        peer=st.sampled_from("aab"),
        room=st.sampled_from(["", "", "", "attic"]),
        key=st.sampled_from([None, "k", "k", "\ud800"]),
        instance=INSTANCES,
    )
    def come(self, peer: str, room: str, key: str | None, instance: str | None) -> None:
        self.join(peer, room, key, instance)

    def join(self, peer: str, room: str, key: str | None, instance: str | None) -> None:
        self.count += 1
        conn, join = self.count, Join(peer, room, key=key, instance=instance)
        self.homes[conn], self.joins[conn] = (room, peer), join
        self.unanswered.add(conn)
        self.see(self.rooms.join(conn, join, self.now))

    @precondition(lambda self: self.away)
    @rule(which=WHICH, restarted=st.booleans())
    def come_back(self, which: int, restarted: bool) -> None:
        homes = sorted(self.away)
        room, peer = homes[which % len(homes)]
        away = self.away[room, peer]
        self.join(peer, room, away.key, "3" if restarted else away.instance)

    @precondition(lambda self: any(self.joins[conn].key for conn in self.views))
    @rule(which=WHICH, frames=st.integers(0, 4))
    def blink(self, which: int, frames: int) -> None:
        """A connection is lost, and its peer returns at once."""
        keyed = [conn for conn in self.views if self.joins[conn].key]
        conn = keyed[which % len(keyed)]
        self.lose(conn, clean=False)
        for _ in range(frames if self.views else 0):
            self.say_to(which, self.homes[conn][1])
        self.join(self.homes[conn][1], self.homes[conn][0], self.joins[conn].key, self.joins[conn].instance)

    @precondition(lambda self: self.views or self.unanswered)
    @rule(which=WHICH, clean=st.booleans())
    def end(self, which: int, clean: bool) -> None:
        there = sorted(self.views.keys() | self.unanswered)
        self.lose(there[which % len(there)], clean=clean)

    def lose(self, conn: int, *, clean: bool) -> None:
        key = self.joins[conn].key
        if key is not None and conn in self.views and not clean:
            self.away[self.homes[conn]] = Away(key, self.joins[conn].instance)
        self.views.pop(conn, None)
        self.unanswered.discard(conn)
        self.gone.add(conn)
        self.see(self.rooms.leave(conn, self.now) if clean else self.rooms.drop(conn, self.now))

    @precondition(lambda self: self.views)
    @rule(which=WHICH)
    def pong(self, which: int) -> None:
        conn = sorted(self.views)[which % len(self.views)]
        waiting = {other for other in self.unanswered if self.homes[other] == self.homes[conn]}
        self.see(self.rooms.pong(conn))
        assert not waiting & self.unanswered, "the holder is alive, but the claims are not answered"

    @precondition(lambda self: self.views)
    @rule(which=WHICH, to=st.sampled_from(["a", "b", "a", "b", "nobody", None]), forged=FORGED)
    def send(self, which: int, to: str | None, forged: bool) -> None:
        self.say_to(which, to, forged=forged)

    def say_to(self, which: int, to: str | None, *, forged: bool = False) -> None:
        conn = sorted(self.views)[which % len(self.views)]
        self.sent += 1
        room, own = self.homes[conn]
        text = json.dumps({"type": "hello", "n": self.sent}).encode()
        if forged:
            self.expected = [(conn, b"from-mismatch")]
        elif to is None:
            self.expected = [
                (other, text)
                for peer in self.rooms.peers(room)
                for other in self.views
                if self.homes[other] == (room, peer) and other != conn
            ]
            for peer in self.views[conn]:
                self.keep((room, peer), text)
        elif to not in self.views[conn]:
            self.expected = [(conn, b"peer-not-found")]
        elif (room, to) in self.away:
            if not self.keep((room, to), text):
                self.expected = [(conn, b"peer-not-found")]
        else:
            self.expected = [(other, text) for other in self.views if self.homes[other] == (room, to)]
            assert len(self.expected) == 1
        self.see(self.rooms.route(conn, Envelope("hello", "x" if forged else own, to), text))

    def keep(self, home: Home, text: bytes) -> bool:
        away = self.away.get(home)
        if away is None or len(text) + sum(map(len, away.frames)) > QUEUE:
            return False
        away.frames.append(text)
        return True

    @rule(seconds=st.sampled_from([0.5, TAKEOVER, GRACE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.see(self.rooms.expire(self.now))

    @precondition(lambda self: self.rooms.deadline is not None)
    @rule()
    def wait_for_the_deadline(self) -> None:
        self.now = max(self.now, self.rooms.deadline or 0)
        self.see(self.rooms.expire(self.now))

    # --- properties -----------------------------------------------------------------------------------------------

    @invariant()
    def every_view_is_the_room_without_oneself(self) -> None:
        for conn, view in self.views.items():
            room, peer = self.homes[conn]
            assert self.rooms.name(conn) == peer and self.rooms.room(conn) == room
            assert view.keys() == set(self.rooms.peers(room)) - {peer}

    @invariant()
    def every_view_has_the_instances_of_the_holders(self) -> None:
        holders = {self.homes[conn]: self.joins[conn].instance for conn in self.views}
        holders |= {home: away.instance for home, away in self.away.items()}
        for conn, view in self.views.items():
            assert view == {peer: holders[self.homes[conn][0], peer] for peer in view}

    @invariant()
    def every_seat_is_held_or_waits_for_its_owner(self) -> None:
        seats = {(room, peer) for room in self.rooms.rooms() for peer in self.rooms.peers(room)}
        held = [self.homes[conn] for conn in self.views]
        assert len(set(held)) == len(held) and set(held) | set(self.away) == seats
        assert not set(held) & set(self.away)
        assert all(self.rooms.peers(room) for room in self.rooms.rooms()), "an empty room"

    @invariant()
    def who_waits_for_an_answer_is_not_forgotten(self) -> None:
        for conn in self.unanswered:
            assert self.homes[conn][1] in self.rooms.peers(self.homes[conn][0]), "the seat is free"
        if self.unanswered:
            assert self.rooms.deadline is not None and self.rooms.deadline <= self.now + TAKEOVER

    @invariant()
    def nothing_is_overdue(self) -> None:
        assert self.rooms.deadline is None or self.rooms.deadline > self.now - 1e-9

    def teardown(self) -> None:
        """Let time pass and all clients leave: every join was answered, and nothing is left."""
        for _ in range(self.count + 1):
            self.now += TAKEOVER
            self.see(self.rooms.expire(self.now))
        assert not self.unanswered
        for conn in list(self.views):
            self.lose(conn, clean=False)
        while self.rooms.deadline is not None:
            self.now = self.rooms.deadline
            self.see(self.rooms.expire(self.now))
        assert len(self.rooms) == 0 and self.rooms.rooms() == []


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
