"""The example for nginx, in Debian's nginx: a call through wss://, the addresses that the relay sees, a reload."""

from __future__ import annotations

import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.config import RelayConfig
from server.relay import Relay
from tests.server.keys import certificate
from tests.waiting import until

from .front import EXAMPLES, filled, free_ports, program
from .guests import HOST, Front, reaches_the_page, refuses_a_foreign_page, routes_large_frames, sees_who_it_is

EXAMPLE = (EXAMPLES / "nginx.conf").read_text()
LIVE = "/etc/letsencrypt/live/relay.example"

MAIN = """
daemon off; pid {folder}/pid; error_log {folder}/error.log info; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    include {folder}/peer.conf;
}}
"""
"""What nginx wants besides, and the Debian package brings."""


@asynccontextmanager
async def nginx(folder: Path, relay: int) -> AsyncIterator[tuple[Front, int]]:
    """It in front of the relay at this port, and its pid."""
    plain, port = free_ports(2)
    pem = certificate(folder / "relay.pem", HOST)
    here = {
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen [::]:80;": "",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen [::]:443 ssl;": "",
        f"{LIVE}/fullchain.pem": pem,
        f"{LIVE}/privkey.pem": pem,
        "127.0.0.1:8080": f"127.0.0.1:{relay}",
    }
    (folder / "peer.conf").write_text(filled(EXAMPLE, here))
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    command = ("nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", "-p", f"{folder}")
    async with program(*command, port=port, log=folder / "output") as pid:
        yield Front(port, pem, plain), pid
        assert "[emerg]" not in (folder / "error.log").read_text()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    running = Relay(RelayConfig(port=0, token="secret", trust_proxies=("127.0.0.1", "::1"), close_timeout=0.5))
    await running.start()
    yield running
    await running.stop()


async def test_a_relay_behind_nginx(tmp_path: Path, relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with nginx(tmp_path, relay.port) as (front, _):
        await reaches_the_page(front)
        await refuses_a_foreign_page(front)
        await sees_who_it_is(front, caplog)
        await routes_large_frames(front)


async def test_a_reload_of_nginx_disconnects_nobody(tmp_path: Path, relay: Relay) -> None:
    async with nginx(tmp_path, relay.port) as (front, pid), front.joined("A") as a:
        os.kill(pid, signal.SIGHUP)  # what `nginx -s reload` sends
        error_log = tmp_path / "error.log"
        await until(lambda: "gracefully shutting down" in error_log.read_text())
        async with front.joined("B", peers=["A"]) as b:  # by a new worker
            assert await a.get() == {"type": "peer-joined", "peerId": "B"}
            await b.send_message("offer", to="A", sdp="x")
            assert (await a.get())["from"] == "B"


async def test_plain_http_is_sent_to_https(tmp_path: Path, relay: Relay) -> None:
    async with nginx(tmp_path, relay.port) as (front, _):
        head = await front.get("/x?y", tls=None)
        assert head.startswith(b"HTTP/1.1 301 ") and b"\r\nLocation: https://relay.example/x?y\r\n" in head


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_of_both_versions(tmp_path: Path, relay: Relay, version: ssl.TLSVersion) -> None:
    async with nginx(tmp_path, relay.port) as (front, _):
        context = ssl.create_default_context(cafile=front.cacert)
        context.minimum_version = context.maximum_version = version
        assert (await front.get("/healthz", tls=context)).startswith(b"HTTP/1.1 200 ")


def test_a_peer_that_is_pinged_is_never_silent_for_too_long() -> None:
    config = RelayConfig()
    dropped_after = 2 * config.ping_interval
    for name in ("proxy_read_timeout", "proxy_send_timeout", "send_timeout"):
        (seconds,) = re.findall(rf"\b(?<!_){name} (\d+)s;", EXAMPLE)
        assert int(seconds) > dropped_after, name
