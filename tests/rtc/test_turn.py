"""TURN from the relay to the call, with the real coturn: who gets in, by which ways, for how long."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aioice import stun
from aioice.turn import TurnClientUdpProtocol
from websockets.asyncio.client import connect

from peer import Agent
from peer import events as ev
from peer.errors import CallFailed
from server.config import RelayConfig
from server.ice.turn_credentials import IceServers
from server.relay import Relay
from tests.coturn import Coturn, coturn_with_secret
from tests.server.keys import certificate, secret
from tests.waiting import until

HUSH = "hush" * 8


@asynccontextmanager
async def relay(folder: Path, *servers: str, lifetime: float = 3600.0, hush: str = HUSH) -> AsyncIterator[str]:
    """One that gives credentials for ``servers``: its URL."""
    file = secret(folder, hush)
    running = Relay(RelayConfig(port=0, ice_servers=servers, turn_secret_file=file, turn_lifetime=lifetime))
    await running.start()
    try:
        yield running.url
    finally:
        await running.stop()


@pytest.fixture
async def turn(tmp_path: Path) -> AsyncIterator[Coturn]:
    async with coturn_with_secret(tmp_path, HUSH) as server:
        yield server


async def meets(a: Agent, peer: str = "b") -> None:
    """One call, by way of TURN or not at all."""
    await a.wait_for(peer, timeout=10)
    async with a.call(peer, timeout=15) as call:
        assert call.state.value == "Connected"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_two_peers_meet_at_the_turn_server_that_the_relay_told(
    tmp_path: Path, turn: Coturn, transport: str
) -> None:
    async with relay(tmp_path, f"{turn.url}?transport={transport}") as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            await meets(a)
        await turn.allocated("a", "b")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_two_peers_meet_at_a_turn_server_of_ipv6(tmp_path: Path, transport: str) -> None:
    async with (
        coturn_with_secret(tmp_path, HUSH, "--listening-ip=::1") as turn,
        relay(tmp_path, f"turn:[::1]:{turn.port}?transport={transport}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        await meets(a)
        await turn.allocated("a", "b")


async def test_two_peers_meet_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path / "turn.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem)
    async with (
        coturn_with_secret(tmp_path, HUSH, f"--cert={pem}", f"--pkey={pem}") as turn,
        relay(tmp_path, f"turns:localhost:{turn.tls_port}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        await meets(a)
        await turn.allocated("a", "b")


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", True), ("localhost", False)])
async def test_tls_to_who_is_not_trusted_by_that_name_is_no_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    """The certificate is localhost's."""
    pem = certificate(tmp_path / "turn.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem if trusted else certificate(tmp_path / "other.pem"))
    async with (
        coturn_with_secret(tmp_path, HUSH, f"--cert={pem}", f"--pkey={pem}") as turn,
        relay(tmp_path, f"turns:{host}:{turn.tls_port}") as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        with pytest.raises(CallFailed, match="transport-failed"):
            await meets(a)
    assert not turn.allocations()


async def test_a_turn_server_with_another_secret_lets_nobody_in(tmp_path: Path, turn: Coturn) -> None:
    async with relay(tmp_path, turn.url, hush="south" * 8) as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            with pytest.raises(CallFailed, match="transport-failed"):
                await meets(a)
    assert not turn.allocations()


async def test_who_stays_calls_with_new_credentials_when_the_old_ones_have_ended(
    tmp_path: Path, turn: Coturn
) -> None:
    """Nobody does anything in between; at the second call those of the join are refused (the test after this)."""
    async with relay(tmp_path, turn.url, lifetime=4.0) as url:
        async with Agent("a", server=url, relay_only=True) as a, Agent("b", server=url, relay_only=True):
            joined = time.time()
            await meets(a)
            await turn.allocated("a", "b")
            first = set(turn.allocations())
            await until(lambda: time.time() > joined + 6.1)
            await meets(a)
            await until(lambda: {user.rpartition(":")[2] for user in set(turn.allocations()) - first} == {"a", "b"})


def test_the_configuration_that_is_shown_is_coturns() -> None:
    """By the names of its options: what coturn does not know it passes over."""
    page = (Path(__file__).parents[2] / "docs" / "turn.md").read_text()
    (shown,) = re.findall(r"^```\n(realm=.*?)^```$", page, re.MULTILINE | re.DOTALL)
    told = subprocess.run(["turnserver", "--help"], capture_output=True, text=True, timeout=10)
    keys = {line.partition("=")[0] for line in shown.splitlines() if line and not line.startswith("#")}
    assert {"use-auth-secret", "static-auth-secret"} <= keys
    assert not {key for key in keys if not re.search(rf"--{key}\b", told.stdout + told.stderr)}


@asynccontextmanager
async def client(turn: Coturn, peer: str, ends: float, hush: str = HUSH) -> AsyncIterator[TurnClientUdpProtocol]:
    """The engine's TURN client with credentials that end at that time."""
    (server,) = IceServers([turn.url], hush.encode(), 0).of(peer, ends)
    address = ("127.0.0.1", turn.port)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: TurnClientUdpProtocol(address, server["username"], server["credential"], 600, 500),
        remote_addr=address,
    )
    try:
        yield protocol
    finally:
        transport.close()


async def test_credentials_that_have_ended_are_refused(turn: Coturn) -> None:
    async with client(turn, "late", time.time() - 10) as late:
        with pytest.raises(stun.TransactionFailed, match="401"):
            await late.connect()


async def test_two_secrets_are_good_while_one_takes_the_others_place(tmp_path: Path) -> None:
    south, soon = "south" * 8, time.time() + 60
    async with coturn_with_secret(tmp_path, HUSH, f"--static-auth-secret={south}") as turn:
        async with client(turn, "old", soon) as old, client(turn, "new", soon, south) as new:
            await old.connect()
            await new.connect()
            async with client(turn, "none", soon, "east" * 8) as none:
                with pytest.raises(stun.TransactionFailed, match="401"):
                    await none.connect()
            await old.delete()
            await new.delete()


async def test_a_call_outlives_its_credentials(turn: Coturn) -> None:
    """What the engine sends while a call lasts: it refreshes its allocation and binds its channel again."""
    ends = time.time() + 1.5
    async with client(turn, "long", ends) as long:
        await long.connect()
        await long.channel_bind(0x4000, ("127.0.0.1", 9))
        await until(lambda: time.time() > ends + 2.1)  # rounded up, and that second is still good
        async with client(turn, "long", ends) as again:
            with pytest.raises(stun.TransactionFailed, match="401"):
                await again.connect()
        request = stun.Message(message_method=stun.Method.REFRESH, message_class=stun.Class.REQUEST)
        request.attributes["LIFETIME"] = 600
        response, _ = await long.request_with_retry(request)
        assert response.attributes["LIFETIME"] == 600
        await long.channel_bind(0x4000, ("127.0.0.1", 9))
        await long.delete()


async def test_no_peer_takes_another_ones_word_for_the_relays(tmp_path: Path, turn: Coturn) -> None:
    async with (
        relay(tmp_path, turn.url) as url,
        Agent("a", server=url, relay_only=True) as a,
        Agent("b", server=url, relay_only=True),
    ):
        with a.events() as seen:
            async with connect(url) as liar:
                await liar.send(json.dumps({"type": "join", "peerId": "liar"}))
                await liar.send(json.dumps({"type": "ice-servers", "from": "liar", "iceServers": []}))
            async for event in seen:
                if isinstance(event, ev.PeerLeft):  # what the liar sent came before
                    break
        await meets(a)


async def test_servers_that_the_engine_cannot_use_are_told_once(
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
        await meets(a)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([text for text in warned if "stuns:own.example" in text]) == 1
    for text in ("stuns:stun.example", "turns:turn.example"):
        assert len([line for line in warned if text in line]) == 2, "once for each of the two"
    assert HUSH not in caplog.text
