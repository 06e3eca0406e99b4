"""The example for Caddy, in Debian's Caddy, which is its own certificate authority here."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peer.errors import ConfigError
from peer.signaling.relay_url import tls_context
from server.config import RelayConfig
from server.relay import Relay
from tests.waiting import STEP, until

from .front import EXAMPLES, filled, free_ports, program
from .guests import HOST, Front, reaches_the_page, refuses_a_foreign_page, routes_large_frames, sees_who_it_is

EXAMPLE = (EXAMPLES / "Caddyfile").read_text()

GLOBAL = """
{{
    admin 127.0.0.1:{admin}
    default_bind 127.0.0.1
    http_port {plain}
    https_port {port}
    local_certs
    skip_install_trust
    storage file_system {folder}/storage
}}
"""
"""What is different here: loopback, no Let's Encrypt, nothing outside of the test's folder."""


@asynccontextmanager
async def relay(**options: object) -> AsyncIterator[Relay]:
    defaults = {"port": 0, "token": "secret", "trust_proxies": ("127.0.0.1", "::1"), "close_timeout": 0.5}
    running = Relay(RelayConfig(**defaults | options))  # type: ignore[arg-type]
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def caddy(folder: Path, where: str, health: int) -> AsyncIterator[Front]:
    """It in front of the relays ``where``, as ``RELAYS`` says it, that tell of their health at that port."""
    admin, plain, port = free_ports(3)
    text = GLOBAL.format(admin=admin, plain=plain, port=port, folder=folder)
    here = {"health_port 9100": f"health_port {health}", "health_interval 1s": "health_interval 200ms"}
    (folder / "Caddyfile").write_text(text + filled(EXAMPLE, here))
    homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"), str(folder))
    env = os.environ | homes | {"RELAYS": where}
    log = folder / "caddy.log"
    command = ("caddy", "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile")
    async with program(*command, port=port, log=log, env=env):
        root = folder / "storage" / "pki" / "authorities" / "local" / "root.crt"
        await until(root.exists)
        await _until_it_has_its_certificate(port, str(root))
        yield Front(port, str(root), plain)


async def _until_it_has_its_certificate(port: int, cacert: str) -> None:
    """Caddy listens, and logs the certificate, before it serves it."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=tls_context(cacert), server_hostname=HOST
                )
            except (ssl.SSLError, ConnectionError, ConfigError):
                await asyncio.sleep(STEP)
                continue
            writer.close()
            return


async def test_a_relay_behind_caddy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (metrics,) = free_ports(1)
    async with (
        relay(metrics=("127.0.0.1", metrics)) as running,
        caddy(tmp_path, f"127.0.0.1:{running.port}", metrics) as front,
    ):
        await reaches_the_page(front)
        await refuses_a_foreign_page(front)
        await sees_who_it_is(front, caplog)
        await routes_large_frames(front)
        moved = await front.get("/x", tls=None)
        assert moved.startswith(b"HTTP/1.1 308 ") and f"\r\nLocation: https://{HOST}".encode() in moved


async def test_who_comes_while_the_relay_starts_again_waits_for_it(tmp_path: Path) -> None:
    metrics, port = free_ports(2)
    async with caddy(tmp_path, f"127.0.0.1:{port}", metrics) as front:
        waits = asyncio.ensure_future(front.get("/healthz", tls=tls_context(front.cacert)))
        in_vain = _looks(tmp_path)
        await until(lambda: _looks(tmp_path) > in_vain + 2)  # for 0.4 s: it has asked by then
        async with relay(metrics=("127.0.0.1", metrics), port=port):
            assert (await waits).startswith(b"HTTP/1.1 200 ")


def _looks(folder: Path) -> int:
    """How often Caddy has looked for the relay in vain."""
    return (folder / "caddy.log").read_text().count('"msg":"HTTP request failed"')


async def test_several_relays_stand_beside_each_other(tmp_path: Path) -> None:
    """Not one room here, which takes a cluster: each is reached."""
    (metrics,) = free_ports(1)
    async with relay(metrics=("127.0.0.1", metrics)) as one, relay() as two:
        async with caddy(tmp_path, f"127.0.0.1:{one.port} 127.0.0.1:{two.port}", metrics) as front:
            async with asyncio.timeout(10):
                while not (one.counters.accepted and two.counters.accepted):
                    await reaches_the_page(front)
