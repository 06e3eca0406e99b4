"""Runs the law: one ``Negotiation`` a remote, with its connections, its call, and one timer for all deadlines.

Events go in by ``feed``; the commands that come back are run in order, at once; none of them blocks. It decides
nothing, and knows neither the room nor the relay: what is to be sent goes to ``send``, what happened to ``publish``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from . import events as ev
from . import negotiation as n
from .call import Call, State
from .media.incoming.track import IncomingMedia
from .playout import Presentation
from .rtc.connection import Connection, ConnectionOptions, OutgoingTracks
from .signaling import messages
from .stats import Gauge

log = logging.getLogger(__name__)

MAX_CALLS: Final = 32
"""Calls at once. Incoming ones beyond that are declined: each costs an encoder."""


@dataclass(slots=True)
class Remote:
    """All we have with one peer."""

    negotiation: n.Negotiation
    call: Call | None = None
    connections: dict[int, Connection] = field(default_factory=dict)


class Exchange:
    """All calls of one agent.

    ``send`` puts a message on the wire, ``tracks`` makes what a new connection sends, ``here`` says whether a peer
    is in the room (all there was with one that is not is forgotten once nothing is owed any more).
    """

    def __init__(
        self,
        me: str,
        tasks: asyncio.TaskGroup,
        *,
        options: ConnectionOptions,
        tracks: Callable[[], OutgoingTracks],
        presentation: Presentation,
        send: Callable[[messages.Message], None],
        publish: Callable[[ev.Event], None],
        here: Callable[[str], bool],
    ) -> None:
        self.remotes: dict[str, Remote] = {}
        self.options = options
        """For the connections to come."""
        self._me = me
        self._tasks = tasks
        self._tracks = tracks
        self._presentation = presentation
        self._send = send
        self._publish = publish
        self._here = here
        self._inbox: deque[tuple[str, n.Event]] = deque()
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> Mapping[str, Call]:
        """The calls that are not over, by peer."""
        live = {peer: remote.call for peer, remote in self.remotes.items() if remote.call is not None}
        return MappingProxyType(live)

    @property
    def full(self) -> bool:
        """Whether there is no room for another call."""
        return len(self.calls) >= MAX_CALLS

    def state(self, peer: str) -> State:
        call = self.calls.get(peer)
        return State.AVAILABLE if call is None else call.state

    def feed(self, peer: str, event: n.Event) -> None:
        """Let ``event`` happen, and everything that follows from it. Not re-entered: what a command causes waits."""
        self._inbox.append((peer, event))
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                self._handle(*self._inbox.popleft())
        finally:
            self._draining = False
        self._set_timer()

    def close(self) -> None:
        """Let go of what still runs, once all calls are hung up: answers that are being made, the timer."""
        for remote in self.remotes.values():
            for connection in remote.connections.values():
                connection.close()
        if self._timer is not None:
            self._timer.cancel()

    # --- running commands ---

    def _handle(self, peer: str, event: n.Event) -> None:
        remote = self.remotes.get(peer)
        if remote is None:
            remote = self.remotes[peer] = Remote(n.Negotiation(self._me, peer))
        before = remote.negotiation.phase
        commands = remote.negotiation.handle(event, asyncio.get_running_loop().time())
        if remote.negotiation.phase is not before:
            log.debug("= %s: %s", peer, remote.negotiation.phase.value)
        for command in commands:
            self._run(peer, remote, command)
        if remote.negotiation.settled and not self._here(peer):
            del self.remotes[peer]

    def _run(self, peer: str, remote: Remote, command: n.Command) -> None:
        connections, send = remote.connections, self._send
        match command:
            case n.CreateOffer(generation):
                self._open(peer, remote, generation).create_offer()
            case n.CreateAnswer(generation, sdp):
                self._open(peer, remote, generation).create_answer(sdp)
            case n.ApplyAnswer(generation, sdp):
                connections[generation].apply_answer(sdp)
            case n.AddCandidate(generation, candidate):
                connections[generation].add_candidate(candidate)
            case n.Close(generation):
                connections.pop(generation).close()
            case n.SendOffer(sdp):
                send(messages.Offer(self._me, peer, sdp))
            case n.SendAnswer(sdp):
                send(messages.Answer(self._me, peer, sdp))
            case n.SendCandidate(candidate):
                send(messages.Candidate(self._me, peer, candidate))
            case n.SendHangUp(reason):
                send(messages.HangUp(self._me, peer, reason))
            case n.CallStarted(incoming):
                self._started(peer, remote, incoming)
            case n.CallConnected(generation):
                self._connected(remote, connections[generation])
            case n.CallEnded(reason):
                assert remote.call is not None
                call, remote.call = remote.call, None
                call._set_ended(reason)
                self._presentation.ended(peer)

    def _open(self, peer: str, remote: Remote, generation: int) -> Connection:
        tracks = self._tracks()
        tracks.open()
        # An offer that is answered only because every offer is: nobody will look at what comes.
        incoming = remote.call.media if remote.call is not None else IncomingMedia(lambda _: None)
        connection = Connection(generation, tracks, incoming, self.options, lambda event: self.feed(peer, event))
        remote.connections[generation] = connection
        self._tasks.create_task(connection.run(), name=f"connection {peer} {generation}")
        return connection

    def _started(self, peer: str, remote: Remote, incoming: bool) -> None:
        remote.call = Call(
            peer,
            incoming=incoming,
            tasks=self._tasks,
            publish=self._publish,
            hang_up=lambda reason: self.feed(peer, n.HangUp(reason)),
        )
        self._publish(ev.Incoming(peer=peer) if incoming else ev.Calling(peer=peer))

    def _connected(self, remote: Remote, connection: Connection) -> None:
        call = remote.call
        assert call is not None
        call._set_connected(connection.receives)
        self._presentation.connected(call)
        self._tasks.create_task(self._measure(call, connection), name=f"stats {call.peer}")

    async def _measure(self, call: Call, connection: Connection) -> None:
        gauge = Gauge(call.peer, call.media)
        while call.reason is None:
            try:
                async with asyncio.timeout(1.0):
                    await call.ended()
            except TimeoutError:
                try:
                    figures = gauge.read(await connection.stats())
                    if call.reason is None:
                        call._set_stats(figures)
                except Exception:  # the engine's; a second without figures ends no call
                    log.exception("no statistics of %s", call.peer)

    # --- time ---

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [remote.negotiation.deadline for remote in self.remotes.values()]
        earliest = min((deadline for deadline in due if deadline is not None), default=None)
        if earliest is not None:
            self._timer = asyncio.get_running_loop().call_at(earliest, self._tick)

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for peer, remote in list(self.remotes.items()):
            if remote.negotiation.deadline is not None and remote.negotiation.deadline <= now:
                self.feed(peer, n.Tick())
        self._set_timer()
