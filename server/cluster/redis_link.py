"""The link of a relay to its cluster: the shell around ``node``, which runs it with the ledger in Redis.

There are two connections to Redis. One sends batches and waits for their answers, the other waits for inbox entries.
When either breaks, both are made again. Nothing is lost: an unanswered batch is sent again, and unread entries are
read then. If Redis was restarted in the meantime, or has removed this node, the node registers under a new name.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic

from peer.errors import ConfigError
from peer.signaling.messages import Envelope, Join

from ..config import RelayConfig
from ..errors import RedisUnavailable
from ..observability.counters import ClusterCounters
from ..observability.logs import facts
from ..rooms.rooms import Command
from . import messages
from .address import parse_address
from .batch_queue import MAX_MESSAGES
from .node import InboxError, Node
from .redis_ledger import LedgerConnection, RedisLedger, ScriptFailed, Unregistered
from .state import C, NodeConfig

logger = logging.getLogger("server.cluster")

_START_TIMEOUT: Final = 5.0
"""Maximum time for Redis to answer when the relay starts, in seconds. A wrong address should fail soon."""
_STOP_TIMEOUT: Final = 2.0
"""Maximum time for the other nodes to take over the seats when the relay stops, in seconds. A stop must not hang."""
_RETRY_DELAY: Final = (0.1, 0.5)
"""Range of the random delay before a reconnection, in seconds, so that relays do not reconnect at the same time."""
_HANDOVER_TIMEOUT: Final = 1.0
"""Maximum time for which a seat waits for the messages queued at its previous node, in seconds. The
joining peer waits as long."""


class RedisLink(Generic[C]):
    """The rooms of a relay in a cluster, with the interface of ``rooms.Rooms``.

    Args:
        execute: runs commands that result from events at other relays.

    Raises:
        ConfigError: ``config.cluster`` is not an address.
    """

    def __init__(
        self, config: RelayConfig, counters: ClusterCounters, execute: Callable[[Sequence[Command[C]]], None]
    ) -> None:
        assert config.cluster is not None
        self._address = parse_address(config.cluster)
        self._lease = config.cluster_lease
        self._silence_limit = config.cluster_lease / 5
        """Time without an answer after which Redis counts as out of reach, in seconds. The ledger applies the same
        time to nodes (``silent`` in ``ledger.lua``)."""
        self._counters = counters
        self._execute = execute
        self._token = secrets.token_hex(6)
        self._registrations = 0
        limits = NodeConfig(
            grace=config.grace,
            takeover_ping=config.takeover_ping,
            max_seat_queue=config.max_seat_queue,
            max_seat_queues=config.max_seat_queues,
            max_rooms=config.max_rooms,
            max_room_peers=config.max_room_peers,
            join_timeout=config.join_timeout,
            message_timeout=config.cluster_lease / 3,
            max_messages=MAX_MESSAGES,
            settle_time=config.cluster_lease / 3,
            handover_timeout=min(_HANDOVER_TIMEOUT, self._silence_limit),
        )
        self._node: Node[C] = Node(f"{self._token}.0", limits)
        self._ledger = RedisLedger(self._address, self._lease, self._silence_limit)
        self._run_id = ""
        self._has_work = asyncio.Event()
        self._progress = asyncio.Event()
        self._stopping = False
        self._heartbeat_at = 0.0
        self._answered_at = 0.0
        self._out_of_reach = False
        self._task: asyncio.Task[None] | None = None
        self._bug: BaseException | None = None
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    # --- the interface of rooms.Rooms -----------------------------------------------------------------------------

    @property
    def max_seats(self) -> int:
        return self._node.max_seats

    @max_seats.setter
    def max_seats(self, limit: int) -> None:
        self._node.max_seats = limit

    @property
    def queued(self) -> int:
        return self._node.queued

    @property
    def deadline(self) -> float | None:
        return self._node.deadline

    def rooms(self) -> list[str]:
        return self._node.rooms()

    def peers(self, room: str = "") -> list[str]:
        return self._node.peers(room)

    def name(self, conn: C) -> str | None:
        return self._node.name_of(conn)

    def room(self, conn: C) -> str | None:
        return self._node.room_of(conn)

    def __len__(self) -> int:
        return len(self._node)

    def join(self, conn: C, join: Join, now: float) -> Sequence[Command[C]]:
        commands = self._node.join(conn, join, now)
        self._has_work.set()
        return commands

    def route(self, conn: C, envelope: Envelope, text: bytes) -> Sequence[Command[C]]:
        commands = self._node.route(conn, envelope, text, self._loop.time())
        if self._node.outgoing:
            self._has_work.set()
        return commands

    def pong(self, conn: C) -> Sequence[Command[C]]:
        commands = self._node.pong(conn)
        self._has_work.set()
        return commands

    def leave(self, conn: C, now: float) -> Sequence[Command[C]]:
        commands = self._node.leave(conn)
        self._has_work.set()
        return commands

    def drop(self, conn: C, now: float) -> Sequence[Command[C]]:
        commands = self._node.drop(conn, now)
        self._has_work.set()
        return commands

    def expire(self, now: float) -> Sequence[Command[C]]:
        commands = self._node.expire(now)
        self._has_work.set()
        return commands

    # --- life -----------------------------------------------------------------------------------------------------

    def why_not_ready(self) -> str | None:
        """Return why this relay accepts no new peers, or ``None`` if it does."""
        return "Redis is out of reach" if self._loop.time() - self._answered_at > self._silence_limit else None

    async def start(self) -> None:
        """Join the cluster.

        Raises:
            RedisUnavailable: Redis cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        registered: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._keep_connected(registered), name="cluster")
        self._task.add_done_callback(self._on_end)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                await registered
        except RedisUnavailable:
            await self._end()
            raise
        except TimeoutError:
            await self._end()
            raise RedisUnavailable(str(self._address), f"no answer in {_START_TIMEOUT:.0f} s") from None
        logger.info("= joined the cluster at %s", self._address, extra=facts("cluster", url=str(self._address)))

    async def wait_failed(self) -> None:
        """Wait until a bug ends the link, and raise it: this relay can never accept a peer again."""
        while self._bug is None:
            self._ended.clear()
            await self._ended.wait()
        raise self._bug

    def drain(self) -> None:
        """Hand over the seats of this relay to the other relays. After this, only ``stop`` may be called."""
        self._node.drain(self._loop.time())
        self._has_work.set()

    async def stop(self) -> None:
        """Leave the cluster. Returns within two seconds."""
        if self._task is None:
            return
        if self.why_not_ready() is None:
            try:
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await self._until(lambda: self._node.is_drained)
                    self._node.outgoing.add(messages.Unregister())
                    await self._until(lambda: not self._node.outgoing)
            except TimeoutError:
                logger.warning("! left the cluster without an answer; the other relays notice when the lease ends")
        await self._end()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._stopping = True
            task.cancel()
            await asyncio.wait([task])

    def _on_end(self, task: asyncio.Task[None]) -> None:
        stopped = self._task is None
        if not task.cancelled():
            self._bug = task.exception()
        elif not stopped:
            self._bug = RuntimeError("the task of the cluster link was cancelled")
        if self._bug is not None:
            logger.error("! the link to the cluster failed; this relay stops", exc_info=self._bug)
        self._ended.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        self._has_work.set()
        while not condition():
            self._progress.clear()
            await self._progress.wait()

    async def _keep_connected(self, registered: asyncio.Future[None]) -> None:
        """Connect, and reconnect forever. An error before the first registration is set on ``registered``."""
        while self._task is not None:
            register, failure = False, None
            try:
                # In a task of its own: after a TaskGroup that failed, ``cancelling()`` of its task stays above 0. On
                # Python before 3.11.3 (Debian 12) the library's time-outs would then raise CancelledError, and end
                # this loop.
                await self._loop.create_task(self._serve_connections(registered), name="cluster connections")
            except* (Unregistered, InboxError):
                register = True
            except* (RedisUnavailable, ConfigError) as group:
                failure = _first(group)
            if failure is not None and not registered.done():
                registered.set_exception(failure)
                return
            if failure is not None:
                self._connection_lost(failure)
                await asyncio.sleep(random.uniform(*_RETRY_DELAY))
            if register or isinstance(failure, ScriptFailed):
                self._register()

    async def _serve_connections(self, registered: asyncio.Future[None]) -> None:
        """Connect, and use both connections until one of them fails."""
        async with self._ledger.connect() as connection:
            if connection.run_id != self._run_id or self._node.outgoing.first_batch_in_flight:
                self._run_id = connection.run_id
                self._register()
            self._stopping = self._task is None
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_either_ends(self._send(connection, registered)), name="cluster send")
                tasks.create_task(self._until_either_ends(self._receive(connection)), name="cluster receive")

    def _register(self) -> None:
        """Register the node under a new name."""
        if self._registrations:
            self._counters.resumptions += 1
            logger.warning(
                "! the cluster has dropped this relay; registering its peers again", extra=facts("resumed")
            )
        self._registrations += 1
        self._execute(self._node.register(f"{self._token}.{self._registrations}"))

    def _connection_lost(self, failure: Exception) -> None:
        self._counters.reconnects += 1
        self._counters.waiting = len(self._node.outgoing)
        if not self._out_of_reach:
            self._out_of_reach = True
            text = "Redis at %s is out of reach (%s); peers of this relay continue, new ones wait"
            why = failure.why if isinstance(failure, RedisUnavailable) else failure
            logger.warning("! " + text, self._address, why, extra=facts("ledger-lost"))

    # --- the two connections --------------------------------------------------------------------------------------

    async def _until_either_ends(self, half: Coroutine[Any, Any, None]) -> None:
        """Run one connection, and let the other one end with it.

        ``wait_for`` of Python 3.11, with which the library sends, may swallow the cancellation by the task group.
        Both halves therefore check ``_stopping`` as well.
        """
        try:
            await half
        finally:
            self._stopping = True

    async def _send(self, connection: LedgerConnection, registered: asyncio.Future[None]) -> None:
        node, loop, counters = self._node, self._loop, self._counters
        heartbeat = self._lease / 15
        while not self._stopping:
            batch = node.next_batch(empty=loop.time() >= self._heartbeat_at)
            counters.waiting = len(node.outgoing)
            if batch is None:
                self._has_work.clear()
                try:
                    async with asyncio.timeout_at(self._heartbeat_at):
                        await self._has_work.wait()
                except TimeoutError:
                    pass
                continue
            sent_at = loop.time()
            self._heartbeat_at = sent_at + heartbeat
            counters.nodes = await connection.execute(
                node.name, batch, entries_read=node.entries_read, bytes_read=node.bytes_read
            )
            node.outgoing.acknowledge()
            self._answered_at = loop.time()
            counters.round_trip_seconds.add(self._answered_at - sent_at)
            self._progress.set()
            if not registered.done():
                registered.set_result(None)
            if self._out_of_reach:
                self._out_of_reach = False
                logger.info("= Redis is back", extra=facts("ledger-back"))

    async def _receive(self, connection: LedgerConnection) -> None:
        node = self._node
        while not self._stopping:
            entries = await connection.read_inbox(node.name, node.entries_read)
            commands: list[Command[C]] = []
            now = self._loop.time()
            try:
                for entry in entries:
                    commands += node.process(entry, now)
            finally:
                if entries:
                    self._execute(commands)
                    self._progress.set()
                    self._has_work.set()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
