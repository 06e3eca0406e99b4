"""``peer serve``"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from . import exit as exits
from .options import RELAY, Command, Settings, duration_or_zero, option, output_options

if TYPE_CHECKING:
    from .output import Output


@click.command("serve", cls=Command)
@option("--host", default="127.0.0.1", show_default=True, group=RELAY, help="Address to listen on; 0.0.0.0 for all.")
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    group=RELAY,
    help="0 takes a free one, and says which.",
)
@option(
    "--grace",
    type=duration_or_zero,
    default="5s",
    show_default=True,
    metavar="TIME",
    group=RELAY,
    help="How long the seat of a peer that lost its connection is kept; 0 turns it off.",
)
@output_options
def command(host: str, port: int, grace: float, **params: Any) -> int:
    """Run the relay server, with a page for browsers.

    Peers find each other at /ws, browsers get the page at /, /healthz answers when all is well. Pictures and sound do
    not pass through it. It ends well (0) when it is told to by SIGTERM.

    \b
    peer serve                           for this machine only
    peer serve --host 0.0.0.0            for the network
    peer serve --port 0 --json           on a free port, told as JSON
    """
    from .output import Output
    from .shell import run

    settings = Settings.read(params)
    out = Output(as_json=settings.as_json)
    return run(lambda: _serve(host, port, grace, out), out, on_sigterm=exits.DONE)


async def _serve(host: str, port: int, grace: float, out: Output) -> int:
    from server.relay import CannotListen, Relay, RelayConfig

    from .shell import fail

    relay = Relay(RelayConfig(host=host, port=port, grace=grace))
    try:
        await relay.start()
    except CannotListen as error:
        fail(error, out)
        return exits.SERVER
    try:
        out.object({"event": "listening", "time": round(time.time(), 3), "url": relay.url, "page": relay.page})
        out.text(f"relay at {relay.url}\npage at {relay.page}")
        await asyncio.Event().wait()
    finally:
        await relay.stop()
    return exits.DONE
