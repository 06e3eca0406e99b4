"""Gathering: host candidates at once, others as they are known, and no server delays a call."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from peer import Agent
from peer.errors import CallFailed
from peer.rtc import aiortc_hooks
from peer.signaling import message_json, messages
from server.config import RelayConfig
from server.relay import Relay
from tests.coturn import coturn
from tests.rtc.loopback import ice_connection
from tests.waiting import until


@asynccontextmanager
async def relay_url() -> AsyncIterator[str]:
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    try:
        yield f"ws://127.0.0.1:{relay.port}/ws"
    finally:
        await relay.stop()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def test_servers_that_never_answer_delay_nothing(silent_server: str) -> None:
    servers = [f"stun:{silent_server}", f"turn:me:secret@{silent_server}", "stun:no-such-host.invalid"]
    async with relay_url() as url:
        options = {"server": url, "ice_servers": servers}
        async with Agent("a", **options) as a, Agent("b", **options) as b:
            await a.wait_for("b", timeout=5)
            started = time.monotonic()
            async with a.call("b", timeout=10):
                assert time.monotonic() - started < 1.0
            del b


async def test_all_sockets_limit_the_size_of_datagrams() -> None:
    async with relay_url() as url, Agent("a", server=url) as a, Agent("b", server=url):
        await a.wait_for("b", timeout=5)
        async with a.call("b", timeout=10):
            (connection,) = a._calls.remotes["b"].connections.values()
            assert connection._pc is not None
            protocols = ice_connection(connection._pc)._protocols
            sizes = {protocol.transport.max_size for protocol in protocols}
            assert sizes == {aiortc_hooks.MAX_DATAGRAM + 1}


async def test_stun_server_with_both_address_families_uses_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address is often IPv6, for which STUN reports nothing new."""
    getaddrinfo = socket.getaddrinfo

    def both(host: str, port: int, family: int = 0, *rest: int, **named: int) -> list[Any]:
        if host != "stun.test":
            return getaddrinfo(host, port, family, *rest, **named)
        return [answer for ip in ("::1", "127.0.0.1") for answer in getaddrinfo(ip, port) if family in (0, answer[0])]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    request = asyncio.get_running_loop().create_future()

    class Stun(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if not request.done():
                request.set_result(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Stun, ("127.0.0.1", 0))
    server = f"stun:stun.test:{transport.get_extra_info('sockname')[1]}"
    async with relay_url() as url, Agent("a", server=url, ice_servers=[server]) as a, Agent("b", server=url):
        await a.wait_for("b", timeout=5)
        async with a.call("b", timeout=10):
            assert (await asyncio.wait_for(request, 5))[:2] == b"\x00\x01"  # a binding request
    transport.close()


@pytest.mark.parametrize("scheme", ["stun:", "turn:me:secret@", "turns:me:secret@"])
async def test_names_are_resolved_in_threads_of_their_own(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the default executor, a lookup that hangs would delay encoders and the end of the process."""
    getaddrinfo = socket.getaddrinfo
    threads: list[str] = []

    def record(host: str, *rest: Any, **named: Any) -> list[Any]:
        if host != "server.test":
            return getaddrinfo(host, *rest, **named)
        threads.append(threading.current_thread().name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", record)
    async with relay_url() as url:
        async with Agent("a", server=url, ice_servers=[f"{scheme}server.test"]) as a, Agent("b", server=url):
            await a.wait_for("b", timeout=5)
            async with a.call("b", timeout=10):
                await until(lambda: threads)
    assert set(threads) == {"resolve-server.test"}


@pytest.fixture
async def turn_server(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a real coturn on loopback, with its one user."""
    password = secrets.token_hex(8)
    async with coturn(tmp_path, "--lt-cred-mech", f"--user=me:{password}") as server:
        yield f"turn:me:{password}@127.0.0.1:{server.port}"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_relay_only_call_connects_through_turn(turn_server: str, transport: str) -> None:
    server = f"{turn_server}?transport={transport}"
    async with relay_url() as url:
        options = {"server": url, "ice_servers": [server], "relay_only": True}
        async with Agent("a", video="test", **options) as a, Agent("b", **options):
            await a.wait_for("b", timeout=5)
            async with a.call("b", timeout=10) as call:
                assert call.state.value == "Connected"


async def test_server_candidates_are_trickled_after_the_description(turn_server: str) -> None:
    """Another client receives an offer without relay candidates, then a relay candidate."""
    async with relay_url() as url, connect(url) as socket_:
        await socket_.send(message_json.dump(messages.Join("page")))
        async with Agent("a", server=url, ice_servers=[turn_server]) as a:
            await a.wait_for("page", timeout=5)
            a.call("page", timeout=5)
            offer, relayed = None, None
            async with asyncio.timeout(5):
                while relayed is None:
                    match message_json.parse(str(await socket_.recv())):
                        case messages.Offer(sdp=sdp):
                            offer = sdp
                        case messages.Candidate(candidate=candidate) if candidate is not None:
                            assert offer is not None, "the candidate arrived before its offer"
                            relayed = candidate if "typ relay" in candidate.candidate else None
            assert offer is not None and "typ relay" not in offer and "typ host" in offer
            assert "a=end-of-candidates" not in offer and "a=ice-options:trickle" in offer
            assert relayed.username_fragment is not None
            assert f"a=ice-ufrag:{relayed.username_fragment}" in offer


async def test_relay_only_without_turn_server_warns_once_on_joining(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with relay_url() as url, Agent("a", server=url, relay_only=True) as a, Agent("b", server=url):
        [warning] = [message for message in caplog.messages if "TURN" in message]
        assert "--ice-server turn:" in warning
        await a.wait_for("b", timeout=5)
        with pytest.raises(CallFailed, match="transport-failed"):
            await a.call("b", timeout=10).connected()
        assert [message for message in caplog.messages if "TURN" in message] == [warning]


async def test_relay_only_without_turn_server_fails_soon() -> None:
    async with relay_url() as url, Agent("a", server=url, relay_only=True) as a, Agent("b", server=url):
        await a.wait_for("b", timeout=5)
        started = time.monotonic()
        with pytest.raises(CallFailed, match="transport-failed"):
            async with a.call("b", timeout=10):
                pass
        assert time.monotonic() - started < 2
