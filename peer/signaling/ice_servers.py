"""STUN and TURN servers: how they are written (RFC 7064, RFC 7065) and how they come over the wire. PURE.

The relay reads the same URLs by this module, so it imports the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import ConfigError

MAX_SERVERS: Final = 8
"""All that are used, our own and those of the relay: each is asked for every call."""

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
    def relays(self) -> bool:
        return self.scheme.startswith("turn")

    @property
    def url(self) -> str:
        """As in ``RTCIceServer.urls``: without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}" + (f"?transport={self.transport}" if self.relays else "")

    @property
    def unsupported(self) -> str | None:
        """Why our engine can make nothing of it, for people; None when it can. A browser may."""
        if self.scheme == "stuns":
            return "STUN goes over UDP here"
        if self.scheme == "turns" and self.transport == "udp":
            return "TURN over DTLS is not for us; without ?transport=udp it is TLS"
        return None


def parse_ice_server(text: str, *, bare: bool = False) -> IceServer:
    """Read ``stun:host[:port]`` or ``turn:user:pass@host[:port][?transport=tcp]``.

    Args:
        bare: a TURN server may come without credentials.

    Raises:
        ConfigError: it is neither, or a TURN server has no credentials.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{_shown(text)!r} is no ICE server; write stun:host:port or turn:user:pass@host:port?transport=tcp",
            where="--ice-server",
        )
    scheme, tls = match["scheme"], match["scheme"].endswith("s")
    turn = scheme.startswith("turn")
    if turn and match["user"] is None and not bare:
        raise ConfigError(f"{text!r} has no credentials; write {scheme}:user:pass@host", where="--ice-server")
    if not turn and match["transport"] is not None:
        raise ConfigError(
            f"{_shown(text)!r}: a STUN server has no transport; write it without ?transport", where="--ice-server"
        )
    port = int(match["port"] or (5349 if tls else 3478))
    if not 0 < port < 65536:
        raise ConfigError(f"{_shown(text)!r}: port {port} does not exist", where="--ice-server")
    transport = match["transport"] or ("tcp" if scheme == "turns" else "udp")
    return IceServer(scheme, match["host"].strip("[]"), port, transport, match["user"], match["password"])


def _shown(text: str) -> str:
    """``text`` without what may be a password in it, wherever that was typed."""
    match = _SCHEME.match(text)
    scheme = match[0] if match else ""
    if "@" in text:
        return f"{scheme}…@{text.rpartition('@')[2]}"
    return f"{scheme}…" if scheme.startswith("turn") else text


def read_ice_servers(servers: Iterable[Mapping[str, Any]]) -> tuple[list[IceServer], list[str]]:
    """Of a W3C ``RTCIceServer`` list, which the relay tells us: the ones that can be used, and why others cannot.

    At most ``MAX_SERVERS`` URLs are looked at.
    """
    found: list[IceServer] = []
    left_out: list[str] = []
    for server in servers:
        urls = server.get("urls")
        for url in [urls] if isinstance(urls, str) else urls if isinstance(urls, list) else []:
            if len(found) + len(left_out) == MAX_SERVERS:
                return found, [*left_out, f"more than {MAX_SERVERS} are too many"]
            try:
                found.append(_read(str(url)[:512], server.get("username"), server.get("credential")))
            except ConfigError as exc:
                left_out.append(exc.message)
    return found, left_out


def _read(url: str, username: object, credential: object) -> IceServer:
    server = replace(parse_ice_server(url, bare=True), username=None, password=None)
    if server.unsupported is not None:
        raise ConfigError(f"{server.url}: {server.unsupported}")
    if not server.relays:
        return server
    if not isinstance(username, str) or not isinstance(credential, str):
        raise ConfigError(f"{server.url} has no credentials")
    return replace(server, username=username, password=credential)


def merged(own: Iterable[IceServer], offered: Iterable[IceServer]) -> tuple[IceServer, ...]:
    """Those to use: what the user named comes first and has the last word on a server that both name."""
    servers: dict[str, IceServer] = {}
    for server in (*own, *offered):
        servers.setdefault(server.url, server)
    return tuple(servers.values())[:MAX_SERVERS]
