"""Configuration of a relay. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from peer.signaling.messages import MAX_MESSAGE, MAX_MESSAGE_BEFORE_JOIN

MAX_HEAD: Final = 16 * 1024
"""Maximum size of an HTTP request head, in bytes. A larger one is answered with 431."""

MAX_CONNECTIONS: Final = 20_000
"""Default of ``max_connections``, which bounds the memory (``memory_estimate``)."""

_NOT_NEGATIVE: Final = (
    "message_rate",
    "octet_rate",
    "copy_rate",
    "address_sockets",
    "address_connect_rate",
    "address_join_rate",
    "address_message_rate",
    "address_octet_rate",
    "address_copy_rate",
    "max_connections",
    "max_rooms",
    "max_room_peers",
    "max_buffers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Addresses, credentials, time-outs and limits of a relay.

    Raises:
        ValueError: a size or a time is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free port, see ``Relay.port``."""

    token: str | None = field(default=None, repr=False)
    """Token that every peer has to send with its join. At most one of this and the next two is allowed."""
    jwt_secret_file: str | None = None
    """File with the secret that tokens are signed with (HS256)."""
    jwt_key: str | None = None
    """PEM file with the public key that verifies signed tokens."""
    open: bool = False
    """Whether to listen beyond loopback without a token."""
    allow_origins: tuple[str, ...] = ()
    """Origins that may connect in addition to the relay's own page and pages from this machine; ``*`` for all."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """Port of the monitoring server (``/metrics``, ``/healthz``, ``/readyz``).

    ``None``: no server. 0: a free port.
    """
    tls_cert: str | None = None
    """PEM file with the certificate and any intermediate ones. ``None``: no TLS."""
    tls_key: str | None = None
    """PEM file with its private key. ``None``: in the same file."""
    trust_proxies: tuple[str, ...] = ()
    """Networks of proxies whose ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are trusted."""

    ice_servers: tuple[str, ...] = field(default=(), repr=False)
    """STUN and TURN servers that are sent to every peer, with their passwords, as for ``--ice-server``."""
    turn_secret_file: str | None = None
    """File with the secret of the TURN servers without user and password (coturn's ``static-auth-secret``).

    Each peer gets expiring credentials of its own.
    """
    turn_lifetime: float = 3600.0
    """Validity of these credentials for new calls. Peers get new ones after half of it."""

    cluster: str | None = field(default=None, repr=False)
    """URL of the cluster's Redis (docs/cluster.md), as for ``--cluster``. ``None``: a standalone relay."""
    cluster_lease: float = 15.0
    """How long a relay may be silent before its peers are reported as gone. Must be the same for all relays."""

    join_timeout: float = 10.0
    """Maximum time from the TCP connection to the ``join``, including the HTTP request."""
    grace: float = 5.0
    """How long a seat with a key outlives its connection (rule 6). 0: not at all."""
    takeover_ping: float = 2.0
    """Time for the holder of an id to answer a ping when another client claims the id (rule 3)."""
    ping_interval: float = 12.0
    """Interval of keepalive pings. A client from which nothing arrives for an interval is dropped.

    A half-open connection is found after at most two intervals: 24 s of the protocol's 30 s.
    """
    close_timeout: float = 5.0
    """Maximum time for the closing handshake. After that, the connection is aborted."""

    max_frame: int = MAX_MESSAGE
    max_frame_before_join: int = MAX_MESSAGE_BEFORE_JOIN
    max_send_queue: int = 4 * 1024 * 1024
    """Maximum size of one client's send queue (rule 7). The list and notices of 10,000 peers take 1.3 MB."""
    max_seat_queue: int = MAX_MESSAGE
    """Maximum size of the messages queued for one seat in grace (rule 6)."""

    # the limits of docs/limits.md; 0: no limit

    message_rate: float = 500
    """Messages per second and connection. Bursts of ten seconds' worth are allowed, as for all rates per second."""
    octet_rate: float = 1024 * 1024
    """Bytes per second and connection."""
    copy_rate: float = 5000
    """Copies per second that a connection's broadcasts result in."""
    address_sockets: int = 500
    """Simultaneous connections per address."""
    address_connect_rate: float = 1200
    """New connections per minute and address. Bursts of one minute's worth are allowed."""
    address_join_rate: float = 600
    """Joins per minute and address, including rejected ones. Bursts of one minute's worth are allowed."""
    address_message_rate: float = 2000
    address_octet_rate: float = 4 * 1024 * 1024
    address_copy_rate: float = 20_000
    """The three rates per second for all connections of an address together."""
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1")
    """Networks without limits per address."""
    max_connections: int = MAX_CONNECTIONS
    """Simultaneous connections. The number of file descriptors is a second limit, and the only one if this is 0."""
    max_rooms: int = 0
    """Simultaneous rooms."""
    max_room_peers: int = 2000
    """Peers per room, including those in grace."""
    max_buffers: int = 256 * 1024 * 1024
    """Size of the data buffered for all clients, in both directions. A quarter is reserved for seats in grace."""

    @property
    def max_seat_queues(self) -> int:
        """Maximum size of the messages queued for all seats in grace: a quarter of ``max_buffers``."""
        return self.max_buffers // 4

    def __post_init__(self) -> None:
        for name in ("join_timeout", "takeover_ping", "ping_interval", "close_timeout", "cluster_lease"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 s")
        if not self.turn_lifetime >= 1:
            raise ValueError("turn_lifetime must be at least 1 s")
        if not self.grace >= 0:
            raise ValueError("grace must not be negative; 0 disables it")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; 0 means no limit")
        if 0 < self.max_buffers < self.max_frame:
            raise ValueError("max_buffers must hold at least one message")
        for name in ("max_frame", "max_frame_before_join", "max_send_queue"):
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} must be at least 1024 bytes")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be 0 to 65535")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise ValueError("metrics_port must be 0 to 65535")
