"""Sessions of clients, the shell around the rooms: passes messages to them and executes their commands.

Everything runs in one thread, without a task per client: callbacks of asyncio, one timer for the rooms' next
deadline, and one for keepalive pings.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from peer.signaling.message_json import dump, read_envelope, read_join
from peer.signaling.messages import (
    CLOSE_BAD_JOIN,
    CLOSE_ID_TAKEN,
    CLOSE_INVALID_DATA,
    CLOSE_RATE_LIMITED,
    CLOSE_TOO_SLOW,
    CLOSE_UNAUTHORIZED,
    Envelope,
    Error,
    IceServers,
    PeerList,
    ProtocolError,
)

from .admission.admission import Admission
from .admission.rate_limits import BURST
from .admission.tokens import TokenCheck
from .config import RelayConfig
from .http import Request, StaticFiles
from .ice.handout import Handout
from .memory_budget import MemoryBudget
from .observability.counters import Counters
from .observability.logs import RateLimitedLogger, facts
from .rooms.interface import RoomsInterface
from .rooms.rooms import Admit, Close, Command, Ping, Send
from .transport.connection import Client, Phase
from .transport.frame_reader import text_frame
from .transport.handshake import Handshake
from .transport.keepalive import Keepalive
from .transport.send_queue import SendQueue

logger = logging.getLogger("server")

_CLOSE_CODES: Final = {"unauthorized": CLOSE_UNAUTHORIZED, "rate-limited": CLOSE_RATE_LIMITED}
"""Close code by error code, for a connection that has not joined. Otherwise it is CLOSE_BAD_JOIN."""
_ERROR_CODES: Final = {CLOSE_ID_TAKEN: "id-taken", CLOSE_BAD_JOIN: "room-full"}
"""Error code by close code, for joins that the rooms reject."""
_READ_SIZE: Final = 32 * 1024
"""Maximum size of one read, in bytes. A flood then delays other clients by about a millisecond."""
RATE_LIMITED_INTERVAL: Final = 1.0
"""Minimum time between two ``rate-limited`` errors to one client, in seconds.

