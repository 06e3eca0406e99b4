"""A relay with its page, which a test can stop and start again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from server.relay import Relay, RelayConfig


class Site:
    """A running relay. ``page`` is the URL for browsers, ``ws`` the URL for peers."""

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
        """Start again on the same port, with no state of the previous run."""
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
