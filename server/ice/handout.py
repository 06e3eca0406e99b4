"""Handout of ICE servers: to each client with its ``peer-list``, and again before the credentials expire.

The shell around ``turn_credentials``, with one timer for all clients. Credentials contain wall-clock time, which the
TURN server checks. Renewals follow the event loop's clock, which is monotonic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..admission.secret_files import read_secret
from ..config import RelayConfig
from ..observability.counters import Counters
from ..renewal_queue import RenewalQueue
from ..transport.connection import Client
from .turn_credentials import SECRET_OPTION, IceServerList

_GROUP: Final = 64
"""Maximum number of renewals per iteration of the event loop.

They take a millisecond; those of 10,000 clients take 4 s.
"""
_PAUSE: Final = 0.025
"""Time between two groups, in seconds. Messages of peers pass in between."""


class Handout:
    """The ICE servers of each client, and their renewal.

    Args:
        counters: counts the credentials.
        send: sends ICE servers to a client, which replace those it has.

    Raises:
        ConfigError: a server or the file with the secret cannot be used.
    """

    def __init__(
        self, config: RelayConfig, counters: Counters, send: Callable[[Client, tuple[Mapping[str, Any], ...]], None]
    ) -> None:
        self._file = config.turn_secret_file
        self._servers = IceServerList(config.ice_servers, self._read_secret(), config.turn_lifetime)
        self._renewals: RenewalQueue[Client] = RenewalQueue(config.turn_lifetime / 2)
        self._peers: dict[Client, str] = {}
        self._counters = counters
        self._send = send
        self._timer: asyncio.TimerHandle | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers without credentials."""
        return self._servers.urls

    @property
    def has_secret(self) -> bool:
        """Whether there is a secret to reload."""
        return self._file is not None

    def reload(self) -> None:
        """Read the secret again. Clients get credentials made with it at their next renewal.

        Raises:
            ConfigError: it cannot be read. The old secret stays in use.
        """
        if (secret := self._read_secret()) is not None:
            self._servers.set_secret(secret)

    def add(self, client: Client, peer: str) -> tuple[Mapping[str, Any], ...]:
        """Return the ICE servers for ``client``, which has joined as ``peer``, and schedule its renewals."""
        if self._servers.expires:
            self._renewals.schedule(client, asyncio.get_running_loop().time())
            self._peers[client] = peer
            self._counters.credentials += 1
            self._set_timer()
        return self._servers.for_peer(peer, time.time())

    def remove(self, client: Client) -> None:
        """Send ``client`` no more renewals. Does nothing if it was not added."""
        self._renewals.remove(client)
        self._peers.pop(client, None)

    def stop(self) -> None:
        """Send no more renewals."""
        if self._timer is not None:
            self._timer.cancel()

    def _read_secret(self) -> bytes | None:
        return None if self._file is None else read_secret(self._file, SECRET_OPTION)

    def _set_timer(self) -> None:
        deadline = self._renewals.deadline
        if self._timer is None and deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(deadline, loop.time() + _PAUSE), self._renew)

    def _renew(self) -> None:
        self._timer = None
        now = time.time()
        for client in self._renewals.take_due(asyncio.get_running_loop().time(), _GROUP):
            if (peer := self._peers.get(client)) is None:
                continue  # removed in this loop: sending to one client may close another one whose queue is full
            self._counters.credentials += 1
            self._send(client, self._servers.for_peer(peer, now))
        self._set_timer()
