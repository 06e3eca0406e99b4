"""``peer serve``"""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from ...errors import ConfigError
from ...node import systemd
from .. import exit_codes as exits
from ..command import Command, option
from ..options import RELAY, output_options, token_options
from ..param_types import any_text, duration, duration_or_zero, path
from ..settings import Settings
from .serve_limits import limit_options, limits

if TYPE_CHECKING:
    from ..output import Output

_FULL_COLLECTION = 50
"""Not a full collection before so many of the middle generation: it stops a relay of 10,000 peers for 60 ms, and
would come after each 2,500 new ones, to find nothing (docs/decisions/0018-the-loop-and-the-collector.md)."""


def _listener(value: Any) -> tuple[str, int]:
    """The type of ``--metrics``: where to listen, on loopback when only the port is given."""
    found = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*):)?(\d{1,5})", str(value), re.ASCII)
    if found is None or isinstance(value, bool) or int(found[2]) > 65535:
        raise click.BadParameter(f"{value!r} is no place to listen; write it like 9100 or 127.0.0.1:9100")
    return (found[1] or "127.0.0.1").strip("[]"), int(found[2])


def _lifetime(value: Any) -> float:
    """The type of ``--turn-lifetime``."""
    seconds = duration(value)
    if seconds < 60:
        raise click.BadParameter(f"{value} is too short: the clocks of two machines differ; 1m is the least")
    return seconds


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
@token_options
@option(
    "--jwt-secret-file",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="Tokens are signed with the secret in this file (HS256); `peer token` makes them.",
)
@option(
    "--jwt-key",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="Tokens are signed; this is the public key, in PEM: P-256, Ed25519 or RSA.",
)
@option("--open", "open_", is_flag=True, group=RELAY, help="Listen beyond this machine without asking for a token.")
@option(
    "--allow-origin",
    "allow_origins",
    type=any_text,
    multiple=True,
    metavar="ORIGIN",
    group=RELAY,
    help="A website that may connect, like https://site.example, repeatable; * for all.  [default: the page's own]",
)
@option(
    "--metrics",
    type=_listener,
    metavar="[HOST:]PORT",
    group=RELAY,
    help="Serve /metrics, /healthz and /readyz there, on this machine without HOST.  [default: nowhere]",
)
@option(
    "--cluster",
    type=any_text,
    metavar="URL",
    group=RELAY,
    help="Be one with all relays at this Redis, like redis://host:6379/0; with a password better PEER_CLUSTER.",
)
@option("--tls-cert", type=path, metavar="FILE", group=RELAY, help="Speak TLS, by this certificate, in PEM.")
@option("--tls-key", type=path, metavar="FILE", group=RELAY, help="Its key.  [default: in the same file]")
@option(
    "--trust-proxy",
    "trust_proxies",
    type=any_text,
    multiple=True,
    metavar="NETWORK",
    group=RELAY,
    help="Believe the X-Forwarded-For, -Proto and -Host of who connects from there, repeatable.",
)
@option(
    "--ice-server",
    "ice_servers",
    type=any_text,
    multiple=True,
    metavar="URL",
    group=RELAY,
    help="STUN or TURN server that peers are told of, repeatable: turn:user:pass@host, or turn:host with a secret.",
)
@option(
    "--turn-secret-file",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="The TURN server's secret (coturn: static-auth-secret): each peer gets credentials that end.",
)
@option(
    "--turn-lifetime",
    type=_lifetime,
    default="1h",
    show_default=True,
    metavar="TIME",
    group=RELAY,
    help="How long these are good for a new call; who stays gets others in time.",
)
@limit_options
@output_options
def command(**params: Any) -> int:
    """Run the relay server, with a page for browsers.

    Peers find each other at /ws, browsers get the page at /, /healthz answers when all is well. Pictures and sound do
    not pass through it. It ends well (0) when it is told to by SIGTERM.

    \b
    peer serve                                           for this machine only
    peer serve --host 0.0.0.0 --token-file FILE          for who has the token
    peer serve --host 0.0.0.0 --open                     for whoever reaches it
    peer serve --port 0 --json                           on a free port, told as JSON
    """
    from ..entry import run
    from ..output import Output

    settings = Settings.read(params)
    if params["open_"] and (settings.relay.token or params["jwt_secret_file"] or params["jwt_key"]):
        raise click.UsageError(
            "--open asks for no token, and one is given (--token, --token-file, PEER_TOKEN, --jwt-…): use one of them"
        )
    out = Output(as_json=settings.as_json)
    return run(lambda: _serve(params | {"token": settings.relay.token}, out), out, on_sigterm=exits.DONE)


async def _serve(params: dict[str, Any], out: Output) -> int:
    from server.relay import CannotListen, NoLedger, Relay, RelayConfig

    from ..entry import fail

    metrics_host, metrics_port = params["metrics"] or ("127.0.0.1", None)
    try:
        config = RelayConfig(
            host=params["host"],
            port=params["port"],
            grace=params["grace"],
            token=params["token"],
            jwt_secret_file=params["jwt_secret_file"],
            jwt_key=params["jwt_key"],
            open=params["open_"],
            allow_origins=params["allow_origins"],
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            cluster=params["cluster"],
            tls_cert=params["tls_cert"],
            tls_key=params["tls_key"],
            trust_proxies=params["trust_proxies"],
            ice_servers=params["ice_servers"],
            turn_secret_file=params["turn_secret_file"],
            turn_lifetime=params["turn_lifetime"],
            **limits(params),
        )
    except ValueError as error:
        name, _, why = str(error).partition(" ")
        raise ConfigError(why, where=f"--{name.replace('_', '-')}") from None
    relay = Relay(config)
    try:
        await relay.start()
    except (CannotListen, NoLedger) as error:
        fail(error, out)
        return exits.SERVER
    gc.set_threshold(*gc.get_threshold()[:2], _FULL_COLLECTION)

    def reload() -> None:
        systemd.reloading()
        relay.reload()
        systemd.ready(status)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    status = f"listening at {relay.url}"
    systemd.ready(status)
    try:
        said = {"event": "listening", "time": round(time.time(), 3), "url": relay.url, "page": relay.page}
        out.object(said | ({"metrics": relay.metrics} if relay.metrics else {}))
        out.text(f"relay at {relay.url}")
        out.text(f"page at {relay.page}")
        if relay.metrics:
            out.text(f"metrics at {relay.metrics}")
        await asyncio.Event().wait()
    finally:
        await relay.stop()
    return exits.DONE
