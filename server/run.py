"""A relay as a program that runs until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from .config import RelayConfig
from .relay import Relay


async def serve(config: RelayConfig, *, started: Callable[[Relay], None] | None = None) -> None:
    """Run a relay until SIGINT or SIGTERM, then stop it; a second signal has its default effect. SIGHUP reloads.

    Args:
        started: called once clients can connect.

    Raises:
        CannotListen: the address cannot be bound.
        ExceptionGroup: a bug has ended the link to the cluster. A supervisor should restart the process.
    """
    relay = Relay(config)
    await relay.start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def on_signal() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, relay.reload)
    try:
        if started is not None:
            started(relay)
        async with asyncio.TaskGroup() as tasks:
            failure = tasks.create_task(relay.wait_failed(), name="cluster failure")
            await stop.wait()
            failure.cancel()
    finally:
        await relay.stop()
