"""Tells each client its ICE servers: with its ``peer-list``, and again long before their credentials end.

The shell around ``turn``: two clocks, and one timer for all clients. The wall clock goes into the credentials,
because the TURN server has one too; when they are due is told by the loop's, which nobody can set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..admission.secret_files import read_secret
from ..config import RelayConfig
from ..observability.counters import Tally
from ..renewal_queue import Rota
from ..transport.connection import Client
from .turn_credentials import SECRET, IceServers

_MOST: Final = 64  # clients a turn of the loop, about a millisecond; 10,000 take 4 s
_PAUSE: Final = 0.025  # seconds from one such turn to the next


class Handout:
    """Who was told of which ICE servers.

    Args:
        tally: counts the credentials.
        tell: puts the servers on the wire to a client, in the place of those that it knew.

    Raises:
        ConfigError: a server, or the file with the secret, cannot be used.
    """

    def __init__(
        self, config: RelayConfig, tally: Tally, tell: Callable[[Client, tuple[Mapping[str, Any], ...]], None]
    ) -> None:
        self._file = config.turn_secret_file
        self._servers = IceServers(config.ice_servers, self._secret(), config.turn_lifetime)
        self._renewals: Rota[Client] = Rota(config.turn_lifetime / 2)
        self._peers: dict[Client, str] = {}
        self._tally = tally
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers, without credentials."""
        return self._servers.urls

    @property
    def has_secret(self) -> bool:
        return self._file is not None

    def reload(self) -> None:
        """Read the secret again; who is here gets credentials made with it when theirs are due.

        Raises:
            ConfigError: it cannot be read; the old one stays.
        """
        if (secret := self._secret()) is not None:
            self._servers.take_secret(secret)

    def welcome(self, client: Client, peer: str) -> tuple[Mapping[str, Any], ...]:
        """What ``client``, which joined as ``peer``, is told with its list; what follows, follows by itself."""
        if self._servers.ends:
            self._renewals.had(client, asyncio.get_running_loop().time())
            self._peers[client] = peer
            self._tally.credentials += 1
            self._arm()
        return self._servers.of(peer, time.time())

    def forget(self, client: Client) -> None:
        """``client`` is gone, or never came."""
        self._renewals.forget(client)
        self._peers.pop(client, None)

    def stop(self) -> None:
        """Tell nobody anything any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _secret(self) -> bytes | None:
        return None if self._file is None else read_secret(self._file, SECRET)

    def _arm(self) -> None:
        deadline = self._renewals.deadline
        if self._timer is None and deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(deadline, loop.time() + _PAUSE), self._renew)

    def _renew(self) -> None:
        self._timer = None
        now = time.time()
        for client in self._renewals.due(asyncio.get_running_loop().time(), _MOST):
            if (peer := self._peers.get(client)) is None:
                continue  # gone, because another one was told: who has no room for that leaves, and that is told too
            self._tally.credentials += 1
            self._tell(client, self._servers.of(peer, now))
        self._arm()
