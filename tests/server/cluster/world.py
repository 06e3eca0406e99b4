"""A cluster without sockets: pure nodes and the real ledger in a real Redis. The test decides every step.

Time is the test's, in Redis too. Clients are numbers. Each keeps its view of the room, and checks every message.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import redis

from peer.signaling.messages import Envelope, Join
from server.cluster.messages import Entry
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


def timed(ledger: str) -> str:
    """Return the script with the time of the test."""
    assert _TIME in ledger
    return ledger.replace(_TIME, "{call('GET', 'now'), 0}")


LEDGER = timed(_LEDGER)


class Member:
    """A node and its process; ``old``: it runs the ledger's script of an older version, without instances."""

    def __init__(self, token: str, config: NodeConfig, *, old: bool = False) -> None:
        self.token = token
        self.old = old
        self.registrations = 1
        self.run = ""
        self.broken = False
        self.node: Node[int] = Node(f"{token}.1", config)


class World:
    """Nodes, clients and a ledger.

    Args:
        old_ledger: script of an older version, which every other node runs; ``None``: all run the present one.
    """

    def __init__(
        self, client: redis.Redis, config: NodeConfig = CONFIG, nodes: int = 3, *, old_ledger: str | None = None
    ) -> None:
        self.config = config
        client.flushall()
        self.redis = client
        self.script = client.register_script(LEDGER)
        self.old_script = None if old_ledger is None else client.register_script(timed(old_ledger))
        self.now = 1000.0
        self.run = "run-1"
        self.count = 0
        self.members = [self.member() for _ in range(nodes)]
        self.member_of: dict[int, Member] = {}
        self.identity: dict[int, tuple[str, str, str | None]] = {}  # room, id, key
        self.instance: dict[int, str | None] = {}
        self.views: dict[int, set[str]] = {}  # of admitted clients
        self.instances: dict[int, dict[str, str | None]] = {}  # the same, with the instance of each peer
        self.notices: dict[int, list[str]] = defaultdict(list)  # peer-joined and peer-left, as "+a" and "-a"
        self.closed: dict[int, int] = {}  # with the close code
        self.pinged: set[int] = set()
        self.errors: list[tuple[int, str]] = []
        self.received: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.newest: dict[tuple[Any, Any], int] = {}

    def member(self) -> Member:
        self.count += 1
        old = self.old_script is not None and self.count % 2 == 1
        member = Member(f"n{self.count}", self.config, old=old)
        member.run = self.run
        return member

    # --- clients

    def join(
        self, member: Member, id: str, room: str = "", key: str | None = None, instance: str | None = None
    ) -> int:
        self.count += 1
        self.member_of[self.count], self.identity[self.count] = member, (room, id, key)
        self.instance[self.count] = instance = None if member.old else instance
        self.execute(member.node.join(self.count, Join(id, room, key=key, instance=instance), self.now))
        return self.count

    def end(self, conn: int, *, clean: bool) -> None:
        self.views.pop(conn, None)
        self.closed.setdefault(conn, 1000)
        node = self.member_of[conn].node
        self.execute(node.leave(conn) if clean else node.drop(conn, self.now))

    def send(self, conn: int, to: str | None = None) -> int:
        self.count += 1
        text = json.dumps({"type": "hello", "n": self.count, "by": conn, "to": to})
        envelope = Envelope("hello", self.identity[conn][1], to)
        self.execute(self.member_of[conn].node.route(conn, envelope, text.encode(), self.now))
        return self.count

    def pong(self, conn: int) -> None:
        self.pinged.discard(conn)
        self.execute(self.member_of[conn].node.pong(conn))

    def execute(self, commands: Iterable[Any]) -> None:
        for command in commands:
            match command:
                case Admit(conn, peers, instances):
                    assert conn not in self.views and conn not in self.closed and len(set(peers)) == len(peers)
                    assert instances.keys() <= set(peers)
                    self.views[conn] = set(peers)
                    self.instances[conn] = {peer: instances.get(peer) for peer in peers}
                case Ping(conn):
                    assert conn in self.views
                    self.pinged.add(conn)
                case Close(conn, code, _):
                    assert conn not in self.closed
                    self.views.pop(conn, None)
                    self.closed[conn] = code
                case Send(to, text):
                    assert len(set(to)) == len(to)
                    for conn in to:
                        self.receive(conn, json.loads(text))

    def receive(self, conn: int, body: dict[str, Any]) -> None:
        assert conn not in self.closed, "a message to a closed connection"
        match body["type"]:
            case "peer-joined":
                assert body["peerId"] != self.identity[conn][1], "a notice about itself"
                assert body["peerId"] not in self.views[conn], "reported twice"
                self.notices[conn].append("+" + body["peerId"])
                self.views[conn].add(body["peerId"])
                self.instances[conn][body["peerId"]] = body.get("instance")
            case "peer-left":
                self.notices[conn].append("-" + body["peerId"])
                self.views[conn].remove(body["peerId"])
                del self.instances[conn][body["peerId"]]
            case "error":
                self.errors.append((conn, body["code"]))
            case _:
                assert conn in self.views and conn != body["by"]
                pair = self.owner(body["by"]), self.owner(conn)
                assert self.newest.get(pair, 0) < body["n"], "overtaken, or before twice"
                self.newest[pair] = body["n"]
                self.received[conn].append(body)

    def owner(self, conn: int) -> tuple[Any, ...]:
        return self.identity[conn] if self.identity[conn][2] is not None else (conn,)

    # --- the ledger

    def send_batch(self, member: Member, *, empty: bool = False, lose: bool = False) -> bool:
        """Send one batch; with ``lose``, drop the answer. ``False``: there was none."""
        if member.broken or member.run != self.run:
            self.reconnect(member)
        node = member.node
        batch = node.next_batch(empty=empty)
        if batch is None:
            return False
        script, words = self.script, batch.words
        if member.old and self.old_script is not None:
            script, words = self.old_script, without_instances(words)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set("now", repr(self.now))
            script(
                keys=["t:"],
                args=[
                    *(member.run, node.name, batch.number, int(batch.number == 1), int(LEASE * 1000)),
                    *(node.entries_read, node.bytes_read, 1000, 100_000, *words),
                ],
                client=pipe,
            )
            (status, _) = pipe.execute()[1]
        member.broken = lose
        if lose:
            return True
        if status == b"forgotten":
            self.register(member)
        else:
            node.outgoing.acknowledge()
        return True

    def register(self, member: Member) -> None:
        member.registrations += 1
        member.run = self.run
        self.execute(member.node.register(f"{member.token}.{member.registrations}"))

    def read_inbox(self, member: Member, most: int = 1000) -> bool:
        """Process up to ``most`` inbox entries. ``False``: there was none."""
        node = member.node
        found: Any = self.redis.xrange(f"t:in:{node.name}", f"{node.entries_read + 1}-0", "+", most)
        for number, fields in found:
            try:
                entry = Entry(int(number.split(b"-")[0]), fields[b"h"], fields.get(b"t"), fields.get(b"i"))
                self.execute(node.process(entry, self.now))
            except InboxError:
                self.register(member)
                break
        return bool(found)

    def restart(self, *, empty: bool = True) -> None:
        """Restart Redis: ``empty``, or with its old data."""
        self.count += 1
        self.run = f"run-{self.count}"
        if empty:
            self.redis.flushall()

    def reconnect(self, member: Member) -> None:
        """Reconnect as the shell does: register again after a restart, or if the first batch has no answer."""
        member.broken = False
        if member.run != self.run or member.node.outgoing.first_batch_in_flight:
            self.register(member)

    def kill(self, member: Member) -> None:
        self.members.remove(member)
        for conn, where in self.member_of.items():
            if where is member:
                self.views.pop(conn, None)
                self.closed.setdefault(conn, 1006)

    def advance(self, seconds: float, frozen: Iterable[Member] = ()) -> None:
        """Let time pass. Members that are not frozen do what is due, and send heartbeats."""
        frozen = list(frozen)
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            for member in self.members:
                if member not in frozen:
                    self.execute(member.node.expire(self.now))
                    self.send_batch(member, empty=True)

    def settle(self) -> None:
        """Exchange batches and inbox entries until there are none; pinged holders answer."""
        self.settle_without(None)

    def settle_without(self, frozen: Member | None) -> None:
        moving = True
        while moving:
            moving = False
            for member in self.members:
                if member is frozen:
                    continue
                while self.send_batch(member):
                    moving = True
                while self.read_inbox(member):
                    moving = True
            for conn in self.pinged & self.views.keys():
                self.pong(conn)
                moving = True
            self.pinged.clear()

    def wait_out(self, seconds: float = 20.0) -> None:
        """Let all time-outs pass."""
        for _ in range(int(seconds)):
            self.advance(1.0)
            self.settle()

    # --- properties

    def ledger(self) -> dict[tuple[str, str], tuple[str, str]]:
        """All seats in the ledger: room and id to node and ticket."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for key in self.redis.keys("t:seats:*"):
            room = key.decode().removeprefix("t:seats:/")
            for id, value in self.redis.hgetall(key).items():  # type: ignore[union-attr]
                node, ticket, *_ = value.decode().split(" ")
                found[room, id.decode()] = node, ticket
        return found

    def check(self) -> None:
        """Check that ids have one seat each, and that every view is the room without the client itself.

        A view has the instance of the client that holds each seat, unless there are nodes without instances.
        """
        seats = self.ledger()
        held = [(self.identity[conn][0], self.identity[conn][1]) for conn in self.views]
        assert len(set(held)) == len(held), "two clients hold one seat"
        assert sorted(held) == sorted(seats)
        for conn, view in self.views.items():
            room, id, _ = self.identity[conn]
            member = self.member_of[conn]
            assert seats[room, id][0] == member.node.name
            assert member.node.name_of(conn) == id and member.node.room_of(conn) == room
            assert view == {other for where, other in seats if where == room} - {id}
            assert set(member.node.peers(room)) == view | {id}
            if self.old_script is not None:
                continue
            holders = {self.identity[other][1]: other for other in self.views if self.identity[other][0] == room}
            assert self.instances[conn] == {peer: self.instance[holders[peer]] for peer in view}
        for member in self.members:
            assert not member.node.outgoing and not member.node.queued
            assert {room for room in member.node.rooms()} == {
                self.identity[conn][0] for conn in self.views if self.member_of[conn] is member
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
        """Keys of rooms, and of nodes that no longer exist."""
        ours = {f"t:{kind}:{member.node.name}".encode() for kind in ("node", "in") for member in self.members}
        left = set(self.redis.keys("*")) - ours - {b"t:clock", b"t:nodes", b"now"}
        return left if self.old_script is None else {key for key in left if not key.startswith(b"t:instances:")}


_ARGUMENTS = {"join": 7, "resume": 5, "resumed": 0, "leave": 3, "send": 5, "cast": 4, "hand": 4, "settle": 3}
_ARGUMENTS |= {"entrust": 4, "tell": 2, "bye": 0}


def without_instances(words: Iterable[Any]) -> list[Any]:
    """Return the operations in ``words`` as a node without instances sends them."""
    found, rest = [], list(words)
    while rest:
        count = 1 + _ARGUMENTS[rest[0]]
        found += rest[: count - 1] if rest[0] in ("join", "resume") else rest[:count]
        rest = rest[count:]
    return found
