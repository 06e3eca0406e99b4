"""The relay: the shell around ``room.Rooms``. It owns the sockets, the clock and the keep-alive; it decides nothing.

One thread, no task a client: asyncio's callbacks, one timer for the rooms' next deadline, one for the pings.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from peer.errors import ConfigError
from peer.signaling.messages import (
    CLOSE_BAD_JOIN,
    CLOSE_ID_TAKEN,
    CLOSE_RATE_LIMITED,
    CLOSE_TOO_SLOW,
    CLOSE_UNAUTHORIZED,
    Envelope,
    Error,
    IceServers,
    PeerList,
    ProtocolError,
    dump,
    read_envelope,
    read_join,
)

from .admission.admission import Guard, Visit
from .admission.origins import Origins
from .admission.proxies import Proxies
from .admission.rate_limits import BURST
from .admission.tokens import OpenGate, gate_of
from .config import RelayConfig
from .errors import CannotListen, NoLedger, NotOpen
from .http import Pages, Request
from .ice.handout import Handout
from .memory_budget import Buffers
from .memory_estimate import most_memory
from .observability.counters import LedgerTally, Tally
from .observability.http import Ops
from .observability.logs import Seldom, facts
from .rooms.interface import RoomsInterface
from .rooms.rooms import Admit, Close, Command, Ping, Rooms, Send
from .transport.addresses import reachable
from .transport.connection import Client, Phase
from .transport.frame_reader import text_frame
from .transport.handshake import Door
from .transport.keepalive import Pings
from .transport.listener import Listener, is_loopback, most_connections
from .transport.send_queue import Outbox
from .transport.tls import Certificate

if TYPE_CHECKING:
    from .cluster.redis_link import RedisLink

__all__ = ["CannotListen", "NoLedger", "Relay", "RelayConfig"]

logger = logging.getLogger("server")

_GOING_AWAY: Final = 1001
_CLOSE: Final = {"unauthorized": CLOSE_UNAUTHORIZED, "rate-limited": CLOSE_RATE_LIMITED}
"""What ends a connection that did not join, by the error it was told; else it is CLOSE_BAD_JOIN."""
_READ: Final = 32 * 1024  # octets a turn: a flood costs the others about a millisecond
_REFUSED: Final = {CLOSE_ID_TAKEN: "id-taken", CLOSE_BAD_JOIN: "room-full"}
"""What the rooms told whom they close with this."""
TELL_EVERY: Final = 1.0  # seconds between two `rate-limited` to who goes on


class Relay:
    """One listening relay. ``start``, then ``stop``; a relay that was stopped is not started again.

    Raises:
        ConfigError: a file of ``config`` cannot be used.
    """

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self.buffer = memoryview(bytearray(_READ))
        self.tally = Tally()
        self._cluster = self._in_cluster(config) if config.cluster is not None else None
        self._rooms: RoomsInterface[Client] = self._cluster if self._cluster is not None else self._alone(config)
        self._gate = gate_of(config)
        proxies = Proxies(config.trust_proxies)
        self._guard = Guard(config, self.tally, proxies)
        self.buffers: Buffers[Client] = Buffers(config.max_buffers - config.max_seat_queues, self._relieve)
        self._seldom = Seldom(logger)
        self._door = Door(Origins(config.allow_origins), proxies, self._guard, self._seldom)
        if config.tls_key is not None and config.tls_cert is None:
            raise ConfigError("a key without a certificate; add --tls-cert", where="--tls-key")
        self._certificate = Certificate(config.tls_cert, config.tls_key) if config.tls_cert is not None else None
        self._ice = Handout(config, self.tally, self._tell_ice)
        self._pages = Pages.of_package()
        self._clients: set[Client] = set()
        self._touched: list[Outbox] = []
        self._flush_is_due = False
        self._commands: deque[Command[Client]] = deque()
        self._running = False
        self._stopping = False
        self._empty = asyncio.Event()
        self._pings = Pings(config.ping_interval, self._ping)
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._listener: Listener[Visit] | None = None
        self._ops: Ops | None = None
        self._port = config.port
        self._hosts = reachable(config.host)
        self._loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        """The port it listens on: the real one when the configuration said 0."""
        return self._port

    @property
    def urls(self) -> list[str]:
        """URLs for peers: one per address of this machine if it listens on all of them, otherwise one."""
        scheme = "ws" if self._certificate is None else "wss"
        hosts = [f"[{host}]" if ":" in host else host for host in self._hosts]
        return [f"{scheme}://{host}:{self._port}/ws" for host in hosts]

    @property
    def url(self) -> str:
        """The first of ``urls``."""
        return self.urls[0]

    @property
    def pages(self) -> list[str]:
        """URLs of the web page, in the order of ``urls``."""
        return ["http" + url.removeprefix("ws").removesuffix("ws") for url in self.urls]

    @property
    def page(self) -> str:
        """The first of ``pages``."""
        return self.pages[0]

    @property
    def requires_token(self) -> bool:
        """Whether a join needs a token, shared or signed."""
        return not isinstance(self._gate, OpenGate)

    @property
    def metrics(self) -> str | None:
        """Where /metrics is; None when nobody asked for it."""
        return f"{self._ops.url}metrics" if self._ops else None

    def why_not_ready(self) -> str | None:
        """What keeps new peers from joining here now; None when nothing does."""
        if self._stopping:
            return "stopping"
        return self._cluster.why_not_ready() if self._cluster is not None else None

    # --- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen; on return clients can connect. Raises this process's soft limit of open files.

        Raises:
            CannotListen: the address cannot be bound.
            NotOpen: others reach it, nobody is asked for a token, and ``config.open`` does not say so.
            NoLedger: it was to join a cluster, and Redis cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        config = self.config
        self._guard.most = most_connections(config.max_connections)
        self._rooms.max_seats = self._guard.most
        tls = self._certificate
        listener = Listener(
            lambda host: self._guard.admit(host, monotonic()),
            lambda visit: Client(self, visit),
            lambda visit: self._guard.leave(visit, monotonic()),
            lambda: self._guard.exceeded("descriptors", "somebody", monotonic()),
            tls=None if tls is None else tls.context,
            deadline=config.join_timeout,
            shutdown=config.close_timeout,
        )
        try:
            here_only, asks = await is_loopback(config.host), self.requires_token
            if not (here_only or config.open or asks):
                raise NotOpen(config.host)
            self._door.any_host = asks or not here_only
            if self._cluster is not None:
                await self._cluster.start()
            await listener.start(config.host, config.port)
        except (OSError, UnicodeError) as exc:  # UnicodeError: no name of a host can be spelled like this
            if self._cluster is not None:
                await self._cluster.stop()
            why = exc if isinstance(exc, OSError) else OSError(str(exc))
            raise CannotListen(config.host, config.port, why) from None
        self._listener, self._port = listener, listener.port
        if config.metrics_port is not None:
            try:
                await self._watch(config.metrics_host, config.metrics_port)
            except CannotListen:
                await self.stop()
                raise
        most, memory = self._guard.most, most_memory(config, self._guard.most)
        found = facts("listening", url=self.url, connections=most, memory=memory)
        line = "= listening on %s; at most %d connections and %d MB of memory"
        logger.info(line, ", ".join(self.urls), most, memory >> 20, extra=found)
        if self._ice.urls:
            logger.info("= peers are told of %s", ", ".join(self._ice.urls), extra=facts("ice", urls=self._ice.urls))

    def reload(self) -> None:
        """Read the certificate and the TURN secret again: new connections and new credentials get them, what is there
        goes on. A bad one is told, and not taken."""
        again: dict[str, Callable[[], None]] = {}
        if self._certificate is not None:
            again["certificate"] = self._certificate.reload
        if self._ice.has_secret:
            again["TURN secret"] = self._ice.reload
        for what, read in again.items():
            try:
                read()
            except ConfigError as exc:
                logger.error("! the old %s stays: %s", what, exc)
            else:
                logger.info("= the %s was read again", what)
        if not again:
            logger.info("= nothing to read again: there is no certificate and no TURN secret")

    async def stop(self, code: int = _GOING_AWAY, reason: str = "the relay is shutting down") -> None:
        """Close every client with ``code``, without a ``peer-left`` to anybody, and stop listening.

        Returns when all are gone, after ``close_timeout`` seconds at the latest.
        """
        if self._stopping or self._listener is None:
            return
        self._stopping = True
        self._listener.close()
        if self._cluster is not None:
            self._cluster.drain()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._pings.stop()
        self._ice.stop()
        logger.info("= stopping, %d connections", len(self._clients), extra=facts("stopping"))
        for client in list(self._clients):
            client.close(code, reason)
        try:
            async with asyncio.timeout(self.config.close_timeout):
                while self._clients:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for client in list(self._clients):
                client.abort()
        await self._listener.wait_closed()
        if self._cluster is not None:
            await self._cluster.stop()
        if self._ops is not None:
            await self._ops.stop()

    def _alone(self, config: RelayConfig) -> Rooms[Client]:
        return Rooms(
            grace=config.grace,
            takeover_ping=config.takeover_ping,
            max_seat_queue=config.max_seat_queue,
            max_seat_queues=config.max_seat_queues,
            max_rooms=config.max_rooms,
            max_room_peers=config.max_room_peers,
        )

    def _in_cluster(self, config: RelayConfig) -> RedisLink[Client]:
        try:
            from .cluster.redis_link import RedisLink  # redis takes 0.1 s and 20 MB; only with --cluster
        except ModuleNotFoundError as exc:
            if exc.name != "redis":
                raise
            hint = "pip install 'headless-webrtc-peer[cluster]'"
            raise ConfigError(f"a cluster needs the library redis; {hint}", where="--cluster") from None
        self.tally.ledger = LedgerTally()
        return RedisLink(config, self.tally.ledger, self._decided)

    async def _watch(self, host: str, port: int) -> None:
        from .observability import prometheus  # prometheus_client costs 50 ms and 5 MB: only with --metrics

        def now() -> prometheus.Now:
            fullest = max((client.waiting for client in self._clients), default=0)
            rooms, sockets = self._rooms, len(self._clients)
            ready, held = self.why_not_ready() is None, self.buffers.used + rooms.queued
            return prometheus.Now(len(rooms), len(rooms.rooms()), sockets, ready, fullest, held)

        page = prometheus.Page(self.tally, now)
        ops = Ops(lambda: (page.render(), prometheus.CONTENT_TYPE), self.why_not_ready, self.tally.lag_seconds.add)
        await ops.start(host, port)
        self._ops = ops
        logger.info("= metrics at %s", self.metrics, extra=facts("metrics", url=self.metrics))

    # --- what clients tell (client.Hub) -----------------------------------------------------------------------

    def opened(self, client: Client) -> None:
        self._clients.add(client)
        self.tally.accepted += 1
        if self._stopping:
            client.abort()

    def ended(self, client: Client) -> None:
        self._clients.discard(client)
        self._guard.leave(client.visit, monotonic())
        self._empty.set()

    def asked(self, client: Client, request: Request) -> bytes:
        logger.debug("< %s %s %s", client.address, request.method, request.path)
        health = {"status": "ok", "peers": len(self._rooms), "rooms": len(self._rooms.rooms())}
        return self._pages.answer(request, health)

    def welcomes(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None:
        return self._door.welcomes(client, header)

    def text(self, client: Client, octets: bytes) -> None:
        try:
            text = octets.decode()
        except UnicodeDecodeError:
            self.refuse(client, "bad-message", "not UTF-8")
            return
        try:
            if client.phase is Phase.JOINED:
                envelope = read_envelope(text)
                self.tally.came(envelope.type)
                if logger.isEnabledFor(logging.DEBUG):
                    to = "all" if envelope.to is None else envelope.to[:64]
                    logger.debug("< %s %r to %r, %d octets", self._name(client), envelope.type[:64], to, len(octets))
                if envelope.to is None:
                    commands = self._to_all(client, envelope, octets)
                else:
                    commands = self._rooms.route(client, envelope, octets)
            else:
                client.asked_at = self._loop.time()
                self.tally.came("join")
                self._guard.join(client.visit, client.asked_at)
                join = read_join(text)
                self._gate.check(join)
                commands = self._rooms.join(client, join, self._loop.time())
        except ProtocolError as exc:
            self.refuse(client, exc.code, exc.message)
            return
        if len(commands) == 1 and isinstance(command := commands[0], Send):  # nearly always
            if command.to and command.to[0] is client:  # nobody is sent his own frame: an error
                self.tally.refused[json.loads(command.text)["code"]] += 1
            self._send(command.to, command.text)
            return
        self._run(commands)
        if client.phase is Phase.JOINING:
            client.claim()

    def refuse(self, client: Client, code: str, message: str) -> None:
        """Answer a frame that went nowhere (rule 8): after the join that is all, before it the connection ends."""
        joined = client.phase is Phase.JOINED
        if not joined and code == "bad-message":
            code = "bad-join"
        self.tally.refused[code] += 1
        name, found = self._name(client), {"peer": self._rooms.name(client), "address": client.address, "code": code}
        if code == "unauthorized":
            now = monotonic()
            self._guard.guessed(client.visit, now)
            self._seldom.info(code, now, f"! {name} {code}: {message}", "refused", **found)
        else:
            logger.debug("! %s %s: %s", name, code, message, extra=facts("refused", **found))
        self._send((client,), dump(Error(code, message)).encode())
        if not joined:
            client.close(_CLOSE.get(code, CLOSE_BAD_JOIN), message[:120])

    def too_fast(self, client: Client, ahead: float) -> None:
        """``client`` is ``ahead`` seconds beyond what it may send: it is told, once a second, or closed."""
        now = monotonic()
        meter, phase = client.visit.meter, client.phase
        if ahead <= 2 * BURST and (phase is Phase.CLOSING or now - client.told_at < TELL_EVERY):
            return
        client.told_at = now
        limit = meter.exceeded(now)
        self._guard.exceeded(limit, client.address, now)
        if phase is not Phase.CLOSING:
            self.refuse(client, "rate-limited", self._guard.why(limit))
        if ahead > 2 * BURST:
            client.expel(CLOSE_RATE_LIMITED, self._guard.why(limit))

    def pong(self, client: Client) -> None:
        self._run(self._rooms.pong(client))

    def lost(self, client: Client, *, clean: bool) -> None:
        self._pings.forget(client)
        self._ice.forget(client)
        if self._stopping:
            return
        if (name := self._rooms.name(client)) is not None:
            logger.info("- %s %s", name, "left" if clean else "was lost", extra=facts("left", peer=name, clean=clean))
        now = self._loop.time()
        self._run(self._rooms.leave(client, now) if clean else self._rooms.drop(client, now))

    def _to_all(self, client: Client, envelope: Envelope, text: bytes) -> Sequence[Command[Client]]:
        now = monotonic()
        self._guard.to_all(client.visit, now)
        commands = self._rooms.route(client, envelope, text)
        for command in commands:
            if isinstance(command, Send):
                client.visit.meter.copy(len(text), len(command.to), now)
        self._arm()  # it may wait for other relays too
        return commands

    def _relieve(self) -> None:
        """The buffers are full: who fills them most is closed, until there is room again (docs/limits.md)."""
        for client in self.buffers.fullest():
            if not self.buffers.excess:
                return
            self._guard.exceeded("buffers", client.address, monotonic())
            client.expel(CLOSE_TOO_SLOW, "too slow: the relay needs the memory")
        for client in self.buffers.fullest():  # what their sockets still hold
            if not self.buffers.excess:
                return
            client.abort()

    def touched(self, outbox: Outbox) -> None:
        self._touched.append(outbox)

    def flush(self) -> None:
        """Send what waits, unless presence does: that waits for the end of this turn of the loop, because in a
        storm the same turn brings more of it."""
        if self._touched and not self._flush_is_due:
            self._flush()

    # --- what the rooms decide --------------------------------------------------------------------------------

    def _decided(self, commands: Sequence[Command[Client]]) -> None:
        """The other relays of a cluster did something."""
        if not self._stopping:
            self._run(commands)
            self._flush_soon()

    def _run(self, commands: Iterable[Command[Client]]) -> None:
        """Run commands in the order in which they were decided, also those that running them leads to."""
        self._commands.extend(commands)
        if self._running:
            return
        self._running = True
        try:
            while self._commands:
                match self._commands.popleft():
                    case Send(to, text):
                        self._send(to, text)
                    case Admit(client, peers):
                        self._admit(client, peers)
                    case Ping(client):
                        client.ask()
                    case Close(client, code, reason):
                        found = facts("closed", peer=self._rooms.name(client), address=client.address, code=code)
                        logger.info("> %s closed, %d %s", client.address, code, reason, extra=found)
                        if code in _REFUSED:
                            self.tally.refused[_REFUSED[code]] += 1
                        client.close(code, reason)
        finally:
            self._running = False
        self._arm()

    def _send(self, to: Sequence[Client], text: bytes) -> None:
        frame = text_frame(text)  # once for everybody
        self.tally.sent(len(to), len(frame))
        for client in to:
            client.send(frame)
        if len(to) > 1:
            self._flush_soon()

    def _admit(self, client: Client, peers: tuple[str, ...]) -> None:
        client.admit()
        name = self._name(client)
        self._pings.welcome(client)
        self.tally.join_seconds.add(self._loop.time() - client.asked_at)
        found = facts("joined", peer=name, room=self._rooms.room(client), address=client.address)
        logger.info("+ %s joined from %s", name, client.address, extra=found)
        # last: who has no room for it any more is lost at once, and must be known by then to be forgotten
        self._send((client,), dump(PeerList(peers, self._ice.welcome(client, name))).encode())

    def _tell_ice(self, client: Client, servers: tuple[Mapping[str, Any], ...]) -> None:
        logger.debug("> %s new TURN credentials", self._name(client))
        self._send((client,), dump(IceServers(servers)).encode())
        self._flush_soon()

    def _name(self, client: Client) -> str:
        return self._rooms.name(client) or client.address

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        touched, self._touched = self._touched, []
        for outbox in touched:
            outbox.flush()

    # --- timers -----------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer to the rooms' next deadline."""
        deadline = self._rooms.deadline
        timer = self._deadline_timer
        if timer is not None:
            if deadline is not None and timer.when() <= deadline and not timer.cancelled():
                return  # too early at worst
            timer.cancel()
        self._deadline_timer = None if deadline is None else self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._deadline_timer = None
        # a timer may ring a clock's resolution early
        deadline = self._rooms.deadline
        self._run(self._rooms.expire(max(self._loop.time(), deadline or 0.0)))
        self._flush_soon()

    def _ping(self, clients: Sequence[Client]) -> None:
        for client in clients:
            if not client.ping():
                name = self._name(client)
                logger.info("! %s is silent", name, extra=facts("silent", peer=name, address=client.address))
                client.abort()
        self.flush()
