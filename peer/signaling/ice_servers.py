"""STUN and TURN servers: their URLs (RFC 7064, RFC 7065), and the list that the relay sends.

Pure. The relay imports this module too, so it needs the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import ConfigError

MAX_SERVERS: Final = 8
"""Maximum number of ICE servers in use, ours and the relay's together. Each call queries every one of them."""

_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?://)?"
    r"(?:(?P<user>[^:@\s]+):(?P<password>[^@\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:?\[\]@/\s]+)(?::(?P<port>\d{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?",
    re.ASCII,
)
_SCHEME = re.compile(r"(?:stun|turn)s?:")


@dataclass(frozen=True, slots=True)
class IceServer:
    """One STUN or TURN server."""

    scheme: str
    host: str
    port: int
    transport: str = "udp"
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_turn(self) -> bool:
        return self.scheme.startswith("turn")

    @property
    def url(self) -> str:
        """URL without credentials, as in ``RTCIceServer.urls``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}" + (f"?transport={self.transport}" if self.is_turn else "")

    @property
    def unsupported(self) -> str | None:
        """Why this program cannot use the server; ``None`` if it can. A browser may support it."""
        if self.scheme == "stuns":
            return "STUN over TLS is not supported; use stun:"
        if self.scheme == "turns" and self.transport == "udp":
            return "TURN over DTLS is not supported; omit ?transport=udp to use TLS"
        return None


def parse_ice_server(text: str, *, bare: bool = False) -> IceServer:
    """Parse ``stun:host[:port]`` or ``turn:user:pass@host[:port][?transport=tcp]``.

    Args:
        bare: accept a TURN server without credentials.

    Raises:
        ConfigError: not such a URL, or a TURN server without credentials.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{_shown(text)!r} is not an ICE server: use stun:host:port or turn:user:pass@host:port?transport=tcp",
            where="--ice-server",
        )
    scheme, tls = match["scheme"], match["scheme"].endswith("s")
    turn = scheme.startswith("turn")
    if turn and match["user"] is None and not bare:
        raise ConfigError(f"{text!r} has no credentials: use {scheme}:user:pass@host", where="--ice-server")
    if not turn and match["transport"] is not None:
        raise ConfigError(f"{_shown(text)!r}: a STUN server has no transport; omit ?transport", where="--ice-server")
    port = int(match["port"] or (5349 if tls else 3478))
    if not 0 < port < 65536:
        raise ConfigError(f"{_shown(text)!r}: port {port} is not in 1 to 65535", where="--ice-server")
    transport = match["transport"] or ("tcp" if scheme == "turns" else "udp")
    return IceServer(scheme, match["host"].strip("[]"), port, transport, match["user"], match["password"])


def _shown(text: str) -> str:
    """Return ``text`` without anything that may be a password, wherever it was typed."""
    match = _SCHEME.match(text)
    scheme = match[0] if match else ""
    if "@" in text:
        return f"{scheme}…@{text.rpartition('@')[2]}"
    return f"{scheme}…" if scheme.startswith("turn") else text


def read_ice_servers(servers: Iterable[Mapping[str, Any]]) -> tuple[list[IceServer], list[str]]:
    """Parse the relay's list of W3C ``RTCIceServer`` objects.

    Returns the usable servers, and for each other one the reason why it was skipped. Reads at most ``MAX_SERVERS``
    URLs.
    """
    found: list[IceServer] = []
    skipped: list[str] = []
    for server in servers:
        urls = server.get("urls")
        for url in [urls] if isinstance(urls, str) else urls if isinstance(urls, list) else []:
            if len(found) + len(skipped) == MAX_SERVERS:
                return found, [*skipped, f"only the first {MAX_SERVERS} are used"]
            try:
                found.append(_read(str(url)[:512], server.get("username"), server.get("credential")))
            except ConfigError as exc:
                skipped.append(exc.message)
    return found, skipped


def _read(url: str, username: object, credential: object) -> IceServer:
    server = replace(parse_ice_server(url, bare=True), username=None, password=None)
    if server.unsupported is not None:
        raise ConfigError(f"{server.url}: {server.unsupported}")
    if not server.is_turn:
        return server
    if not isinstance(username, str) or not isinstance(credential, str):
        raise ConfigError(f"{server.url} has no credentials")
    return replace(server, username=username, password=credential)


def merge(own: Iterable[IceServer], offered: Iterable[IceServer]) -> tuple[IceServer, ...]:
    """Return the servers to use, the user's first. The user's entry replaces an offered one with the same URL."""
    servers: dict[str, IceServer] = {}
    for server in (*own, *offered):
        servers.setdefault(server.url, server)
    return tuple(servers.values())[:MAX_SERVERS]
