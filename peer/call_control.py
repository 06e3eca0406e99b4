"""Call control: one ``Negotiation`` per remote, with its connections and its call, and one timer for all deadlines.

``dispatch`` passes an event to the negotiation of its remote and executes the returned commands at once, in order. No
command blocks. The negotiation makes all decisions. This module has no access to the room or the relay: messages go
to ``send`` and events to ``publish``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from . import events as ev
from . import negotiation as n
from .call import Call, State
from .log_limit import LimitedLogger
from .media.incoming.track import IncomingMedia
from .playout import Playout
from .request_budget import RequestBudget
from .rtc.connection import Connection, ConnectionOptions
from .rtc.outgoing_tracks import OutgoingTracks
from .rtc.unbundled import UnbundledConnection, split_offer
from .signaling import messages
from .stats import StatsSampler

log = logging.getLogger(__name__)
limited_log = LimitedLogger(log)

MAX_CALLS: Final = 32
"""Maximum number of simultaneous calls: connected ones, and those that we dialed. Further incoming calls are
declined, because each may need an encoder."""

MAX_ATTEMPTS: Final = MAX_CALLS
"""Maximum number of incoming calls that are not connected yet. They do not count as calls: a stranger whose offers
never connect would otherwise occupy all of them for 15 s each. When a node starts, all its viewers call at once."""

MIN_ATTEMPT_TIME: Final = 2.0
"""Time for which an attempt keeps its place when another one needs it, in seconds. Nearly all connect sooner."""

FREE_ATTEMPTS: Final = 4
"""Offers in a row without a connected call that one remote may make at any time."""

ATTEMPT_INTERVAL: Final = 5.0
"""Minimum time between further offers of a remote whose calls do not connect, in seconds."""

FREE_FURTHER_OFFERS: Final = 20
"""Maximum number of offers in a row of one remote that start no call: second offers, repetitions, glare. Each costs
as much CPU as a new call. A conforming peer waits for each answer, and real ones send a handful per call."""

FURTHER_OFFER_INTERVAL: Final = 0.5
"""Time after which a remote may send another such offer, in seconds."""

MAX_WAITING: Final = 4 << 20
"""Memory budget for queued offers and candidates, shared by all remotes, in bytes. Offers wait for an older one to be
answered, candidates for their description. Neither requires a call, so ``MAX_CALLS`` does not bound them. A real
offer has up to 60 kB."""

MAX_WAITING_PER_REMOTE: Final = 512 << 10
"""Maximum size of the queued offers and candidates of one remote, in bytes: two offers of the maximum message
size."""


@dataclass(slots=True)
class Remote:
    """State of one remote: its negotiation, its call and its connections by generation."""

    negotiation: n.Negotiation
    call: Call | None = None
    connections: dict[int, Connection | UnbundledConnection] = field(default_factory=dict)
    current: Connection | UnbundledConnection | None = None
    """The one that carries the call, once that is connected."""
    attempts: int = 0
    """Number of its offers since a call was connected last."""
    attempted_at: float = 0.0
    further_offers: RequestBudget = field(
        default_factory=lambda: RequestBudget(FURTHER_OFFER_INTERVAL, FREE_FURTHER_OFFERS)
    )
    waiting: int = 0
    """Size of its queued offers and candidates, in bytes."""


class CallControl:
    """All calls of one agent.

    Args:
        me: this peer's id.
        tasks: runs the connections and the statistics.
        options: for new connections.
        tracks: creates the outgoing tracks of a new connection.
        playout: shows and plays connected calls.
        send: sends a message to the relay.
        publish: publishes an event of a call.
        is_present: whether a peer is in the room. The state of an absent peer is discarded once its negotiation is
            settled.
    """

    def __init__(
        self,
        me: str,
        tasks: asyncio.TaskGroup,
        *,
        options: ConnectionOptions,
        tracks: Callable[[], OutgoingTracks],
        playout: Playout,
        send: Callable[[messages.Message], None],
        publish: Callable[[ev.Event], None],
        is_present: Callable[[str], bool],
    ) -> None:
        self.remotes: dict[str, Remote] = {}
        self.options = options
        """Options of new connections."""
        self._me = me
        self._tasks = tasks
        self._tracks = tracks
        self._playout = playout
        self._send = send
        self._publish = publish
        self._is_present = is_present
        self._events: deque[tuple[str, n.Event]] = deque()
        self._dispatching = False
        self._waiting = 0  # bytes, of all remotes
        self._timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls that have not ended, by peer."""
        live = {peer: remote.call for peer, remote in self.remotes.items() if remote.call is not None}
        return MappingProxyType(live)

    @property
    def is_full(self) -> bool:
        """Whether the maximum number of calls is reached."""
        return sum(not _is_attempt(call) for call in self.calls.values()) >= MAX_CALLS

    def state(self, peer: str) -> State:
        """Return the state of the call with ``peer``; ``AVAILABLE`` without one."""
        call = self.calls.get(peer)
        return State.AVAILABLE if call is None else call.state

    def dial(self, peer: str, timeout: float) -> None:
        """Call ``peer``, unless there is a call. It ends unless connected within ``timeout`` seconds."""
        self.dispatch(peer, n.Dial(timeout, secrets.token_urlsafe(12)))

    def starts_call(self, peer: str, offer: n.OfferReceived) -> bool:
        """Whether ``offer`` would start a call that our user did not dial: the accept policy decides on it."""
        remote = self.remotes.get(peer)
        return remote is None or remote.negotiation.starts_call(offer)

    def dispatch(self, peer: str, event: n.Event) -> None:
        """Process ``event`` of ``peer``.

        An event that a command causes is processed after all commands of this one.
        """
        self._events.append((peer, event))
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._events:
                self._process(*self._events.popleft())
        finally:
            self._dispatching = False
        self._set_timer()

    def close(self) -> None:
        """Close the remaining connections, whose answers are still being created, and stop the timer.

        All calls must have been hung up.
        """
        for remote in self.remotes.values():
            for connection in remote.connections.values():
                connection.close()
        if self._timer is not None:
            self._timer.cancel()

    # --- commands ---

    def _process(self, peer: str, event: n.Event) -> None:
        remote = self.remotes.get(peer)
        if remote is None:
            remote = self.remotes[peer] = Remote(n.Negotiation(self._me, peer))
        if isinstance(event, n.OfferReceived):
            offer = self._admit_offer(peer, remote, event)
            if offer is None:
                return
            event = offer
        before = remote.negotiation.phase
        commands = remote.negotiation.handle(event, asyncio.get_running_loop().time())
        if remote.negotiation.phase is not before:
            log.debug("= %s: %s", peer, remote.negotiation.phase.value)
        for command in commands:
            self._execute(peer, remote, command)
        self._count_waiting(remote)
        if self._waiting > MAX_WAITING:
            self._drop_waiting()
        if remote.negotiation.settled and not self._is_present(peer):
            self._waiting -= remote.waiting
            del self.remotes[peer]

    def _admit_offer(self, peer: str, remote: Remote, offer: n.OfferReceived) -> n.OfferReceived | None:
        """Return ``offer``, not allowed if it may not become an attempt; ``None`` if it is dropped."""
        if remote.negotiation.waiting_bytes + len(offer.sdp) > MAX_WAITING_PER_REMOTE:
            limited_log.info("= %s: dropped an offer, because too many are queued", peer)
            return None
        if not remote.negotiation.starts_call(offer):
            if remote.further_offers.spend(time.monotonic()):
                limited_log.info("= %s: dropped an offer, because too many follow each other", peer)
                return None
        elif offer.allowed and not self._admit_attempt(peer, remote):
            limited_log.info("= %s: declined, because too many calls do not connect", peer)
            return replace(offer, allowed=False)
        return offer

    def _admit_attempt(self, peer: str, remote: Remote) -> bool:
        """Whether an offer may become an attempt. If there are too many, one is hung up for it.

        That is the one whose remote has failed most often, and of those the oldest. A remote that repeats its offers
        therefore makes room for one that does not.
        """
        now = time.monotonic()
        if remote.attempts >= FREE_ATTEMPTS and now - remote.attempted_at < ATTEMPT_INTERVAL:
            return False
        failed, remote.attempts, remote.attempted_at = remote.attempts, remote.attempts + 1, now
        others = [
            (other.attempts - 1, now - other.call.started_at, name)
            for name, other in self.remotes.items()
            if name != peer and other.call is not None and _is_attempt(other.call)
        ]
        if len(others) >= MAX_ATTEMPTS:
            most_failed, age, name = max(others)
            if most_failed <= failed and age < MIN_ATTEMPT_TIME:
                return False
            self.dispatch(name, n.HangUp("timeout"))
        return True

    def _count_waiting(self, remote: Remote) -> None:
        self._waiting -= remote.waiting
        remote.waiting = remote.negotiation.waiting_bytes
        self._waiting += remote.waiting

    def _drop_waiting(self) -> None:
        """Drop the queued offers and candidates of the remote that has the most, to stay within the budget."""
        peer, largest = max(self.remotes.items(), key=lambda item: item[1].waiting)
        limited_log.info("= %s: dropped %d bytes of queued offers and candidates", peer, largest.waiting)
        largest.negotiation.drop_waiting()
        self._count_waiting(largest)

    def _execute(self, peer: str, remote: Remote, command: n.Command) -> None:
        connections, send = remote.connections, self._send
        match command:
            case n.CreateOffer(generation):
                self._open_connection(peer, remote, generation)
            case n.CreateAnswer(generation, sdp):
                self._open_connection(peer, remote, generation, sdp)
            case n.Renegotiate(generation, sdp, ice_restart):
                connections[generation].ice_servers = self.options.ice_servers  # credentials may have been renewed
                connections[generation].renegotiate(sdp, ice_restart=ice_restart)
            case n.ApplyAnswer(generation, sdp):
                connections[generation].apply_answer(sdp)
            case n.AddCandidate(generation, candidate):
                connections[generation].add_candidate(candidate)
            case n.Close(generation):
                connections.pop(generation).close()
            case n.SendOffer(sdp, call, number):
                send(messages.Offer(self._me, peer, sdp, call, number))
            case n.SendAnswer(sdp, call, number):
                send(messages.Answer(self._me, peer, sdp, call, number))
                if remote.call is not None and remote.current is not None:
                    remote.call._set_kinds(remote.current.receives)  # a second offer may have changed them
            case n.SendCandidate(candidate):
                send(messages.Candidate(self._me, peer, candidate))
            case n.SendHangUp(why, detail, call, number):
                send(messages.HangUp(self._me, peer, why, detail, call, number))
            case n.CallStarted(incoming):
                self._start_call(peer, remote, incoming)
            case n.CallConnected(generation):
                remote.attempts = 0
                if remote.call is not None and _is_attempt(remote.call) and self.is_full:
                    self.dispatch(peer, n.HangUp())  # others connected meanwhile
                else:
                    self._call_connected(remote, connections[generation])
            case n.CallEnded(reason, detail):
                assert remote.call is not None
                ended, remote.call, remote.current = remote.call, None, None
                ended._set_ended(reason, detail)
                self._playout.remove(peer)

    def _open_connection(self, peer: str, remote: Remote, generation: int, offer: str | None = None) -> None:
        """Open a connection that creates an offer, or the answer to ``offer``."""
        tracks = self._tracks()
        tracks.open()
        # Without a call the offer is answered only because every offer is (rule 4), and its media is ignored.
        incoming = remote.call.media if remote.call is not None else IncomingMedia(lambda _: None)

        def post(event: n.Event) -> None:
            self.dispatch(peer, event)

        parts = [] if offer is None else split_offer(offer, self.options)
        connection: Connection | UnbundledConnection
        if parts:
            connection = UnbundledConnection(generation, tracks, incoming, self.options, post, parts)
        else:
            connection = Connection(generation, tracks, incoming, self.options, post)
        remote.connections[generation] = connection
        self._tasks.create_task(connection.run(), name=f"connection {peer} {generation}")
        if offer is None:
            connection.create_offer()
        else:
            connection.create_answer(offer)

    def _start_call(self, peer: str, remote: Remote, incoming: bool) -> None:
        remote.call = Call(
            peer,
            incoming=incoming,
            tasks=self._tasks,
            publish=self._publish,
            hang_up=lambda reason: self.dispatch(peer, n.HangUp(reason)),
        )
        self._publish(ev.Incoming(peer=peer) if incoming else ev.Calling(peer=peer))

    def _call_connected(self, remote: Remote, connection: Connection | UnbundledConnection) -> None:
        """Report a connected call, or continue one on another connection: its program notices no difference."""
        call = remote.call
        assert call is not None
        remote.current = connection
        if call.connected_at is None:
            call._set_connected(connection.receives)
            self._playout.add(call)
        else:
            call._set_kinds(connection.receives)
        self._tasks.create_task(self._report_stats(remote, call, connection), name=f"stats {call.peer}")

    async def _report_stats(self, remote: Remote, call: Call, connection: Connection | UnbundledConnection) -> None:
        sampler = StatsSampler(call.peer, call.media)
        while call.reason is None and remote.current is connection:
            try:
                async with asyncio.timeout(1.0):
                    await call.ended()
            except TimeoutError:
                try:
                    stats = sampler.sample(await connection.stats())
                    if call.reason is None and remote.current is connection:
                        call._set_stats(stats)
                except Exception:  # aiortc's; one second without statistics must not end the call
                    limited_log.exception("cannot read the statistics of the call with %s", call.peer)

    # --- deadlines ---

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [remote.negotiation.deadline for remote in self.remotes.values()]
        earliest = min((deadline for deadline in due if deadline is not None), default=None)
        if earliest is not None:
            self._timer = asyncio.get_running_loop().call_at(earliest, self._expire_deadlines)

    def _expire_deadlines(self) -> None:
        now = asyncio.get_running_loop().time()
        for peer, remote in list(self.remotes.items()):
            if remote.negotiation.deadline is not None and remote.negotiation.deadline <= now:
                self.dispatch(peer, n.Tick())
        self._set_timer()


def _is_attempt(call: Call) -> bool:
    """Whether ``call`` is incoming and not connected yet."""
    return call.incoming and call.connected_at is None
