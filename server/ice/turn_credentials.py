"""The STUN and TURN servers that peers are told of, and credentials for them that end. PURE: time is an argument.

The credentials are those of coturn's ``use-auth-secret`` (draft-uberti-behave-turn-rest-00, 2.2): the user name says
until when, in Unix seconds, and for whom; the password is the HMAC-SHA1 of the user name by a secret that the TURN
server has too. Who only knows a password makes no other one of it.

coturn looks at the time when an allocation is made, and not when it is refreshed: a call outlives its credentials.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from peer.errors import ConfigError
from peer.signaling.ice_servers import MAX_SERVERS, IceServer, parse_ice_server

_SERVERS: Final = "--ice-server"
SECRET: Final = "--turn-secret-file"


def credential(secret: bytes, username: str) -> str:
    """The password that goes with ``username``: ``base64(HMAC-SHA1(secret, username))``."""
    return base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode()


class IceServers:
    """What the relay tells a peer, as a list of W3C ``RTCIceServer``.

    Args:
        urls: STUN and TURN servers as for ``--ice-server``. Everybody gets the user and password that one comes
            with; for a TURN server without, each gets credentials that end, made with ``secret``.
        lifetime: seconds that these are good for.

    Raises:
        ConfigError: a URL that is none, too many, or credentials or a secret without the other.
    """

    def __init__(self, urls: Sequence[str], secret: bytes | None, lifetime: float) -> None:
        servers = [parse_ice_server(url, bare=True) for url in urls]
        if len(servers) > MAX_SERVERS:
            raise ConfigError(f"{len(servers)} are too many: peers use {MAX_SERVERS} at most", where=_SERVERS)
        ending = [server.url for server in servers if server.is_turn and server.username is None]
        if ending and secret is None:
            hint = f"write {ending[0].partition(':')[0]}:user:pass@host, or give the TURN server's secret: {SECRET}"
            raise ConfigError(f"{ending[0]} has no credentials; {hint}", where=_SERVERS)
        if secret is not None and not ending:
            hint = f"name a TURN server without user and password: {_SERVERS} turn:host"
            raise ConfigError(f"a secret, and no server that it is for; {hint}", where=SECRET)
        self.urls = tuple(server.url for server in servers)
        """All of them, for people."""
        self._lasting = tuple(map(_lasting, (server for server in servers if server.url not in ending)))
        self._ending = ending
        self._secret = secret
        self._lifetime = lifetime

    @property
    def ends(self) -> bool:
        """Whether what a peer is told is good for a time only."""
        return self._secret is not None

    def take_secret(self, secret: bytes) -> None:
        """Make credentials with another secret from now on."""
        assert self.ends
        self._secret = secret

    def of(self, peer: str, now: float) -> tuple[Mapping[str, Any], ...]:
        """What the peer of this id is told; ``now`` in Unix seconds."""
        if self._secret is None:
            return self._lasting
        username = f"{ceil(now + self._lifetime)}:{peer}"
        password = credential(self._secret, username)
        return (*self._lasting, {"urls": self._ending, "username": username, "credential": password})


def _lasting(server: IceServer) -> Mapping[str, Any]:
    if server.username is None:
        return {"urls": [server.url]}
    return {"urls": [server.url], "username": server.username, "credential": server.password}
