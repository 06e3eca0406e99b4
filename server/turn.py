"""The STUN and TURN servers that peers are told of, and credentials for them that end. PURE: time is an argument.

The credentials are those of coturn's ``use-auth-secret`` (draft-uberti-behave-turn-rest-00, 2.2): the user name says
until when, in Unix seconds, and for whom; the password is the HMAC-SHA1 of the user name by a secret that the TURN
server has too. Who only knows a password makes no other one of it.

coturn looks at the time when an allocation is made, and not when it is refreshed: a call outlives its credentials.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any, Final, Generic, TypeVar

from peer.errors import ConfigError
from peer.ice_server import MAX_SERVERS, IceServer, parse_ice_server

C = TypeVar("C", bound=Hashable)

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
        ending = [server.url for server in servers if server.relays and server.username is None]
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


class Renewals(Generic[C]):
    """Who is told anew when. All wait equally long, so they stay in the order of their times, and nothing is sorted.

    Args:
        every: seconds from one time to the next.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._waiting: OrderedDict[C, tuple[float, str]] = OrderedDict()

    @property
    def deadline(self) -> float | None:
        """When ``due`` has somebody."""
        first = next(iter(self._waiting.values()), None)
        return None if first is None else first[0]

    def __len__(self) -> int:
        return len(self._waiting)

    def told(self, conn: C, peer: str, now: float) -> None:
        """``conn``, which is ``peer``, was told at ``now``; that is no earlier than the time before."""
        self._waiting[conn] = (now + self._every, peer)
        self._waiting.move_to_end(conn)

    def forget(self, conn: C) -> None:
        """``conn`` is gone, or never came."""
        self._waiting.pop(conn, None)

    def due(self, now: float, most: int) -> list[tuple[C, str]]:
        """Whose time has come, at most so many, the longest waiting first; they count as told."""
        found: list[tuple[C, str]] = []
        while len(found) < most and (deadline := self.deadline) is not None and deadline <= now:
            conn, (_, peer) = next(iter(self._waiting.items()))
            self.told(conn, peer, now)
            found.append((conn, peer))
        return found
