"""``peer serve``: the relay server."""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from server.config import RelayConfig

from ...errors import ConfigError
from ...node import systemd
from .. import exit_codes as exits
from ..command import Command, F, together
from ..options import RELAY, declared, output_options, token_options
from ..param_types import any_text, duration, duration_or_zero, duration_text, path
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


def _declared(name: str, *flags: str, **attributes: Any) -> Callable[[F], F]:
    return declared(RelayConfig, name, *flags, group=RELAY, **attributes)


@click.command("serve", cls=Command)
@together(
    [
        _declared("host", metavar="ADDRESS"),
        _declared("port", type=click.IntRange(0, 65535), metavar="N"),
        _declared("grace", type=duration_or_zero, shown=duration_text, metavar="TIME"),
        token_options,
        _declared("jwt_secret_file", type=path, metavar="FILE"),
        _declared("jwt_key", type=path, metavar="FILE"),
        _declared("open", is_flag=True),
        _declared("allow_origins", "--allow-origin", type=any_text, multiple=True, metavar="ORIGIN"),
        _declared("metrics", type=_listen_address, metavar="[HOST:]PORT"),
        _declared("cluster", type=any_text, metavar="URL"),
        _declared("tls_cert", type=path, metavar="FILE"),
        _declared("tls_key", type=path, metavar="FILE"),
        _declared("trust_proxies", "--trust-proxy", type=any_text, multiple=True, metavar="NETWORK"),
        _declared("ice_servers", "--ice-server", type=any_text, multiple=True, metavar="URL"),
        _declared("turn_secret_file", type=path, metavar="FILE"),
        _declared("turn_lifetime", type=_lifetime, shown=duration_text, metavar="TIME"),
    ]
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
    return run(lambda: _serve(params, out), out, on_sigterm=exits.DONE)


async def _serve(params: dict[str, Any], out: Output) -> int:
    """Run a relay whose ``RelayConfig`` consists of the options of the same names."""
    from server.relay import CannotListen, RedisUnavailable, Relay

    from ..entry import fail

    try:
        config = RelayConfig(**{item.name: params[item.name] for item in fields(RelayConfig) if item.name in params})
    except ValueError as error:
        name, _, why = str(error).partition(" ")
        flag = next(param.opts[0] for param in command.params if param.name == name)
        raise ConfigError(why, where=flag) from None
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
