"""ICE candidates of one connection: ours until they may be sent, and the remote's until ICE has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aioice.candidate import Candidate

from ..log_limit import LimitedLogger
from ..signaling.messages import IceCandidate
from .remote_description import Place
from .sdp import MAX_CANDIDATES

log = LimitedLogger(logging.getLogger(__name__))


class LocalCandidates:
    """Gathered candidates, posted after the description that they belong to (RFC 8838 9)."""

    def __init__(self, post: Callable[[IceCandidate], None]) -> None:
        self.username_fragment = ""
        self.section = Place(0, "0")
        """The section that the transport belongs to. In our own offers it is the first one."""
        self._post = post
        self._waiting: list[IceCandidate] | None = []

    def add(self, candidate: Candidate) -> None:
        """Post a gathered candidate, now or after the description."""
        place = self.section
        message = IceCandidate(f"candidate:{candidate.to_sdp()}", place.mid, place.index, self.username_fragment)
        if self._waiting is None:
            self._post(message)
        else:
            self._waiting.append(message)

    def description_posted(self) -> None:
        """Post the candidates gathered so far. Later ones are posted at once."""
        waiting, self._waiting = self._waiting or [], None
        for message in waiting:
            self._post(message)


class RemoteCandidates:
    """The remote's candidates, added to an ``aioice.Connection``, each in a task of its own of ``tasks``.

    Resolving an mDNS name takes up to a second, and must not delay other candidates or operations.
    """

    def __init__(self, connection: Any, tasks: asyncio.TaskGroup) -> None:
        self._connection = connection
        self._tasks = tasks
        self._seen: set[str] = set()  # at most MAX_CANDIDATES; every further offer repeats those of the first

    def add(self, candidate: IceCandidate) -> None:
        """Add a candidate, unless it is a repetition. Malformed and unusable ones are dropped, and so is any beyond
        ``MAX_CANDIDATES``.

        Its size is limited before: by ``messages`` to ``MAX_CANDIDATE`` bytes, in descriptions by
        ``remote_description`` to the same.
        """
        text = candidate.candidate.removeprefix("candidate:")
        if text in self._seen or len(self._seen) >= MAX_CANDIDATES:
            return
        self._seen.add(text)
        try:
            parsed = Candidate.from_sdp(text)
        except ValueError as exc:
            log.info("= dropped a malformed candidate: %r (%s)", candidate.candidate, exc)
            return
        if parsed.component != 1 or parsed.transport.lower() != "udp" or not 0 < parsed.port < 65536:
            return  # the engine supports neither TCP candidates nor a separate RTCP component
        self._tasks.create_task(self._add(parsed))

    async def _add(self, candidate: Candidate) -> None:
        try:
            await self._connection.add_remote_candidate(candidate)
        except Exception as exc:  # raised by the engine while it resolves or pairs
            log.info("= dropped an unusable candidate: %s", exc or type(exc).__name__)
