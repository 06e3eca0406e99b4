"""A relay that is stopped and started again: all peers return, and a call continues."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

from peer import Agent
from peer.call import State
from peer.signaling import backoff
from peer.signaling.client import Disconnected, Joined, MessageReceived, Rejected, SignalingClient, SignalingEvent
from peer.signaling.messages import Join, PeerJoined, PeerLeft

from ..waiting import until
from .wire import DEADLINE, process

CROWD = [f"peer-{n:03}" for n in range(200)]


class Member:
    """A peer without media: its messages, and its view of the room."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.ups = 0
        self.refused: Rejected | None = None
        self.view: set[str] = set()
        self.signaling = SignalingClient(url, Join(name, key=f"key of {name}"), self._told)

    def _told(self, event: SignalingEvent) -> None:
        match event:
            case Joined(peers):
                self.ups += 1
                self.view = set(peers.peers)
            case MessageReceived(PeerJoined(peer)):
                self.view.add(peer)
            case MessageReceived(PeerLeft(peer)):
                self.view.discard(peer)
            case Rejected():
                self.refused = event
            case Disconnected():
                pass


async def test_restart_keeps_two_hundred_peers_and_a_call() -> None:
    async with AsyncExitStack() as stack:
        old = stack.enter_context(process())
        url = f"ws://127.0.0.1:{old.port}/ws"
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        members = [Member(url, name) for name in CROWD]
        running = [tasks.create_task(member.signaling.run()) for member in members]
        a = await stack.enter_async_context(Agent("a", server=url, video="test", size=(160, 120)))
        b = await stack.enter_async_context(Agent("b", server=url, video="test", size=(160, 120)))
        await a.wait_for("b", timeout=DEADLINE)
        call = a.call("b")
        await call.first_frame(DEADLINE)
        everyone = {*CROWD, "a", "b"}
        await until(lambda: all(member.view == everyone - {member.name} for member in members))

        old.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(old.process.wait, DEADLINE)
        stack.enter_context(process(port=old.port))

        await until(lambda: all(member.ups == 2 for member in members), backoff.MAX_RESTART_DELAY + DEADLINE)
        await until(lambda: all(member.view == everyone - {member.name} for member in members))
        await until(lambda: set(a.peers) == everyone - {"a"} and set(b.peers) == everyone - {"b"})
        assert call.state is State.CONNECTED
        assert [member.refused for member in members] == [None] * len(members)
        for task in running:
            task.cancel()
