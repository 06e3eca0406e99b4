"""A cluster without sockets: pure nodes, the real ledger in a real Redis, and a test that says who does what when.

Time is the test's, in Redis too. Clients are numbers; they believe what they are told, and check it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import redis

from peer.signaling.messages import Envelope, Join
from server.cluster.node import InboxError, Node
from server.cluster.state import NodeConfig
from server.rooms.rooms import Admit, Close, Ping, Send

LEASE = 5.0
CONFIG = NodeConfig(
    grace=5,
    takeover_ping=2,
    max_seat_queue=1000,
    join_timeout=10,
    message_timeout=5,
    max_messages=100_000,
    settle_time=3,
    handover_timeout=1,
)
_TIME = "call('TIME')"
_LEDGER = (files("server.cluster") / "ledger.lua").read_text()
assert _TIME in _LEDGER
LEDGER = _LEDGER.replace(_TIME, "{call('GET', 'now'), 0}")


class Member:
    """A node as its process has it."""

    def __init__(self, token: str, config: NodeConfig) -> None:
        self.token = token
        self.life = 1
        self.run = ""
        self.broken = False
        self.node: Node[int] = Node(f"{token}.1", config)


class World:
    def __init__(self, client: redis.Redis, config: NodeConfig = CONFIG, nodes: int = 3) -> None:
        self.config = config
        client.flushall()
        self.redis = client
        self.script = client.register_script(LEDGER)
        self.now = 1000.0
        self.run = "run-1"
        self.count = 0
        self.members = [self.member() for _ in range(nodes)]
        self.where: dict[int, Member] = {}
        self.who: dict[int, tuple[str, str, str | None]] = {}  # room, id, key
        self.views: dict[int, set[str]] = {}  # of those who are admitted
        self.gone: dict[int, int] = {}  # and the close code
        self.asked: set[int] = set()
        self.answered: list[tuple[int, str]] = []
        self.got: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.newest: dict[tuple[Any, Any], int] = {}

    def member(self) -> Member:
        self.count += 1
        member = Member(f"n{self.count}", self.config)
        member.run = self.run
        return member

    # --- clients

    def join(self, member: Member, id: str, room: str = "", key: str | None = None) -> int:
        self.count += 1
        self.where[self.count], self.who[self.count] = member, (room, id, key)
        self.see(member.node.join(self.count, Join(id, room, key=key), self.now))
        return self.count

    def end(self, conn: int, *, clean: bool) -> None:
        self.views.pop(conn, None)
        self.gone.setdefault(conn, 1000)
        node = self.where[conn].node
        self.see(node.leave(conn) if clean else node.drop(conn, self.now))

    def say(self, conn: int, to: str | None = None) -> int:
        self.count += 1
        text = json.dumps({"type": "hello", "n": self.count, "by": conn, "to": to})
        envelope = Envelope("hello", self.who[conn][1], to)
        self.see(self.where[conn].node.route(conn, envelope, text.encode(), self.now))
        return self.count

    def pong(self, conn: int) -> None:
        self.asked.discard(conn)
        self.see(self.where[conn].node.pong(conn))

    def see(self, commands: Iterable[Any]) -> None:
        for command in commands:
            match command:
                case Admit(conn, peers):
                    assert conn not in self.views and conn not in self.gone and len(set(peers)) == len(peers)
                    self.views[conn] = set(peers)
                case Ping(conn):
                    assert conn in self.views
                    self.asked.add(conn)
                case Close(conn, code, _):
                    assert conn not in self.gone
                    self.views.pop(conn, None)
                    self.gone[conn] = code
                case Send(to, text):
                    assert len(set(to)) == len(to)
                    for conn in to:
                        self.hear(conn, json.loads(text))

    def hear(self, conn: int, body: dict[str, Any]) -> None:
        assert conn not in self.gone, "a frame to a connection that is closed"
        match body["type"]:
            case "peer-joined":
                assert body["peerId"] != self.who[conn][1], "his own notice"
                assert body["peerId"] not in self.views[conn], "seen twice"
                self.views[conn].add(body["peerId"])
            case "peer-left":
                self.views[conn].remove(body["peerId"])
            case "error":
                self.answered.append((conn, body["code"]))
            case _:
                assert conn in self.views and conn != body["by"]
                pair = self.owner(body["by"]), self.owner(conn)
                assert self.newest.get(pair, 0) < body["n"], "overtaken, or heard twice"
                self.newest[pair] = body["n"]
                self.got[conn].append(body)

    def owner(self, conn: int) -> tuple[Any, ...]:
        return self.who[conn] if self.who[conn][2] is not None else (conn,)

    # --- the ledger

    def speak(self, member: Member, *, empty: bool = False, lose: bool = False) -> bool:
        """Say one batch. ``lose`` its answer. False: there was nothing to say."""
        if member.broken or member.run != self.run:
            self.reconnect(member)
        node = member.node
        batch = node.next_batch(empty=empty)
        if batch is None:
            return False
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set("now", repr(self.now))
            self.script(
                keys=["t:"],
                args=[
                    *(member.run, node.name, batch.number, int(batch.number == 1), int(LEASE * 1000)),
                    *(node.entries_read, node.bytes_read, 1000, 100_000, *batch.words),
                ],
                client=pipe,
            )
            (status, _) = pipe.execute()[1]
        member.broken = lose
        if lose:
            return True
        if status == b"forgotten":
            self.begin(member)
        else:
            node.outgoing.acknowledge()
        return True

    def begin(self, member: Member) -> None:
        member.life += 1
        member.run = self.run
        self.see(member.node.register(f"{member.token}.{member.life}"))

    def listen(self, member: Member, most: int = 1000) -> bool:
        """Read up to ``most`` entries of the inbox. False: there was none."""
        node = member.node
        found: Any = self.redis.xrange(f"t:in:{node.name}", f"{node.entries_read + 1}-0", "+", most)
        for number, fields in found:
            try:
                self.see(node.process(int(number.split(b"-")[0]), fields[b"h"], fields.get(b"t"), self.now))
            except InboxError:
                self.begin(member)
                break
        return bool(found)

    def restart(self, *, empty: bool = True) -> None:
        """Redis was restarted; ``empty``, or with what it held before."""
        self.count += 1
        self.run = f"run-{self.count}"
        if empty:
            self.redis.flushall()

    def reconnect(self, member: Member) -> None:
        """As the shell does: another run, or a first batch that was not answered, begins another life."""
        member.broken = False
        if member.run != self.run or member.node.outgoing.first_batch_in_flight:
            self.begin(member)

    def kill(self, member: Member) -> None:
        self.members.remove(member)
        for conn, where in self.where.items():
            if where is member:
                self.views.pop(conn, None)
                self.gone.setdefault(conn, 1006)

    def advance(self, seconds: float, frozen: Iterable[Member] = ()) -> None:
        """Time passes; who is not frozen does what is due, and beats."""
        frozen = list(frozen)
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            for member in self.members:
                if member not in frozen:
                    self.see(member.node.expire(self.now))
                    self.speak(member, empty=True)

    def calm(self) -> None:
        """Everybody speaks and listens until nothing moves; holders that are asked answer."""
        self.calm_without(None)

    def calm_without(self, frozen: Member | None) -> None:
        moving = True
        while moving:
            moving = False
            for member in self.members:
                if member is frozen:
                    continue
                while self.speak(member):
                    moving = True
                while self.listen(member):
                    moving = True
            for conn in self.asked & self.views.keys():
                self.pong(conn)
                moving = True
            self.asked.clear()

    def rest(self, seconds: float = 20.0) -> None:
        """Until every time limit is over."""
        for _ in range(int(seconds)):
            self.advance(1.0)
            self.calm()

    # --- what must hold

    def ledger(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Who holds which seat: room and id to node and ticket."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for key in self.redis.keys("t:seats:*"):
            room = key.decode().removeprefix("t:seats:/")
            for id, value in self.redis.hgetall(key).items():  # type: ignore[union-attr]
                node, ticket, *_ = value.decode().split(" ")
                found[room, id.decode()] = node, ticket
        return found

    def check(self) -> None:
        """At rest: one id, one seat; every view is the room without oneself."""
        seats = self.ledger()
        held = [(self.who[conn][0], self.who[conn][1]) for conn in self.views]
        assert len(set(held)) == len(held), "two hold one seat"
        assert sorted(held) == sorted(seats)
        for conn, view in self.views.items():
            room, id, _ = self.who[conn]
            member = self.where[conn]
            assert seats[room, id][0] == member.node.name
            assert member.node.name_of(conn) == id and member.node.room_of(conn) == room
            assert view == {other for where, other in seats if where == room} - {id}
            assert set(member.node.peers(room)) == view | {id}
        for member in self.members:
            assert not member.node.outgoing and not member.node.queued
            assert {room for room in member.node.rooms()} == {
                self.who[conn][0] for conn in self.views if self.where[conn] is member
            }
        counts = {
            (key.decode().removeprefix("t:count:/"), node.decode()): int(number)
            for key in self.redis.keys("t:count:*")
            for node, number in self.redis.hgetall(key).items()  # type: ignore[union-attr]
        }
        expected: dict[tuple[str, str], int] = defaultdict(int)
        for (room, _), (node, _) in seats.items():
            expected[room, node] += 1
        assert counts == expected

    def leftovers(self) -> set[bytes]:
        """Keys of rooms and of nodes that are no more."""
        ours = {f"t:{kind}:{member.node.name}".encode() for kind in ("node", "in") for member in self.members}
        return set(self.redis.keys("*")) - ours - {b"t:clock", b"t:nodes", b"now"}
