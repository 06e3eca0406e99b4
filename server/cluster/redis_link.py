"""The link of a relay to its cluster: the shell around ``node``. The only user of redis here.

Two connections: one says batches and waits for their answers, one waits for the inbox. When either breaks, both are
made again, and nothing is lost: what was said and not answered is said again, what was not read is read. Redis that
was started anew meanwhile, or that has given this node up, is told everything again under another name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import ssl
from collections.abc import Callable, Coroutine, Sequence
from importlib.resources import files
from typing import Any, Final, Generic

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from peer.errors import ConfigError
from peer.signaling.messages import Envelope, Join

from ..config import RelayConfig
from ..errors import NoLedger
from ..observability.counters import LedgerTally
from ..observability.logs import facts
from ..rooms.rooms import Command
from . import messages
from .address import OPTION, Address, parse_address
from .batch_queue import ROOM
from .node import InboxBroken, Node
from .state import C, Terms

logger = logging.getLogger("server.cluster")

VERSION: Final = "v1"
"""Of the ledger's script and keys; relays of another version are another cluster."""
_START: Final = 5.0  # seconds that Redis has to answer when the relay starts
_GOODBYE: Final = 2.0  # and when it stops
_BACK: Final = (0.1, 0.5)  # seconds until it is tried again
_BLOCK: Final = 500  # milliseconds of one wait for the inbox
_HANDOVER: Final = 1.0


class _Forgotten(Exception):
    """This life of the node is over."""


