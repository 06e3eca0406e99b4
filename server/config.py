"""Every number the relay obeys, in one frozen dataclass. Times in seconds, sizes in octets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from peer.signaling.messages import MAX_MESSAGE, MAX_MESSAGE_BEFORE_JOIN

MAX_HEAD: Final = 16 * 1024
"""Octets of one HTTP request head."""


MOST_CONNECTIONS: Final = 20_000

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
    """Where to listen, how long to wait, how much to hold.

    Raises:
        ValueError: a size or a time that cannot work.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one; ``Relay.port`` says which."""

    token: str | None = field(default=None, repr=False)
    """What every peer must send with its join; at most one of this and the next two."""
    jwt_secret_file: str | None = None
    """Tokens are signed with the secret in this file (HS256)."""
    jwt_key: str | None = None
    """Tokens are signed with the private key that belongs to the public one in this PEM file."""
    open: bool = False
    """Whether to listen beyond loopback without any of the three."""
    allow_origins: tuple[str, ...] = ()
    """Websites that may connect besides our own page and those of this machine; ``*`` for all."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """Where /metrics, /healthz and /readyz are for an operator; None: nowhere. 0 takes a free port."""
    tls_cert: str | None = None
    """PEM file of the certificate, and those between it and the root; None: no TLS."""
    tls_key: str | None = None
    """PEM file of its private key; None: in the same file."""
    trust_proxies: tuple[str, ...] = ()
    """Networks whose ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are believed."""

    ice_servers: tuple[str, ...] = field(default=(), repr=False)
    """STUN and TURN servers that peers are told of, as for ``--ice-server``; with their passwords."""
    turn_secret_file: str | None = None
    """The secret of the TURN servers among them that come without a user and a password (coturn's
    ``static-auth-secret``): each peer gets credentials of its own, which end."""
    turn_lifetime: float = 3600.0
    """How long these are good for a new call; half of that later the peer gets others."""

    cluster: str | None = field(default=None, repr=False)
    """The Redis that makes this relay one of many (docs/cluster.md), as for ``--cluster``; None: it is alone."""
    cluster_lease: float = 15.0
    """How long the others wait for a relay that is silent before its peers leave; the same for all of them."""

    join_timeout: float = 10.0
    """From the TCP connection to the ``join``, the HTTP request included."""
    grace: float = 5.0
    """How long a keyed seat outlives its socket (rule 6); 0 turns it off."""
    takeover_ping: float = 2.0
    """How long the holder of an id has to answer when somebody else wants it (rule 3)."""
    ping_interval: float = 12.0
    """Each client is pinged this often, and dropped when a whole interval brought nothing: a half-open socket is
    found after at most two of them, 24 s of the protocol's 30."""
    close_timeout: float = 5.0
    """How long a socket may take to finish the closing handshake before it is aborted."""

    max_frame: int = MAX_MESSAGE
    max_frame_before_join: int = MAX_MESSAGE_BEFORE_JOIN
    max_send_queue: int = 4 * 1024 * 1024
    """Maximum size of one client's send queue (rule 7). The list and notices of 10,000 peers take 1.3 MB."""
    max_seat_queue: int = MAX_MESSAGE
    """Maximum size of the messages queued for one seat in grace (rule 6)."""

    # what follows is in docs/limits.md; 0 is no limit

    message_rate: float = 500
    """Messages a second of one connection; ten seconds' worth at once, as for all rates a second."""
    octet_rate: float = 1024 * 1024
    """Octets a second that one connection sends."""
    copy_rate: float = 5000
    """Copies a second that its frames to all become."""
    address_sockets: int = 500
    """Connections of one address at once."""
    address_connect_rate: float = 1200
    """Its new connections a minute; a minute's worth at once."""
    address_join_rate: float = 600
    """Its joins a minute, those that fail too; a minute's worth at once."""
    address_message_rate: float = 2000
    address_octet_rate: float = 4 * 1024 * 1024
    address_copy_rate: float = 20_000
    """All its connections together, a second."""
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1")
    """Networks whose addresses have no limits of their own."""
    max_connections: int = MOST_CONNECTIONS
    """At once; 0: as many as the descriptors suffice for, which it is never more than."""
    max_rooms: int = 0
    """0: as many as there are peers."""
    max_room_peers: int = 2000
    """Of one room, those in grace too."""
    max_buffers: int = 256 * 1024 * 1024
    """What may wait for and of all clients together; a quarter of it is for seats in grace."""

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
            raise ValueError("grace must not be negative; 0 turns it off")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; 0 is no limit")
        if 0 < self.max_buffers < self.max_frame:
            raise ValueError("max_buffers must hold a frame at least")
        for name in ("max_frame", "max_frame_before_join", "max_send_queue"):
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} must be at least 1024 octets")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be 0 to 65535")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise ValueError("metrics_port must be 0 to 65535")
