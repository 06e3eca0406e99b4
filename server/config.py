"""Configuration of a relay, each option declared once: name, type, default and description. Pure.

Times are in seconds, sizes in bytes. The command line (``peer.cli.commands.serve``) makes a flag, an environment
variable and a key of the configuration file of each field that has a description. Only programs set the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from peer.signaling.messages import MAX_MESSAGE, MAX_MESSAGE_BEFORE_JOIN

MAX_HEAD: Final = 16 * 1024
"""Maximum size of an HTTP request head, in bytes. A larger one is answered with 431."""

MAX_CONNECTIONS: Final = 20_000
"""Default of ``max_connections``, which bounds the memory (``memory_estimate``)."""


def _option(default: Any, description: str, *, unset: str | None = None, repr: bool = True) -> Any:
    """A field that is an option of ``peer serve``; ``unset`` describes its default in words."""
    return field(default=default, repr=repr, metadata={"description": description, "unset": unset})


def _limit(default: float, description: str) -> Any:
    """A limit of docs/limits.md, which 0 turns off."""
    return field(default=default, metadata={"description": description, "unset": None, "limit": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Addresses, credentials, time-outs and limits of a relay.

    Raises:
        ValueError: a size or a time is out of range. The message begins with the name of the field.
    """

    host: str = _option("127.0.0.1", "Address to listen on; 0.0.0.0 means all.")
    port: int = _option(8080, "Port to listen on; 0 selects a free one and prints it.")

    token: str | None = field(default=None, repr=False)
    """Token that every peer has to send with its join. At most one of this and the next two is allowed."""
    jwt_secret_file: str | None = _option(
        None, "File with the secret that signs tokens (HS256); `peer token` makes them."
    )
    jwt_key: str | None = _option(None, "Public key of signed tokens, in PEM format: P-256, Ed25519 or RSA.")
    open: bool = _option(False, "Accept clients from beyond this machine without a token.")
    allow_origins: tuple[str, ...] = _option(
        (), "Website that may connect, like https://site.example, repeatable; * allows all.", unset="own page"
    )
    """In addition to the relay's own page and to pages from this machine."""

    metrics: tuple[str, int] | None = _option(
        None,
        "Serve /metrics, /healthz and /readyz on this port; without HOST, for this machine only.",
        unset="off",
    )
    """Host and port. Port 0 selects a free one."""
    tls_cert: str | None = _option(None, "TLS certificate in PEM format, with the intermediate certificates.")
    tls_key: str | None = _option(None, "Private key of the certificate, in PEM format.", unset="in the same file")
    trust_proxies: tuple[str, ...] = _option(
        (), "Trust the X-Forwarded-… headers of proxies in this network, repeatable."
    )
    """``X-Forwarded-For``, ``-Proto`` and ``-Host``."""

    ice_servers: tuple[str, ...] = _option(
        (), "STUN or TURN server to announce to all peers, password included; repeatable.", repr=False
    )
    turn_secret_file: str | None = _option(
        None, "File with the TURN server's secret (coturn: static-auth-secret). Each peer gets expiring credentials."
    )
    """For the TURN servers in ``ice_servers`` that have no user and password."""
    turn_lifetime: float = _option(
        3600.0, "How long TURN credentials can start a new call. The relay renews them in time."
    )
    """Peers get new credentials after half of it."""

    cluster: str | None = _option(
        None,
        "Form a cluster with all relays at this Redis: redis://host:6379/0. With a password, prefer PEER_CLUSTER.",
        repr=False,
    )
    cluster_lease: float = 15.0
    """How long a relay may be silent before its peers are reported as gone. Must be the same for all relays."""

    grace: float = _option(5.0, "How long to keep the seat of a peer that lost its connection; 0 turns it off.")
    """Applies to seats with a key (rule 6)."""
    join_timeout: float = _option(10.0, "Time limit from connecting to joining, TLS and HTTP included.")
    takeover_ping: float = 2.0
    """Time for the holder of an id to answer a ping when another client claims the id (rule 3)."""
    ping_interval: float = 12.0
    """Interval of keepalive pings. A client from which nothing arrives for an interval is dropped.

    A half-open connection is found after at most two intervals: 24 s of the protocol's 30 s.
    """
    close_timeout: float = 5.0
    """Maximum time for the closing handshake. After that, the connection is aborted."""

    max_frame: int = _option(MAX_MESSAGE, "Maximum size of a message.")
    max_frame_before_join: int = MAX_MESSAGE_BEFORE_JOIN
    max_send_queue: int = 4 * 1024 * 1024
    """Maximum size of one client's send queue (rule 7). The list and notices of 10,000 peers take 1.3 MB."""
    max_seat_queue: int = MAX_MESSAGE
    """Maximum size of the messages queued for one seat in grace (rule 6)."""

    message_rate: float = _limit(500, "Messages per second per connection.")
    """Bursts of ten seconds' worth are allowed, as for all rates per second."""
    byte_rate: float = _limit(1024 * 1024, "Bytes per second per connection.")
    copy_rate: float = _limit(5000, "Copies per second per connection; a broadcast to 20 peers counts as 20.")
    address_sockets: int = _limit(500, "Connections per address.")
    address_connect_rate: float = _limit(1200, "New connections per minute per address.")
    """Bursts of one minute's worth are allowed."""
    address_join_rate: float = _limit(600, "Joins per minute per address.")
    """Rejected joins count. Bursts of one minute's worth are allowed."""
    address_message_rate: float = _limit(2000, "Messages per second per address.")
    """This and the next two apply to all connections of an address together."""
    address_byte_rate: float = _limit(4 * 1024 * 1024, "Bytes per second per address.")
    address_copy_rate: float = _limit(20_000, "Copies per second per address.")
    exempt: tuple[str, ...] = _option(
        ("127.0.0.0/8", "::1"),
        "Network without the --address-… limits, repeatable; none exempts no network.",
        unset="this machine",
    )
    max_connections: int = _limit(
        MAX_CONNECTIONS, "Concurrent connections; fewer if the limit of open files is lower."
    )
    max_rooms: int = _limit(0, "Rooms.")
    max_room_peers: int = _limit(2000, "Peers per room.")
    """Including those in grace."""
    max_buffers: int = _limit(256 * 1024 * 1024, "Memory budget for all clients: unsent data and partial messages.")
    """A quarter is reserved for seats in grace."""

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
        for item in fields(self):
            if "limit" in item.metadata and not getattr(self, item.name) >= 0:
                raise ValueError(f"{item.name} must not be negative; 0 means no limit")
        if 0 < self.max_buffers < self.max_frame:
            raise ValueError("max_buffers must hold at least one message")
        for name in ("max_frame", "max_frame_before_join", "max_send_queue"):
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} must be at least 1024 bytes")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be 0 to 65535")
        if self.metrics is not None and not 0 <= self.metrics[1] <= 65535:
            raise ValueError("metrics must name a port from 0 to 65535")
