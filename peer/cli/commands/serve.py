"""``peer serve``: the relay server."""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from ...errors import ConfigError
from ...node import systemd
from .. import exit_codes as exits
from ..command import Command, option
from ..options import RELAY, output_options, token_options
from ..param_types import any_text, duration, duration_or_zero, path
from ..settings import Settings
from .serve_limits import limit_options

if TYPE_CHECKING:
    from ..output import Output

_GC_THRESHOLD_2 = 50
"""Minimum number of middle-generation collections before a full one. A full collection blocks a relay of 10,000 peers
for 60 ms; by default one would run for every 2,500 new peers and free nothing
(docs/decisions/0018-the-loop-and-the-collector.md)."""


def _listen_address(value: Any) -> tuple[str, int]:
    """Host and port to listen on; loopback without a host."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*):)?(\d{1,5})", str(value), re.ASCII)
    if match is None or isinstance(value, bool) or int(match[2]) > 65535:
        raise click.BadParameter(f"{value!r} is not an address to listen on; write it like 9100 or 127.0.0.1:9100")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def _lifetime(value: Any) -> float:
    """A duration in seconds, of at least a minute."""
    seconds = duration(value)
    if seconds < 60:
        raise click.BadParameter(
            f"{value} is too short, because clocks of different machines differ; the minimum is 1m"
        )
    return seconds


@click.command("serve", cls=Command)
@option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    group=RELAY,
    metavar="ADDRESS",
    help="Address to listen on; 0.0.0.0 means all.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    group=RELAY,
    help="Port to listen on; 0 selects a free one and prints it.",
)
@option(
    "--grace",
    type=duration_or_zero,
    default="5s",
    show_default=True,
    metavar="TIME",
    group=RELAY,
    help="How long to keep the seat of a peer that lost its connection; 0 turns it off.",
)
@token_options
@option(
    "--jwt-secret-file",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="File with the secret that signs tokens (HS256); `peer token` makes them.",
)
@option(
    "--jwt-key",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="Public key of signed tokens, in PEM format: P-256, Ed25519 or RSA.",
)
@option("--open", is_flag=True, group=RELAY, help="Accept clients from beyond this machine without a token.")
@option(
    "--allow-origin",
    "allow_origins",
    type=any_text,
    multiple=True,
    metavar="ORIGIN",
    group=RELAY,
    help="Website that may connect, like https://site.example, repeatable; * allows all.  [default: own page]",
)
@option(
    "--metrics",
    type=_listen_address,
    metavar="[HOST:]PORT",
    group=RELAY,
    help="Serve /metrics, /healthz and /readyz on this port; without HOST, for this machine only.  [default: off]",
)
@option(
    "--cluster",
    type=any_text,
    metavar="URL",
    group=RELAY,
    help="Form a cluster with all relays at this Redis: redis://host:6379/0. With a password, prefer PEER_CLUSTER.",
)
@option(
    "--tls-cert",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="TLS certificate in PEM format, with the intermediate certificates.",
)
@option(
    "--tls-key",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="Private key of the certificate, in PEM format.  [default: in the same file]",
)
@option(
    "--trust-proxy",
    "trust_proxies",
    type=any_text,
    multiple=True,
    metavar="NETWORK",
    group=RELAY,
    help="Trust the X-Forwarded-… headers of proxies in this network, repeatable.",
)
@option(
    "--ice-server",
    "ice_servers",
    type=any_text,
    multiple=True,
    metavar="URL",
    group=RELAY,
    help="STUN or TURN server to announce to all peers, password included; repeatable.",
)
@option(
    "--turn-secret-file",
    type=path,
    metavar="FILE",
    group=RELAY,
    help="File with the TURN server's secret (coturn: static-auth-secret). Each peer gets expiring credentials.",
)
@option(
    "--turn-lifetime",
    type=_lifetime,
    default="1h",
    show_default=True,
    metavar="TIME",
    group=RELAY,
    help="How long these credentials are valid for a new call; they are renewed in time.",
)
@limit_options
@output_options
def command(**params: Any) -> int:
    """Run the relay server, with a web page for browsers.

    Peers connect at /ws; the page is at /, a health check at /healthz. Media does not pass through the relay. On
    SIGTERM it exits with 0.

    \b
    peer serve                                           for this machine only
    peer serve --host 0.0.0.0 --token-file FILE          for peers with the token
    peer serve --host 0.0.0.0 --open                     for every peer that can reach it
    peer serve --port 0 --json                           on a free port, printed as JSON
    """
    from ..entry import run
    from ..output import Output

    settings = Settings.read(params)
    if params["open"] and (settings.relay.token or params["jwt_secret_file"] or params["jwt_key"]):
        raise click.UsageError(
            "--open allows joining without a token, but one is set (--token, --token-file, PEER_TOKEN, --jwt-…)"
        )
    out = Output(as_json=settings.as_json)
    params["token"] = settings.relay.token
    params["metrics_host"], params["metrics_port"] = params["metrics"] or ("127.0.0.1", None)
    return run(lambda: _serve(params, out), out, on_sigterm=exits.DONE)


async def _serve(params: dict[str, Any], out: Output) -> int:
    """Run a relay whose ``RelayConfig`` consists of the options of the same names."""
    from server.relay import CannotListen, RedisUnavailable, Relay, RelayConfig

    from ..entry import fail

    try:
        config = RelayConfig(**{item.name: params[item.name] for item in fields(RelayConfig) if item.name in params})
    except ValueError as error:
        name, _, why = str(error).partition(" ")
        raise ConfigError(why, where=f"--{name.replace('_', '-')}") from None
    relay = Relay(config)
    try:
        await relay.start()
    except (CannotListen, RedisUnavailable) as error:
        fail(error, out)
        return exits.SERVER
    gc.set_threshold(*gc.get_threshold()[:2], _GC_THRESHOLD_2)

    def reload() -> None:
        systemd.reloading()
        relay.reload()
        systemd.ready(status)

    if not sys.stdin or not sys.stdin.isatty():  # on a terminal, SIGHUP means that it was closed
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    status = f"listening at {relay.url}"
    systemd.ready(status)
    try:
        listening = {"event": "listening", "time": round(time.time(), 3), "url": relay.url, "page": relay.page}
        listening |= {"urls": relay.urls, "pages": relay.pages}
        out.object(listening | ({"metrics": relay.metrics} if relay.metrics else {}))
        for url in relay.urls:
            out.text(f"relay at {url}")
        for page in relay.pages:
            out.text(f"page at {page}#token=TOKEN" if relay.requires_token else f"page at {page}")
        if relay.metrics:
            out.text(f"metrics at {relay.metrics}")
        if relay.requires_token:
            out.text("TOKEN stands for the access token, which is not printed: this output may end up in a log")
        await relay.wait_failed()
    finally:
        await relay.stop()
    return exits.DONE
