"""A complete relay and a few clients over real sockets, after any sequence of events. Only the time is simulated.

- Every view is the room without the client itself. A join gets one answer. A connection ends with a documented code.
- A message reaches its recipients once, byte for byte, and in order.
- When all clients have gone and grace is over, the relay is empty, and no exception was raised.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.clock import Clock
from server.relay import Relay, RelayConfig
from server.transport.connection import Client, Phase

from .wire import Raw, frame, text

WHICH = st.integers(0, 7)
"""One of the existing clients."""
CODES = {1002, 1007, 4001, 4400, 4408, 4409}

BAD = {
    "bad-message": [frame(2, b"{}"), text({"type": "peer-left", "peerId": "a"}), frame(1, b"[")],
    "too-large": [frame(1, b"x" * 3000), frame(1, b"x" * 1500, fin=False) + frame(9) + frame(0, b"x" * 1500)],
    "from-mismatch": [text({"type": "wave", "from": "nobody"}), text({"type": "wave"})],
}
"""Messages that are answered, by error code."""
ENDS = {"close": (frame(8, b"\x03\xe8"), 1000), "break": (b"\x81\x01x", 1002), "not UTF-8": (frame(1, b"\xff"), 1007)}
"""Frames that end the connection, with its close code."""


class Caller:
    """One connection, its client at the relay, and the messages received."""

    def __init__(self, raw: Raw, client: Client, peer: str, *, answers: bool) -> None:
        self.raw = raw
        self.client = client
        self.peer = peer
        self.answers = answers
        """Whether it answers pings."""
        self.view: set[str] | None = None
        self.code: int | None = None
        self.received: list[bytes] = []
        self.errors: list[str] = []
        self.last: dict[str, int] = {}

    def receive(self, data: bytes) -> None:
        body = json.loads(data)
        match body["type"]:
            case "peer-list":
                assert self.view is None, "a second answer"
                self.view = set(body["peers"])
            case "error":
                self.errors.append(body["code"])
            case "peer-joined":
                assert self.view is not None and body["peerId"] not in self.view, "seen twice"
                self.view.add(body["peerId"])
            case "peer-left":
                assert self.view is not None
                self.view.remove(body["peerId"])
            case _:
                assert body["n"] > self.last.get(body["from"], 0), "twice, or out of order"
                self.last[body["from"]] = body["n"]
                self.received.append(data)

    async def listen(self, until: bytes | None) -> None:
        """Receive up to the pong ``until``, the list (``None``), or the end."""
        while True:
            try:
                opcode, data = await self.raw.frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                self.code = self.code or 1006
                return
            if opcode == 1:
                self.receive(data)
                if until is None and self.view is not None:
                    return
            elif opcode == 8:
                self.code = int.from_bytes(data[:2])
                self.raw.writer.write(frame(8, data))
            elif opcode == 9 and self.answers:
                self.raw.writer.write(frame(10, data))
            elif opcode == 10 and data == until:
                return


class Life(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.loop = Clock()
        self.raised: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.raised.append(context))
        config = RelayConfig(port=0, max_frame=2048, ping_interval=1e6, max_seat_queue=600)
        self.relay = Relay(config)
        self.loop.run_until_complete(self.relay.start())
        self.callers: list[Caller] = []
        self.joins = self.sent = 0

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)
        self.loop.run_until_complete(self.settle())

    async def settle(self) -> None:
        """Wait until no data is in flight: every client has received and answered everything."""
        for _ in range(3):  # a ping of the relay, its pong, and the result
            await self.noticed()
            for caller in list(self.callers):
                if caller.view is not None:
                    self.sent += 1
                    mark = str(self.sent).encode()
                    caller.raw.writer.write(frame(9, mark))
                    await caller.listen(mark)
                elif caller.client.phase is not Phase.CLAIMING:
                    await caller.listen(None)
                if caller.code is not None:
                    await self.hang_up(caller)

    async def hang_up(self, caller: Caller, *, reset: bool = False) -> None:
        if reset:
            caller.raw.reset()
        else:
            await caller.raw.end()
        self.callers.remove(caller)
        await self.noticed()

    async def noticed(self) -> None:
        """Wait until the relay has noticed all closed connections, except claiming ones, which it does not read."""
        while {c for c in self.relay.sessions.clients if c.phase is not Phase.CLAIMING} - {
            c.client for c in self.callers
        }:
            await asyncio.sleep(0)

    def one(self, which: int) -> Caller:
        admitted = [caller for caller in self.callers if caller.view is not None]
        return admitted[which % len(admitted)]

    # --- events ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.callers) < 6)
    @rule(
        peer=st.sampled_from("aabc"),
        key=st.sampled_from([None, "k", "k", "\ud800"]),
        instance=st.sampled_from([None, "1", "1", "2"]),
        answers=st.booleans(),
    )
    def join(self, peer: str, key: str | None, instance: str | None, answers: bool) -> None:
        async def join() -> None:
            self.joins += 1
            before = set(self.relay.sessions.clients)
            raw = await Raw.open(self.relay.port)
            (client,) = set(self.relay.sessions.clients) - before
            self.callers.append(Caller(raw, client, peer, answers=answers))
            raw.writer.write(text({"type": "join", "peerId": peer, "key": key, "instance": instance}))
            while client.phase is Phase.JOINING:
                await asyncio.sleep(0)

        self.run(join())

    @precondition(lambda self: any(caller.view is not None for caller in self.callers))
    @rule(which=WHICH, to=st.sampled_from(["a", "b", "c", None]), size=st.integers(0, 300), cut=st.integers(1, 400))
    def send(self, which: int, to: str | None, size: int, cut: int) -> None:
        caller = self.one(which)
        assert caller.view is not None
        held = {seat.conn for seat in self.relay.sessions.rooms._seats.values()}
        there = [c for c in self.callers if c.view is not None and c.client in held and c is not caller]
        others = [c for c in there if to in (c.peer, None)]
        self.sent += 1
        body = {"type": "wave", "from": caller.peer, "n": self.sent, "x": "é" * size} | ({"to": to} if to else {})
        data = json.dumps(body, ensure_ascii=False).encode()
        before = {c: len(c.received) for c in self.callers}

        async def send_pieces() -> None:
            pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
            for n, piece in enumerate(pieces):
                caller.raw.writer.write(frame(0 if n else 1, piece, fin=n == len(pieces) - 1))
            await caller.raw.writer.drain()

        self.run(send_pieces())
        for other in self.callers:
            assert other.received[before.get(other, 0) :] == ([data] if other in others else [])
        if to is not None:
            away = to in caller.view and not others  # queued for its owner, unless the queue is full
            assert away or caller.errors == ([] if others else ["peer-not-found"])
            caller.errors.clear()

    @precondition(lambda self: any(caller.view is not None for caller in self.callers))
    @rule(which=WHICH, code=st.sampled_from(sorted(BAD)), form=st.integers(0, 7))
    def say_nonsense(self, which: int, code: str, form: int) -> None:
        caller = self.one(which)
        caller.raw.writer.write(BAD[code][form % len(BAD[code])])
        self.loop.run_until_complete(self.settle())
        assert caller.errors == [code] and caller.code is None, "answered, and the connection stays"
        caller.errors.clear()

    @precondition(lambda self: any(caller.view is not None for caller in self.callers))
    @rule(which=WHICH, how=st.sampled_from(["reset", *ENDS]))
    def end(self, which: int, how: str) -> None:
        caller = self.one(which)

        async def end() -> None:
            if how == "reset":
                await self.hang_up(caller, reset=True)
                return
            data, code = ENDS[how]
            caller.raw.writer.write(data)
            await caller.listen(b"")
            assert caller.code == code
            caller.code = None
            await self.hang_up(caller)

        self.run(end())

    @precondition(lambda self: any(caller.view is None for caller in self.callers))
    @rule(which=WHICH)
    def give_up_a_claim(self, which: int) -> None:
        waiting = [caller for caller in self.callers if caller.view is None]
        self.run(self.hang_up(waiting[which % len(waiting)], reset=True))

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.run(asyncio.sleep(0))

    # --- properties -----------------------------------------------------------------------------------------------

    @invariant()
    def every_view_is_the_room_without_oneself(self) -> None:
        room = set(self.relay.sessions.rooms.peers())
        for caller in self.callers:
            if caller.view is not None:
                assert caller.view == room - {caller.peer}
                assert not caller.errors
            else:
                assert caller.client.phase is Phase.CLAIMING and not caller.errors
        held = [caller.peer for caller in self.callers if caller.view is not None]
        assert len(set(held)) == len(held), "two hold one seat"

    @invariant()
    def nothing_was_raised(self) -> None:
        assert not self.raised

    def teardown(self) -> None:
        async def end() -> None:
            for _ in range(2 + self.joins):  # clients that gave up their claims get the seat in turn, too
                self.loop.advance(2.0)
                await asyncio.sleep(0)
                await self.settle()
            assert all(caller.view is not None for caller in self.callers), "a join was never answered"
            for caller in list(self.callers):
                await self.hang_up(caller, reset=True)
            for _ in range(2 + self.joins):
                self.loop.advance(5.0)
                await asyncio.sleep(0)
                await self.noticed()
            assert (
                not self.relay.sessions.clients
                and not len(self.relay.sessions.rooms)
                and not len(self.relay.sessions.keepalive)
            )
            await self.relay.stop()

        self.loop.run_until_complete(end())
        self.loop.close()
        assert not self.raised


Life.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