class Cluster(Generic[C]):
    """What ``room.Rooms`` is for one relay, for one of many.

    Args:
        decided: runs the commands that the others' doings lead to.

    Raises:
        ConfigError: ``config.cluster`` is no address.
    """

    def __init__(
        self, config: RelayConfig, tally: LedgerTally, decided: Callable[[Sequence[Command[C]]], None]
    ) -> None:
        assert config.cluster is not None
        self._address = parse_address(config.cluster)
        self._lease = config.cluster_lease
        self._patience = config.cluster_lease / 5
        """How long Redis may be silent before it counts as away; the ledger measures nodes by the same."""
        self._tally = tally
        self._decided = decided
        self._token = secrets.token_hex(6)
        self._life = 0
        terms = Terms(
            grace=config.grace,
            takeover_ping=config.takeover_ping,
            queue=config.queue,
            queues=config.queues,
            most_rooms=config.max_rooms,
            most_peers=config.max_room_peers,
            join_timeout=config.join_timeout,
            patience=config.cluster_lease / 3,
            room=ROOM,
            settle=config.cluster_lease / 3,
            handover=min(_HANDOVER, self._patience),
        )
        self._node: Node[C] = Node(f"{self._token}.0", terms)
        self._run_id = ""
        self._script = (files(__package__) / "ledger.lua").read_text()
        self._sha = ""
        self._prefix = f"{self._address.prefix}:{VERSION}:"
        self._work = asyncio.Event()
        self._moved = asyncio.Event()
        self._over = False
        self._beat_at = 0.0
        self._answered_at = 0.0
        self._away = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    # --- as room.Rooms --------------------------------------------------------------------------------------------

    @property
    def most_seats(self) -> int:
        return self._node.most_seats

    @most_seats.setter
    def most_seats(self, most: int) -> None:
        self._node.most_seats = most

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
        self._work.set()
        return commands

    def route(self, conn: C, envelope: Envelope, text: bytes) -> Sequence[Command[C]]:
        commands = self._node.route(conn, envelope, text, self._loop.time())
        if self._node.outgoing:
            self._work.set()
        return commands

    def pong(self, conn: C) -> Sequence[Command[C]]:
        commands = self._node.pong(conn)
        self._work.set()
        return commands

    def leave(self, conn: C, now: float) -> Sequence[Command[C]]:
        commands = self._node.leave(conn)
        self._work.set()
        return commands

    def drop(self, conn: C, now: float) -> Sequence[Command[C]]:
        commands = self._node.drop(conn, now)
        self._work.set()
        return commands

    def expire(self, now: float) -> Sequence[Command[C]]:
        commands = self._node.expire(now)
        self._work.set()
        return commands

    # --- life -----------------------------------------------------------------------------------------------------

    def why_not_ready(self) -> str | None:
        """What keeps this node from taking newcomers; None when nothing does."""
        return "Redis is out of reach" if self._loop.time() - self._answered_at > self._patience else None

    async def start(self) -> None:
        """Enter the cluster.

        Raises:
            NoLedger: Redis cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        entered: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._stay(entered), name="cluster")
        self._task.add_done_callback(_tell_bug)
        try:
            async with asyncio.timeout(_START):
                await entered
        except NoLedger:
            await self._end()
            raise
        except TimeoutError:
            await self._end()
            raise NoLedger(str(self._address), f"no answer in {_START:.0f} s") from None
        logger.info("= in the cluster at %s", self._address, extra=facts("cluster", url=str(self._address)))

    def quit(self) -> None:
        """Leave this node's seats to the others; nothing is asked of it any more but ``stop``."""
        self._node.quit(self._loop.time())
        self._work.set()

    async def stop(self) -> None:
        """Leave the cluster. Returns after two seconds at the latest."""
        if self._task is None:
            return
        if self.why_not_ready() is None:
            try:
                async with asyncio.timeout(_GOODBYE):
                    await self._until(lambda: self._node.is_quit)
                    self._node.outgoing.say(messages.Bye())
                    await self._until(lambda: not self._node.outgoing)
            except TimeoutError:
                logger.warning("! left the cluster without a goodbye; the others see it when the lease is over")
        await self._end()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._over = True
            task.cancel()
            await asyncio.wait([task])

    async def _until(self, holds: Callable[[], bool]) -> None:
        self._work.set()
        while not holds():
            self._moved.clear()
            await self._moved.wait()

    async def _stay(self, entered: asyncio.Future[None]) -> None:
        """Keep the link up for ever; a first failure is told to ``entered``."""
        while self._task is not None:
            forgotten, broken = False, None
            try:
                async with self._client() as client:
                    await self._prepare(client)
                    self._over = self._task is None
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._until_over(self._say(client, entered)), name="cluster says")
                        tasks.create_task(self._until_over(self._hear(client)), name="cluster hears")
            except* (_Forgotten, InboxBroken):
                forgotten = True
            except* (RedisError, OSError, NoLedger) as group:
                broken = _first(group)
            if broken is not None and not entered.done():
                entered.set_exception(_translated(broken, self._address))
                return
            if broken is not None:
                self._lost(broken)
                await asyncio.sleep(random.uniform(*_BACK))
            # an error of the script itself: a part of the batch may have been done, and it is not known which
            if forgotten or type(broken) is ResponseError:
                self._begin()

    def _client(self) -> redis.Redis:
        where = self._address
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": where.cacert} if where.tls else {}
        return redis.Redis(
            host=where.host,
            port=where.port,
            db=where.db,
            username=where.username,
            password=where.password,
            protocol=2,
            socket_connect_timeout=self._patience,
            socket_timeout=self._patience,
            retry=Retry(NoBackoff(), 0),  # saying a batch again is ours to do
            client_name="peer-relay",
            **tls,
        )

    async def _prepare(self, client: redis.Redis) -> None:
        server, memory = await client.info("server"), await client.info("memory")
        if server.get("redis_mode") == "cluster":
            raise NoLedger(str(self._address), "it is a Redis Cluster; use a single Redis")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not self._run_id:
            logger.warning("! Redis may throw keys away (maxmemory-policy %s); set it to noeviction", policy)
        self._sha = await client.script_load(self._script)
        if server["run_id"] != self._run_id or self._node.outgoing.first_is_unanswered:
            self._run_id = server["run_id"]
            self._begin()

    def _begin(self) -> None:
        """Another life of this node."""
        if self._life:
            self._tally.lives += 1
            logger.warning("! the cluster does not know this relay; its peers sit down again", extra=facts("resumed"))
        self._life += 1
        self._decided(self._node.begin(f"{self._token}.{self._life}"))

    def _lost(self, why: BaseException) -> None:
        self._tally.reconnects += 1
        self._tally.waiting = len(self._node.outgoing)
        if not self._away:
            self._away = True
            text = "Redis at %s is out of reach (%s); peers of this relay go on, others wait"
            logger.warning("! " + text, self._address, _reason(why), extra=facts("ledger-lost"))

    # --- the two connections --------------------------------------------------------------------------------------

    async def _until_over(self, half: Coroutine[Any, Any, None]) -> None:
        """Python 3.11's ``wait_for``, with which the library sends, may swallow a cancellation: who did not notice
        ends by ``_over``."""
        try:
            await half
        finally:
            self._over = True

    async def _say(self, client: redis.Redis, entered: asyncio.Future[None]) -> None:
        node, loop, tally = self._node, self._loop, self._tally
        beat = self._lease / 15
        while not self._over:
            batch = node.take(empty=loop.time() >= self._beat_at)
            tally.waiting = len(node.outgoing)
            if batch is None:
                self._work.clear()
                try:
                    async with asyncio.timeout_at(self._beat_at):
                        await self._work.wait()
                except TimeoutError:
                    pass
                continue
            said_at = loop.time()
            self._beat_at = said_at + beat
            status, nodes = await client.evalsha(
                self._sha,
                1,
                self._prefix,
                self._run_id,
                node.name,
                str(batch.number),
                "1" if batch.number == 1 else "0",
                str(int(self._lease * 1000)),
                str(node.read),
                str(node.heard),
                *map(str, messages.INBOX),
                *batch.words,
            )
            if status != b"ok":
                raise _Forgotten
            node.outgoing.done()
            self._answered_at = loop.time()
            tally.round_trip_seconds.add(self._answered_at - said_at)
            tally.nodes = int(nodes)
            self._moved.set()
            if not entered.done():
                entered.set_result(None)
            if self._away:
                self._away = False
                logger.info("= Redis is back", extra=facts("ledger-back"))

    async def _hear(self, client: redis.Redis) -> None:
        node = self._node
        inbox = f"{self._prefix}in:{node.name}"
        block = max(1, min(_BLOCK, int(self._patience * 500)))
        while not self._over:
            found: Any = await client.xread({inbox: f"{node.read}-0"}, count=messages.READ, block=block)
            commands: list[Command[C]] = []
            now = self._loop.time()
            try:
                for number, fields in found[0][1] if found else ():
                    commands += node.hear(int(number.partition(b"-")[0]), fields[b"h"], fields.get(b"t"), now)
            finally:
                if found:
                    self._decided(commands)
                    self._moved.set()
                    self._work.set()


def _tell_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (bug := task.exception()) is not None:
        logger.error("! the link to the cluster has ended; this relay is not ready any more", exc_info=bug)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _translated(found: BaseException, address: Address) -> Exception:
    match found:
        case NoLedger():
            return found
        case AuthenticationError():
            return NoLedger(str(address), "it does not take this user and password")
        case ssl.SSLError() | FileNotFoundError() if address.cacert:
            return ConfigError(f"{address.cacert}: {found}", where=OPTION)
    return NoLedger(str(address), _reason(found))


def _reason(found: BaseException) -> str:
    """The system's words where it has some: the library's repeat the address."""
    cause = found if isinstance(found, OSError) else found.__cause__ or found.__context__
    if isinstance(cause, ssl.SSLError):
        return str(cause)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(found) or type(found).__name__
