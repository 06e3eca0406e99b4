"""The relay and the page it serves, as one thing a test can start, stop and start again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from server.relay import Relay, RelayConfig


class Site:
    """A running relay. ``page`` is where a browser goes, ``ws`` where peers dial."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}/"

    @property
    def ws(self) -> str:
        return self.relay.url

    async def stop(self) -> None:
        await self.relay.stop()

    async def start(self) -> None:
        """Again, on the same port, and without a memory."""
        self.relay = Relay(dataclasses.replace(self.relay.config, port=self.relay.port))
        await self.relay.start()


@contextlib.asynccontextmanager
async def relay(**config: Any) -> AsyncIterator[Site]:
    """A relay on a free port; ``config`` as in ``RelayConfig``."""
    site = Site(Relay(RelayConfig(**{"port": 0} | config)))
    await site.relay.start()
    try:
        yield site
    finally:
        await site.stop()
