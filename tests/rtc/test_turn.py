"""TURN with a real coturn, from the relay's credentials to the call: transports, rejection, expiry."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from aioice.turn import TurnClientUdpProtocol
from websockets.asyncio.client import connect

from peer import Agent
from peer import events as ev
from peer.errors import CallFailed
from server.config import RelayConfig
from server.ice.turn_credentials import IceServerList
from server.relay import Relay
from tests.coturn import Coturn, coturn_with_secret
from tests.server.keys import certificate, secret
from tests.waiting import until

SECRET = "hush" * 8


@asynccontextmanager
async def relay(
    folder: Path, *servers: str, lifetime: float = 3600.0, shared_secret: str = SECRET
) -> AsyncIterator[str]:
    """Run a relay that hands out credentials for ``servers``. Yields its URL."""
    file = secret(folder, shared_secret)
    running = Relay(RelayConfig(port=0, ice_servers=servers, turn_secret_file=file, turn_lifetime=lifetime))
    await running.start()
    try:
        yield running.url
    finally:
        await running.stop()


@pytest.fixture
async def turn(tmp_path: Path) -> AsyncIterator[Coturn]:
    async with coturn_with_secret(tmp_path, SECRET) as server:
        yield server


async def call_over_turn(a: Agent, peer: str = "b") -> None:
    """Connect one call, with ``relay_only`` and so over TURN."""
    await a.wait_for(peer, timeout=10)
    async with a.call(peer, timeout=15) as call:
        assert call.state.value == "Connected"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_peers_connect_over_the_turn_server_of_the_handout(
    tmp_path: Path, turn: Coturn, transport: str
) -> None:
    async with relay(tmp_path, f"{turn.url}?transport={transport}") as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            await call_over_turn(a)
        await turn.allocated("a", "b")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_peers_connect_over_turn_on_ipv6(tmp_path: Path, transport: str) -> None:
    async with (
        coturn_with_secret(tmp_path, SECRET, "--listening-ip=::1") as turn,
        relay(tmp_path, f"turn:[::1]:{turn.port}?transport={transport}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        await call_over_turn(a)
        await turn.allocated("a", "b")


async def test_peers_connect_over_turn_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path / "turn.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem)
    async with (
        coturn_with_secret(tmp_path, SECRET, f"--cert={pem}", f"--pkey={pem}") as turn,
        relay(tmp_path, f"turns:localhost:{turn.tls_port}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        await call_over_turn(a)
        await turn.allocated("a", "b")


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_address_without_a_turn_server_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """In Debian's ``/etc/hosts``, localhost is first ``::1``, where this server does not listen."""
    getaddrinfo = socket.getaddrinfo

    def both(host: str, port: int, *rest: Any, **named: Any) -> list[Any]:
        addresses = ("::1", "127.0.0.1") if host == "localhost" else (host,)
        return [found for address in addresses for found in getaddrinfo(address, port, *rest, **named)]

    pem = certificate(tmp_path / "turn.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem)
    monkeypatch.setattr(socket, "getaddrinfo", both)
    async with coturn_with_secret(tmp_path, SECRET, f"--cert={pem}", f"--pkey={pem}") as turn:
        url = f"turn:localhost:{turn.port}?transport={transport}"
        if transport == "tls":
            url = f"turns:localhost:{turn.tls_port}"
        async with (
            relay(tmp_path, url) as server,
            Agent("a", server=server, relay_only=True) as a,
            Agent("b", server=server, relay_only=True),
        ):
            await call_over_turn(a)
            await turn.allocated("a", "b")


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", True), ("localhost", False)])
async def test_turn_server_with_an_untrusted_certificate_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    """The certificate is for ``localhost``."""
    pem = certificate(tmp_path / "turn.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem if trusted else certificate(tmp_path / "other.pem"))
    async with (
        coturn_with_secret(tmp_path, SECRET, f"--cert={pem}", f"--pkey={pem}") as turn,
        relay(tmp_path, f"turns:{host}:{turn.tls_port}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        with pytest.raises(CallFailed, match="transport-failed"):
            await call_over_turn(a)
    assert not turn.allocations()


async def test_turn_server_with_another_secret_rejects_peers(tmp_path: Path, turn: Coturn) -> None:
    async with relay(tmp_path, turn.url, shared_secret="south" * 8) as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            with pytest.raises(CallFailed, match="transport-failed"):
                await call_over_turn(a)
    assert not turn.allocations()


async def test_call_after_expiry_uses_renewed_credentials(tmp_path: Path, turn: Coturn) -> None:
    """Without any action in between. coturn rejects the first credentials by then, as a test below shows."""
    async with relay(tmp_path, turn.url, lifetime=4.0) as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            joined = time.time()
            await call_over_turn(a)
            await turn.allocated("a", "b")
            first = set(turn.allocations())
            await until(lambda: time.time() > joined + 6.1)
            await call_over_turn(a)
            await until(lambda: {user.rpartition(":")[2] for user in set(turn.allocations()) - first} == {"a", "b"})


def test_documented_configuration_has_only_coturns_options() -> None:
    """coturn ignores options that it does not know, so the names are compared with its help."""
    page = (Path(__file__).parents[2] / "docs" / "turn.md").read_text()
    (shown,) = re.findall(r"^```\n(realm=.*?)^```$", page, re.MULTILINE | re.DOTALL)
    help_text = subprocess.run(["turnserver", "--help"], capture_output=True, text=True, timeout=10)
    keys = {line.partition("=")[0] for line in shown.splitlines() if line and not line.startswith("#")}
    assert {"use-auth-secret", "static-auth-secret"} <= keys
    assert not {key for key in keys if not re.search(rf"--{key}\b", help_text.stdout + help_text.stderr)}


@asynccontextmanager
async def client(
    turn: Coturn, peer: str, ends: float, shared_secret: str = SECRET
) -> AsyncIterator[TurnClientUdpProtocol]:
    """Create the engine's TURN client, with credentials that expire at ``ends`` (Unix seconds)."""
    (server,) = IceServerList([turn.url], shared_secret.encode(), 0).for_peer(peer, ends)
    address = ("127.0.0.1", turn.port)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: TurnClientUdpProtocol(address, server["username"], server["credential"], 600, 500),
        remote_addr=address,
    )
    try:
        yield protocol
    finally:
        transport.close()


async def test_expired_credentials_are_rejected(turn: Coturn) -> None:
    async with client(turn, "late", time.time() - 10) as late:
        with pytest.raises(stun.TransactionFailed, match="401"):
            await late.connect()


async def test_two_secrets_are_valid_during_rotation(tmp_path: Path) -> None:
    south, soon = "south" * 8, time.time() + 60
    async with coturn_with_secret(tmp_path, SECRET, f"--static-auth-secret={south}") as turn:
        async with client(turn, "old", soon) as old, client(turn, "new", soon, south) as new:
            await old.connect()
            await new.connect()
            async with client(turn, "none", soon, "east" * 8) as none:
                with pytest.raises(stun.TransactionFailed, match="401"):
                    await none.connect()
            await old.delete()
            await new.delete()


async def test_call_continues_after_its_credentials_expire(turn: Coturn) -> None:
    """During a call the engine refreshes its allocation and binds its channel again."""
    ends = time.time() + 1.5
    async with client(turn, "long", ends) as long:
        await long.connect()
        await long.channel_bind(0x4000, ("127.0.0.1", 9))
        await until(lambda: time.time() > ends + 2.1)  # expiry is rounded up, and valid until that second ends
        async with client(turn, "long", ends) as again:
            with pytest.raises(stun.TransactionFailed, match="401"):
                await again.connect()
        request = stun.Message(message_method=stun.Method.REFRESH, message_class=stun.Class.REQUEST)
        request.attributes["LIFETIME"] = 600
        response, _ = await long.request_with_retry(request)
        assert response.attributes["LIFETIME"] == 600
        await long.channel_bind(0x4000, ("127.0.0.1", 9))
        await long.delete()


async def test_ice_servers_message_of_another_peer_is_ignored(tmp_path: Path, turn: Coturn) -> None:
    async with (
        relay(tmp_path, turn.url) as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        with a.events() as seen:
            async with connect(url) as impostor:
                await impostor.send(json.dumps({"type": "join", "peerId": "impostor"}))
                await impostor.send(json.dumps({"type": "ice-servers", "from": "impostor", "iceServers": []}))
            async for event in seen:
                if isinstance(event, ev.PeerLeft):  # its message was delivered before
                    break
        await call_over_turn(a)


async def test_unsupported_servers_are_warned_about_once(
    tmp_path: Path, turn: Coturn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "peer")
    dtls = "turns:turn.example?transport=udp"
    async with (
        relay(tmp_path, "stuns:stun.example", dtls, turn.url, lifetime=1.0) as url,
        Agent("a", server=url, relay_only=True, ice_servers=["stuns:own.example"]) as a,
        Agent("b", server=url, relay_only=True),
    ):
        await until(lambda: caplog.text.count("< ice-servers, 2") >= 4)
        await call_over_turn(a)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([text for text in warned if "stuns:own.example" in text]) == 1
    for text in ("stuns:stun.example", "turns:turn.example"):
        assert len([line for line in warned if text in line]) == 2, "once for each of the two peers"
    assert SECRET not in caplog.text
