"""One relay, from start to stop: its rooms, listeners, certificate and limits. ``sessions`` serves the clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from peer.errors import ConfigError

from .admission.admission import Admission, ConnectionRecord
from .admission.origins import Origins
from .admission.proxies import Proxies
from .admission.tokens import NoTokenCheck, token_check
from .config import RelayConfig
from .errors import CannotListen, RedisUnavailable, UnprotectedRelay
from .memory_estimate import max_memory
from .observability.counters import ClusterCounters, Counters
from .observability.http import MonitoringServer
from .observability.logs import RateLimitedLogger, facts
from .rooms.rooms import Rooms
from .sessions import Sessions
from .transport.addresses import reachable
from .transport.connection import Client
from .transport.handshake import Handshake
from .transport.listener import Listener, is_loopback, max_connections_allowed
from .transport.tls import Certificate

if TYPE_CHECKING:
    from .cluster.redis_link import RedisLink

__all__ = ["CannotListen", "RedisUnavailable", "Relay", "RelayConfig"]

logger = logging.getLogger("server")

_GOING_AWAY: Final = 1001


class Relay:
    """One listening relay. Call ``start``, then ``stop``. A stopped relay cannot be started again.

    Raises:
        ConfigError: a file of ``config`` cannot be used.
    """

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self.counters = Counters()
        self._cluster = self._cluster_rooms(config) if config.cluster is not None else None
        rooms = self._cluster if self._cluster is not None else self._own_rooms(config)
        self._token_check = token_check(config)
        proxies = Proxies(config.trust_proxies)
        self.admission = Admission(config, self.counters, proxies)
        log = RateLimitedLogger(logger)
        self._handshake = Handshake(Origins(config.allow_origins), proxies, self.admission, log)
        if config.tls_key is not None and config.tls_cert is None:
            raise ConfigError("a key without a certificate; add --tls-cert", where="--tls-key")
        self._certificate = Certificate(config.tls_cert, config.tls_key) if config.tls_cert is not None else None
        self.sessions = Sessions(
            config, self.counters, rooms, self.admission, self._handshake, self._token_check, log
        )
        self._stopping = False
        self._listener: Listener[ConnectionRecord] | None = None
        self._monitoring: MonitoringServer | None = None
        self._port = config.port
        self._hosts = reachable(config.host)

    @property
    def port(self) -> int:
        """The port it listens on: the real one if the configured port is 0."""
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
        return not isinstance(self._token_check, NoTokenCheck)

    @property
    def metrics(self) -> str | None:
        """The URL of ``/metrics``; ``None`` without a monitoring server."""
        return f"{self._monitoring.url}metrics" if self._monitoring else None

    def why_not_ready(self) -> str | None:
        """Return why this relay accepts no new peers, or ``None`` if it does."""
        if self._stopping:
            return "stopping"
        return self._cluster.why_not_ready() if self._cluster is not None else None

    async def start(self) -> None:
        """Bind and listen. On return, clients can connect. Raises this process's soft limit of open files.

        Raises:
            CannotListen: the address cannot be bound.
            UnprotectedRelay: other machines can reach it, no token is required, and ``config.open`` is not set.
            RedisUnavailable: the cluster's Redis cannot be used.
        """
        config = self.config
        self.sessions.start()
        limit = max_connections_allowed(config.max_connections)
        self.admission.max_connections = self.sessions.rooms.max_seats = limit
        listener = self._make_listener()
        try:
            loopback = await is_loopback(config.host)
            if not (loopback or config.open or self.requires_token):
                raise UnprotectedRelay(config.host)
            self._handshake.trust_host = self.requires_token or not loopback
            if self._cluster is not None:
                await self._cluster.start()
            await listener.start(config.host, config.port)
        except (OSError, UnicodeError) as exc:  # UnicodeError: not a valid host name
            if self._cluster is not None:
                await self._cluster.stop()
            cause = exc if isinstance(exc, OSError) else OSError(str(exc))
            raise CannotListen(config.host, config.port, cause) from None
        self._listener, self._port = listener, listener.port
        if config.metrics is not None:
            try:
                await self._start_monitoring(*config.metrics)
            except CannotListen:
                await self.stop()
                raise
        memory = max_memory(config, limit)
        found = facts("listening", url=self.url, connections=limit, memory=memory)
        line = "= listening on %s; at most %d connections and %d MB of memory"
        logger.info(line, ", ".join(self.urls), limit, memory >> 20, extra=found)
        if urls := self.sessions.ice.urls:
            logger.info("= ICE servers for peers: %s", ", ".join(urls), extra=facts("ice", urls=urls))

    async def wait_failed(self) -> None:
        """Wait until a bug ends the link to the cluster, and raise it. Without a cluster, wait forever."""
        if self._cluster is not None:
            await self._cluster.wait_failed()
        await asyncio.Event().wait()

    def reload(self) -> None:
        """Read the certificate and the TURN secret again, for new connections and new credentials.

        A file that cannot be used is logged, and the old content stays in use.
        """
        reloads: dict[str, Callable[[], None]] = {}
        if self._certificate is not None:
            reloads["certificate"] = self._certificate.reload
        if self.sessions.ice.has_secret:
            reloads["TURN secret"] = self.sessions.ice.reload
        for what, read in reloads.items():
            try:
                read()
            except ConfigError as exc:
                logger.error("! the old %s stays in use: %s", what, exc)
            else:
                logger.info("= reloaded the %s", what)
        if not reloads:
            logger.info("= nothing to reload: there is no certificate and no TURN secret")

    async def stop(self, code: int = _GOING_AWAY, reason: str = "the relay is shutting down") -> None:
        """Close every client with ``code``, without ``peer-left`` to the others, and stop listening.

        Returns when all connections have ended, within ``close_timeout`` seconds.
        """
        if self._stopping or self._listener is None:
            return
        self._stopping = True
        self._listener.close()
        if self._cluster is not None:
            self._cluster.drain()
        logger.info("= stopping; open connections: %d", len(self.sessions.clients), extra=facts("stopping"))
        await self.sessions.stop(code, reason)
        await self._listener.wait_closed()
        if self._cluster is not None:
            await self._cluster.stop()
        if self._monitoring is not None:
            await self._monitoring.stop()

    def _make_listener(self) -> Listener[ConnectionRecord]:
        admission, tls = self.admission, self._certificate
        return Listener(
            lambda host: admission.admit(host, monotonic()),
            lambda record: Client(self.sessions, record),
            lambda record: admission.remove(record, monotonic()),
            lambda: admission.count_exceeded("descriptors", "a client", monotonic()),
            tls=None if tls is None else tls.context,
            handshake_timeout=self.config.join_timeout,
            shutdown_timeout=self.config.close_timeout,
        )

    def _own_rooms(self, config: RelayConfig) -> Rooms[Client]:
        return Rooms(
            grace=config.grace,
            takeover_ping=config.takeover_ping,
            max_seat_queue=config.max_seat_queue,
            max_seat_queues=config.max_seat_queues,
            max_rooms=config.max_rooms,
            max_room_peers=config.max_room_peers,
        )

    def _cluster_rooms(self, config: RelayConfig) -> RedisLink[Client]:
        try:
            from .cluster.redis_link import RedisLink  # redis takes 0.1 s and 20 MB; only with --cluster
        except ModuleNotFoundError as exc:
            if exc.name != "redis":
                raise
            hint = "pip install 'headless-webrtc-peer[cluster]'"
            raise ConfigError(f"a cluster needs the library redis; {hint}", where="--cluster") from None
        self.counters.cluster = ClusterCounters()
        return RedisLink(config, self.counters.cluster, lambda commands: self.sessions.execute_from_cluster(commands))

    async def _start_monitoring(self, host: str, port: int) -> None:
        from .observability import prometheus  # prometheus_client takes 50 ms and 5 MB; only with --metrics

        def gauges() -> prometheus.Gauges:
            sessions = self.sessions
            return prometheus.Gauges(
                peers=len(sessions.rooms),
                rooms=len(sessions.rooms.rooms()),
                sockets=len(sessions.clients),
                ready=self.why_not_ready() is None,
                send_queue=sessions.largest_send_queue,
                buffers=sessions.memory_budget.used + sessions.rooms.queued,
            )

        page = prometheus.MetricsPage(self.counters, gauges)
        monitoring = MonitoringServer(
            lambda: (page.render(), prometheus.CONTENT_TYPE), self.why_not_ready, self.counters.lag_seconds.add
        )
        await monitoring.start(host, port)
        self._monitoring = monitoring
        logger.info("= metrics at %s", self.metrics, extra=facts("metrics", url=self.metrics))
