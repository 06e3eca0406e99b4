"""One ICE session (RFC 8445): the gathering and the candidates that belong to one pair of credentials.

A connection has one at a time. An ICE restart begins the next one. Candidates of an earlier session are dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from ..signaling.ice_servers import IceServer
from ..signaling.messages import IceCandidate
from .candidates import LocalCandidates, RemoteCandidates
from .ice_gathering import IceGatherer
from .sdp import IceParameters


class IceSession:
    """Candidates of both sides for ``connection``, an ``aioice.Connection``.

    Args:
        servers: STUN and TURN servers.
        relay_only: use only candidates of TURN servers.
        post: called with each of our candidates that is not in the description, once that is posted.
        tasks: runs what waits for servers and for mDNS names.
    """

    def __init__(
        self,
        connection: Any,
        servers: Iterable[IceServer],
        *,
        relay_only: bool,
        post: Callable[[IceCandidate], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.connection = connection
        self.local = LocalCandidates(post)
        self.local.username_fragment = connection.local_username
        self.remote: IceParameters | None = None
        """The remote's, once its description is applied."""
        self._candidates = RemoteCandidates(connection, tasks)
        self._gatherer = IceGatherer(connection, servers, relay_only=relay_only, on_candidate=self.local.add)
        self._gathering = tasks.create_task(self._gatherer.run())

    def add_remote(self, candidate: IceCandidate) -> None:
        """Add a candidate of the remote. One that is malformed, or of another session, is dropped."""
        if self.remote is None or candidate.ufrag in (None, self.remote.username_fragment):
            self._candidates.add(candidate)

    async def gather(self) -> None:
        """Gather what the description must contain.

        Raises:
            ConnectionError, TimeoutError: no TURN server can be used, with ``relay_only``.
        """
        await self.connection.gather_candidates()

    async def settle(self) -> None:
        """Stop gathering. Returns when no host socket is being opened, so that the connection can be closed."""
        self._gathering.cancel()
        await self._gatherer.settle()
