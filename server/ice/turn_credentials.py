"""STUN and TURN servers for peers, and expiring TURN credentials. Pure: time is an argument.

The credentials are those of coturn's ``use-auth-secret`` (draft-uberti-behave-turn-rest-00, 2.2). The user name
consists of the expiry time in Unix seconds and the peer's id. The password is the HMAC-SHA1 of the user name with a
secret that the TURN server has, too. Without the secret, no other password can be derived from it.

coturn checks the time when an allocation is created, not when it is refreshed, so a call outlives its credentials.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from peer.errors import ConfigError
from peer.signaling.ice_servers import MAX_SERVERS, IceServer, parse_ice_server

_SERVER_OPTION: Final = "--ice-server"
SECRET_OPTION: Final = "--turn-secret-file"


def credential(secret: bytes, username: str) -> str:
    """Return the password for ``username``: ``base64(HMAC-SHA1(secret, username))``."""
    return base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode()


class IceServerList:
    """The ICE servers of a relay, as dictionaries with the keys of W3C ``RTCIceServer``.

    Args:
        urls: STUN and TURN servers as for ``--ice-server``. A user and password in a URL are sent to every peer.
            For a TURN server without them, each peer gets expiring credentials made with ``secret``.
        secret: the secret shared with the TURN servers.
        lifetime: validity of the credentials, in seconds.

    Raises:
        ConfigError: a URL is invalid, there are too many, a TURN server has neither credentials nor a secret, or
            there is a secret without a server that needs it.
    """

    def __init__(self, urls: Sequence[str], secret: bytes | None, lifetime: float) -> None:
        servers = [parse_ice_server(url, bare=True) for url in urls]
        if len(servers) > MAX_SERVERS:
            raise ConfigError(f"{len(servers)} are too many: peers use at most {MAX_SERVERS}", where=_SERVER_OPTION)
        expiring = [server.url for server in servers if server.is_turn and server.username is None]
        if expiring and secret is None:
            scheme = expiring[0].partition(":")[0]
            hint = f"write {scheme}:user:pass@host, or specify the TURN server's secret with {SECRET_OPTION}"
            raise ConfigError(f"{expiring[0]} has no credentials; {hint}", where=_SERVER_OPTION)
        if secret is not None and not expiring:
            hint = f"add a TURN server without user and password: {_SERVER_OPTION} turn:host"
            raise ConfigError(f"no server needs the secret; {hint}", where=SECRET_OPTION)
        self.urls = tuple(server.url for server in servers)
        """All servers, without credentials."""
        self._permanent = tuple(map(_permanent, (server for server in servers if server.url not in expiring)))
        self._expiring = expiring
        self._secret = secret
        self._lifetime = lifetime

    @property
    def expires(self) -> bool:
        """Whether the credentials expire."""
        return self._secret is not None

    def set_secret(self, secret: bytes) -> None:
        """Make credentials with another secret from now on."""
        assert self.expires
        self._secret = secret

    def for_peer(self, peer: str, now: float) -> tuple[Mapping[str, Any], ...]:
        """Return the ICE servers for the peer with the id ``peer``. ``now`` is in Unix seconds."""
        if self._secret is None:
            return self._permanent
        username = f"{ceil(now + self._lifetime)}:{peer}"
        password = credential(self._secret, username)
        return (*self._permanent, {"urls": self._expiring, "username": username, "credential": password})


def _permanent(server: IceServer) -> Mapping[str, Any]:
    if server.username is None:
        return {"urls": [server.url]}
    return {"urls": [server.url], "username": server.username, "credential": server.password}