One per message would be a flood, too.
"""


class Sessions:
    """All connections of a relay.

    Implements ``transport.connection.RelayInterface``.

    Args:
        rooms: those of this relay, or of its cluster.
        handshake: checks requests to open a WebSocket.
        token_check: checks joins.

    Raises:
        ConfigError: a file of ``config`` cannot be used.
    """

    def __init__(
        self,
        config: RelayConfig,
        counters: Counters,
        rooms: RoomsInterface[Client],
        admission: Admission,
        handshake: Handshake,
        token_check: TokenCheck,
        log: RateLimitedLogger,
    ) -> None:
        self.config = config
        self.counters = counters
        self.rooms = rooms
        self.clients: set[Client] = set()
        self.read_buffer = memoryview(bytearray(_READ_SIZE))
        self.memory_budget: MemoryBudget[Client] = MemoryBudget(
            config.max_buffers - config.max_seat_queues, self._release_memory
        )
        self.ice = Handout(config, counters, self._send_ice_servers)
        self.keepalive = Keepalive(config.ping_interval, self._ping)
        self._admission = admission
        self._handshake = handshake
        self._token_check = token_check
        self._log = log
        self._files = StaticFiles.of_package()
        self._to_flush: list[SendQueue] = []
        self._flush_scheduled = False
        self._commands: deque[Command[Client]] = deque()
        self._executing = False
        self._stopping = False
        self._empty = asyncio.Event()
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()

    async def stop(self, code: int, reason: str) -> None:
        """Close every client with ``code``, without notices to the others.

        Returns when all connections have ended, within ``close_timeout`` seconds.
        """
        self._stopping = True
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self.keepalive.stop()
        self.ice.stop()
        for client in list(self.clients):
            client.close(code, reason)
        try:
            async with asyncio.timeout(self.config.close_timeout):
                while self.clients:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for client in list(self.clients):
                client.abort()

    @property
    def largest_send_queue(self) -> int:
        """Size of the largest send queue, in bytes."""
        return max((client.queued for client in self.clients), default=0)

    # --- events of clients (transport.connection.RelayInterface) ----------------------------------------------

    def client_connected(self, client: Client) -> None:
        self.clients.add(client)
        self.counters.accepted += 1
        if self._stopping:
            client.abort()

    def client_disconnected(self, client: Client) -> None:
        self.clients.discard(client)
        self._admission.remove(client.record, monotonic())
        self._empty.set()

    def http_request(self, client: Client, request: Request) -> bytes:
        logger.debug("< %s %s %s", client.address, request.method, request.path)
        health = {"status": "ok", "peers": len(self.rooms), "rooms": len(self.rooms.rooms())}
        return self._files.answer(request, health)

    def check_handshake(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None:
        return self._handshake.check(client, header)

    def message_received(self, client: Client, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            client.close(CLOSE_INVALID_DATA, "a text message that is not UTF-8")  # RFC 6455 8.1
            return
        try:
            if client.phase is Phase.JOINED:
                envelope = read_envelope(text)
                self.counters.count_received(envelope.type)
                if logger.isEnabledFor(logging.DEBUG):
                    to = "all" if envelope.to is None else envelope.to[:64]
                    logger.debug("< %s %r to %r, %d bytes", self._name(client), envelope.type[:64], to, len(data))
                if envelope.to is None:
                    commands = self._broadcast(client, envelope, data)
                else:
                    commands = self.rooms.route(client, envelope, data)
            else:
                client.join_received_at = self._loop.time()
                self.counters.count_received("join")
                self._admission.check_join(client.record, client.join_received_at)
                join = read_join(text)
                self._token_check.check(join)
                commands = self.rooms.join(client, join, self._loop.time())
        except ProtocolError as exc:
            self.reject(client, exc.code, exc.message)
            return
        if len(commands) == 1 and isinstance(command := commands[0], Send):  # nearly always
            if command.to and command.to[0] is client:  # no client is sent its own message, so this is an error
                self.counters.rejected[json.loads(command.text)["code"]] += 1
            self._send(command.to, command.text)
            return
        self._execute(commands)
        if client.phase is Phase.JOINING:
            client.claim()

    def reject(self, client: Client, code: str, message: str) -> None:
        """Send an error for a message that was not forwarded (rule 8). Before the join, also close the connection."""
        joined = client.phase is Phase.JOINED
        if not joined and code == "bad-message":
            code = "bad-join"
        self.counters.rejected[code] += 1
        name, found = self._name(client), {"peer": self.rooms.name(client), "address": client.address, "code": code}
        if code == "unauthorized":
            now = monotonic()
            self._admission.count_wrong_token(client.record, now)
            self._log.info(code, now, f"! {name} {code}: {message}", "refused", **found)
        else:
            logger.debug("! %s %s: %s", name, code, message, extra=facts("refused", **found))
        self._send((client,), dump(Error(code, message)).encode())
        if not joined:
            client.close(_CLOSE_CODES.get(code, CLOSE_BAD_JOIN), message[:120])

    def rate_exceeded(self, client: Client, ahead: float) -> None:
        """Send ``rate-limited`` to ``client``, which is ``ahead`` seconds ahead of its rate, or close it."""
        now = monotonic()
        meter, phase = client.record.meter, client.phase
        recently = now - client.rate_limited_at < RATE_LIMITED_INTERVAL
        if ahead <= 2 * BURST and (phase is Phase.CLOSING or recently):
            return
        client.rate_limited_at = now
        limit = meter.exceeded(now)
        self._admission.count_exceeded(limit, client.address, now)
        if phase is not Phase.CLOSING:
            self.reject(client, "rate-limited", self._admission.describe(limit))
        if ahead > 2 * BURST:
            client.evict(CLOSE_RATE_LIMITED, self._admission.describe(limit))

    def pong_received(self, client: Client) -> None:
        self._execute(self.rooms.pong(client))

    def client_left(self, client: Client, *, clean: bool) -> None:
        self.keepalive.remove(client)
        self.ice.remove(client)
        if self._stopping:
            return
        if (name := self.rooms.name(client)) is not None:
            reason = "left" if clean else "lost its connection"
            logger.info("- %s %s", name, reason, extra=facts("left", peer=name, clean=clean))
        now = self._loop.time()
        self._execute(self.rooms.leave(client, now) if clean else self.rooms.drop(client, now))

    def request_flush(self, queue: SendQueue) -> None:
        self._to_flush.append(queue)

    def flush(self) -> None:
        """Write the send queues, unless a notice to several clients is among them.

        Notices wait for the end of this iteration of the event loop: when many peers join, it brings more of them.
        """
        if self._to_flush and not self._flush_scheduled:
            self._flush()

    def _broadcast(self, client: Client, envelope: Envelope, text: bytes) -> Sequence[Command[Client]]:
        now = monotonic()
        self._admission.check_broadcast(client.record, now)
        commands = self.rooms.route(client, envelope, text)
        for command in commands:
            if isinstance(command, Send):
                client.record.meter.count_copies(len(text), len(command.to), now)
        self._set_timer()  # in a cluster, the message may wait for Redis, and time out
        return commands

    def _release_memory(self) -> None:
        """Close the clients that hold the most memory, until the budget has room again (docs/limits.md)."""
        for client in self.memory_budget.largest():
            if not self.memory_budget.excess:
                return
            self._admission.count_exceeded("buffers", client.address, monotonic())
            client.evict(CLOSE_TOO_SLOW, "too slow: the relay needs the memory")
        for client in self.memory_budget.largest():  # what their transports still hold
            if not self.memory_budget.excess:
                return
            client.abort()

    # --- commands of the rooms --------------------------------------------------------------------------------

    def execute_from_cluster(self, commands: Sequence[Command[Client]]) -> None:
        """Execute commands that result from events at other relays."""
        if not self._stopping:
            self._execute(commands)
            self._schedule_flush()

    def _execute(self, commands: Iterable[Command[Client]]) -> None:
        """Execute commands in order, followed by those that result from executing them."""
        self._commands.extend(commands)
        if self._executing:
            return
        self._executing = True
        try:
            while self._commands:
                match self._commands.popleft():
                    case Send(to, text):
                        self._send(to, text)
                    case Admit(client, peers, instances):
                        self._admit(client, peers, instances)
                    case Ping(client):
                        client.ping()
                    case Close(client, code, reason):
                        self._close(client, code, reason)
        finally:
            self._executing = False
        self._set_timer()

    def _send(self, to: Sequence[Client], text: bytes) -> None:
        frame = text_frame(text)  # one frame for all recipients
        self.counters.count_sent(len(to), len(frame))
        for client in to:
            client.send(frame)
        if len(to) > 1:
            self._schedule_flush()

    def _admit(self, client: Client, peers: tuple[str, ...], instances: Mapping[str, str]) -> None:
        client.admit()
        name = self._name(client)
        self.keepalive.add(client)
        self.counters.join_seconds.add(self._loop.time() - client.join_received_at)
        found = facts("joined", peer=name, room=self.rooms.room(client), address=client.address)
        logger.info("+ %s joined from %s", name, client.address, extra=found)
        # Last: if this fills the send queue, the client is closed, and removed from everything that it was added to
        # above
        self._send((client,), dump(PeerList(peers, self.ice.add(client, name), instances)).encode())

    def _close(self, client: Client, code: int, reason: str) -> None:
        found = facts("closed", peer=self.rooms.name(client), address=client.address, code=code)
        logger.info("> %s closed, %d %s", client.address, code, reason, extra=found)
        if code in _ERROR_CODES:
            self.counters.rejected[_ERROR_CODES[code]] += 1
        client.close(code, reason)

    def _send_ice_servers(self, client: Client, servers: tuple[Mapping[str, Any], ...]) -> None:
        logger.debug("> %s new TURN credentials", self._name(client))
        self._send((client,), dump(IceServers(servers)).encode())
        self._schedule_flush()

    def _name(self, client: Client) -> str:
        return self.rooms.name(client) or client.address

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        queues, self._to_flush = self._to_flush, []
        for queue in queues:
            queue.flush()

    # --- timers -----------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Set the timer to the rooms' next deadline."""
        deadline = self.rooms.deadline
        timer = self._deadline_timer
        if timer is not None:
            if deadline is not None and timer.when() <= deadline and not timer.cancelled():
                return  # a timer that fires too early does no harm
            timer.cancel()
        self._deadline_timer = None if deadline is None else self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._deadline_timer = None
        # a timer may fire early, by the resolution of the clock
        deadline = self.rooms.deadline
        self._execute(self.rooms.expire(max(self._loop.time(), deadline or 0.0)))
        self._schedule_flush()

    def _ping(self, clients: Sequence[Client]) -> None:
        for client in clients:
            if not client.keepalive():
                name = self._name(client)
                logger.info("! %s does not respond", name, extra=facts("silent", peer=name, address=client.address))
                client.abort()
        self.flush()
