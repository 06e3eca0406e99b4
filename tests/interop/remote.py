"""A client of the relay whose peer connection belongs to another stack.

    async with join(engine, site.ws, "their", AUDIO, VIDEO) as remote:
        await remote.call("cam")                 # or a peer calls it: it answers
        received = await remote.received()

It has one call at a time, trickles its candidates, and sends ``call`` and ``round`` (docs/protocol.md) unless it is
``plain``, like a client written before they existed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.interop import rtp
from tests.interop.engines import Engine
from tests.interop.rtp import Received
from tests.waiting import STEP

AUDIO: dict[str, Any] = {"kind": "audio"}
VIDEO: dict[str, Any] = {"kind": "video"}
VP9: dict[str, Any] = {"kind": "video", "codec": "VP9"}
DATA: dict[str, Any] = {"kind": "data"}

RELAXED = 20.0
"""Time-out in seconds for what does not measure time."""

_connections = itertools.count(1)


class HungUp(Exception):
    """The peer hung up. ``str()`` is its reason and detail."""


@dataclass
class Gap:
    """The longest time without media, in seconds."""

    seconds: float = 0.0


def longest_gap(arrivals: list[float], started: float) -> float:
    """Return the longest time between two of ``arrivals`` after ``started``, and until now."""
    times = [started, *(at for at in arrivals if at > started), time.monotonic()]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@dataclass
class Connection:
    """The current peer connection."""

    name: str
    peer: str
    call: str | None
    round: int
    described: bool = False
    """Whether the remote description has been applied."""
    sent: bool = False
    """Whether our description has been sent."""
    state: str = "new"


class Remote:
    """See ``join``."""

    def __init__(
        self, engine: Engine, socket: ClientConnection, id_: str, sections: tuple[dict[str, Any], ...], plain: bool
    ) -> None:
        self.engine, self.id = engine, id_
        self.sections = sections
        self.rejected: tuple[str, ...] = ()
        """Kinds of media to reject in offers of the peer."""
        self.hang_ups: list[str] = []
        """Reasons of the hang-ups received, and details."""
        self.answers: list[str] = []
        """Answers received, in order."""
        self.sent: list[str] = []
        """Answers sent, in order."""
        self.sink: rtp.Sink | None = None
        self._socket, self._plain = socket, plain
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connection: Connection | None = None
        self._media = contextlib.AsyncExitStack()
        self._waiting: dict[bool, list[dict[str, Any]]] = {}
        self._answer: asyncio.Future[str] | None = None
        self._offer: dict[str, Any] = {}

    # --- what a test does ---

    async def call(self, peer: str) -> None:
        """Offer our sections, and apply the answer. Raises HungUp."""
        await self._open(peer, None if self._plain else secrets.token_urlsafe(12), 0)
        await self.reoffer()

    async def reoffer(self, ice_restart: bool = False) -> str:
        """Offer on the current connection, apply the answer and return it. Raises HungUp."""
        connection = self._current()
        connection.round += 1
        sdp = (await self._request("offer", iceRestart=ice_restart))["sdp"]
        message: dict[str, Any] = {"type": "offer", "sdp": sdp}
        if connection.call is not None:
            message |= {"call": connection.call, "round": connection.round}
        self._offer = message
        return await self._exchange(message)

    async def repeat_offer(self) -> str:
        """Send the last offer again, byte for byte, and return the answer, which is not applied. Raises HungUp."""
        return await self._exchange(self._offer, apply=False)

    @property
    def offered(self) -> str:
        """The description last offered."""
        return str(self._offer["sdp"])

    async def add(self, section: dict[str, Any]) -> None:
        await self._request("add", section=section)

    async def set_direction(self, kind: str, direction: str) -> None:
        await self._request("direction", kind=kind, direction=direction)

    async def stop(self, kind: str) -> None:
        """Stop the transceiver: the next offer removes its section."""
        await self._request("stop", kind=kind)

    async def hang_up(self) -> None:
        """Hang up."""
        connection = self._current()
        message = {"type": "hang-up", "reason": "hang-up"}
        if connection.call is not None:
            message |= {"call": connection.call, "round": connection.round}
        await self._send(connection.peer, message)
        await self._close()

    async def received(self) -> Received:
        """Return what has been received and decoded until now."""
        if self.sink is not None:
            return self.sink.received()
        return Received(**await self._request("received"))

    @contextlib.asynccontextmanager
    async def measuring_gap(self) -> AsyncIterator[Gap]:
        """Measure the longest time without a received packet until the end of the block."""
        gap, started = Gap(), time.monotonic()
        if self.sink is None:
            await self._request("watch")
        yield gap
        if self.sink is None:
            gap.seconds = (await self._request("gap"))["gap"]
        else:
            gap.seconds = longest_gap(self.sink.arrivals, started)

    async def until_received(self, condition: Callable[[Received], object], timeout: float = RELAXED) -> Received:
        """Wait until ``condition`` is true for what has been received."""
        received = None
        try:
            async with asyncio.timeout(timeout):
                while not condition(received := await self.received()):
                    await asyncio.sleep(STEP)
                return received
        except TimeoutError:
            raise AssertionError(f"{self.engine.name} received {received}") from None

    async def until_connected(self) -> None:
        """Wait until the connectionState is ``connected``."""
        await self._until(lambda: self._connection is not None and self._connection.state == "connected", "connected")

    async def until_hung_up(self) -> str:
        """Wait for a hang-up of the peer, and return its reason."""
        await self._until(lambda: self.hang_ups, "hung up")
        return self.hang_ups[-1]

    async def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + RELAXED
        while not condition():
            assert time.monotonic() < deadline, f"{self.engine.name} is not {what}: {self._connection}"
            await asyncio.sleep(STEP)

    # --- the peer connection ---

    async def _open(self, peer: str, call: str | None, round_: int) -> None:
        await self._close()
        connection = self._connection = Connection(f"{self.id}-{next(_connections)}", peer, call, round_)
        self._waiting = {True: [], False: []}
        self.engine.listeners[connection.name] = self._event
        params: dict[str, Any] = {"sections": list(self.sections), "rejected": list(self.rejected)}
        if self.engine.carries_rtp:
            self.sink = rtp.Sink(lambda: self._start(self.engine.request("keyframe", connection=connection.name)))
            params["sinks"] = await self._media.enter_async_context(rtp.listening(self.sink))
        created = await self._request("create", **params)
        if self.engine.carries_rtp:
            await self._media.enter_async_context(rtp.sending(created["source"]))

    async def _close(self) -> None:
        if self._connection is not None:
            name, self._connection = self._connection.name, None
            del self.engine.listeners[name]
            await self.engine.request("close", connection=name)
        await self._media.aclose()

    def _current(self) -> Connection:
        assert self._connection is not None
        return self._connection

    async def _request(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.engine.request(method, connection=self._current().name, **params)

    def _event(self, event: dict[str, Any]) -> None:
        connection = self._current()
        if event["event"] == "state":
            connection.state = event["state"]
        elif connection.sent:
            self._start(self._send(connection.peer, {"type": "candidate", "candidate": event["candidate"]}))
        else:
            self._waiting[True].append(event["candidate"])

    # --- signaling ---

    async def _exchange(self, message: dict[str, Any], apply: bool = True) -> str:
        connection = self._current()
        answer = self._answer = asyncio.get_running_loop().create_future()
        await self._send(connection.peer, message)
        await self._description_sent()
        async with asyncio.timeout(RELAXED):
            sdp = await answer
        self.answers.append(sdp)
        if apply:
            await self._request("accept", sdp=sdp)
            await self._description_applied()
        return sdp

    async def _description_sent(self) -> None:
        connection = self._current()
        connection.sent = True
        for candidate in self._waiting[True]:
            await self._send(connection.peer, {"type": "candidate", "candidate": candidate})
        self._waiting[True].clear()

    async def _description_applied(self) -> None:
        self._current().described = True
        for candidate in self._waiting[False]:
            await self._request("candidate", candidate=candidate)
        self._waiting[False].clear()

    async def _send(self, to: str, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps({"from": self.id, "to": to} | message))

    async def read(self) -> None:
        """Process messages until the socket is closed."""
        async for text in self._socket:
            await self._receive(json.loads(text))

    async def _receive(self, message: dict[str, Any]) -> None:
        current = self._connection
        match message["type"]:
            case "offer":
                await self._open(message["from"], message.get("call"), message.get("round", 0))
                answer = {"type": "answer"} | await self._request("answer", sdp=message["sdp"])
                answer |= {key: message[key] for key in ("call", "round") if key in message and not self._plain}
                self.sent.append(answer["sdp"])
                await self._send(message["from"], answer)
                await self._description_sent()
                await self._description_applied()
            case "answer" if self._answer is not None and not self._answer.done():
                self._answer.set_result(message["sdp"])
            case "candidate" if current is not None and (candidate := message.get("candidate")):
                if not candidate.get("candidate"):
                    pass  # end-of-candidates
                elif current.described:
                    await self._request("candidate", candidate=candidate)
                else:
                    self._waiting[False].append(candidate)
            case "hang-up":
                why = f"{message.get('reason')}: {message.get('detail', '')}".removesuffix(": ")
                self.hang_ups.append(why)
                if self._answer is not None and not self._answer.done():
                    self._answer.set_exception(HungUp(why))
                await self._close()

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def leave(self) -> None:
        """Close the connection, if there is one."""
        await self._close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def join(
    engine: Engine, server: str, id_: str, *sections: dict[str, Any], plain: bool = False
) -> AsyncIterator[Remote]:
    """Join the room of ``server``. ``sections`` are offered, or sent where a peer offers them."""
    async with connect(server, proxy=None) as socket:
        await socket.send(json.dumps({"type": "join", "peerId": id_}))
        remote = Remote(engine, socket, id_, sections, plain)
        reading = asyncio.create_task(remote.read())
        try:
            yield remote
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await remote.leave()
