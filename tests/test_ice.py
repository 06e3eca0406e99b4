"""Gathering: host candidates at once, the rest as it is known, and no server that can hold up a call."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from peer import Agent
from peer.errors import CallFailed, ConfigError
from peer.ice import IceServer, parse_ice_server, read_ice_servers
from server.config import RelayConfig
from server.relay import Relay
from tests.waiting import until_listening


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun:stun.example", IceServer("stun", "stun.example", 3478)),
        ("stun:192.0.2.1:19302", IceServer("stun", "192.0.2.1", 19302)),
        ("turn:me:secret@turn.example", IceServer("turn", "turn.example", 3478, "udp", "me", "secret")),
        (
            "turn:me:secret@turn.example:443?transport=tcp",
            IceServer("turn", "turn.example", 443, "tcp", "me", "secret"),
        ),
        ("turns:me:s:e@[2001:db8::1]", IceServer("turns", "2001:db8::1", 5349, "tcp", "me", "s:e")),
    ],
)
def test_an_ice_server_is_read(text: str, server: IceServer) -> None:
    assert parse_ice_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "stun:", "http://stun.example", "turn:turn.example", "stun:host:0", "stun:host:99999", "stun:a b"]
)
def test_what_is_no_ice_server_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write|exist"):
        parse_ice_server(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("turn:me:hush@turn.example:99999", "'turn:…@turn.example:99999'"),
        ("turn:me:hush@hush@turn.example", "'turn:…@turn.example'"),
        ("turn:me:hush/@turn.example/x", "'turn:…@turn.example/x'"),
        ("turn:me:hush", "'turn:…'"),
        ("me:hush@turn.example", "'…@turn.example'"),
        ("hush@turn.example", "'…@turn.example'"),
        ("stun.example:3478", "'stun.example:3478'"),
    ],
)
def test_a_mistake_is_shown_without_its_password(text: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ice_server(text)
    assert shown in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_server_prints_without_its_password() -> None:
    assert "hush" not in repr(parse_ice_server("turn:me:hush@turn.example"))


def test_the_relays_list_is_read_and_nonsense_left_out() -> None:
    servers = [
        {"urls": ["stun:stun.example", "gopher:x"]},
        {"urls": "turn:turn.example?transport=tcp", "username": "17:me", "credential": "pa/ss=:@"},
        {"urls": 7},
        {},
    ]
    assert read_ice_servers(servers) == [
        IceServer("stun", "stun.example", 3478),
        IceServer("turn", "turn.example", 3478, "tcp", "17:me", "pa/ss=:@"),
    ]


@asynccontextmanager
async def relay_url() -> AsyncIterator[str]:
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    try:
        yield f"ws://127.0.0.1:{relay.port}/ws"
    finally:
        await relay.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a socket that nobody reads: a server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def test_servers_that_never_answer_hold_nothing_up(silent: str) -> None:
    servers = [f"stun:{silent}", f"turn:me:secret@{silent}", "stun:no-such-host.invalid"]
    async with relay_url() as url:
        options = {"server": url, "ice_servers": servers}
        async with Agent("a", **options) as a, Agent("b", **options) as b:
            await a.wait_for("b", timeout=5)
            started = time.monotonic()
            async with a.call("b", timeout=10):
                assert time.monotonic() - started < 1.0
            del b


@pytest.fixture
async def turn_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """A real coturn on loopback: (URL, password)."""
    assert shutil.which("turnserver"), "coturn is not installed"
    folder = tmp_path_factory.mktemp("turn")
    password = secrets.token_hex(8)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *("turnserver", "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}"),
        *("--lt-cred-mech", f"--user=me:{password}", "--realm=test", "--no-tls", "--no-dtls", "--no-cli"),
        *("--allow-loopback-peers", f"--pidfile={folder}/pid", f"--userdb={folder}/db", "--log-file=stdout"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_listening(port)
        yield f"turn:me:{password}@127.0.0.1:{port}", password
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_through_nothing_but_a_turn_server(turn_server: tuple[str, str], transport: str) -> None:
    server = f"{turn_server[0]}?transport={transport}"
    async with relay_url() as url:
        options = {"server": url, "ice_servers": [server], "relay_only": True}
        async with Agent("a", video="test", **options) as a, Agent("b", **options):
            await a.wait_for("b", timeout=5)
            async with a.call("b", timeout=10) as call:
                assert call.state.value == "Connected"


async def test_candidates_of_servers_are_trickled_after_the_description(turn_server: tuple[str, str]) -> None:
    """The page of another program sees: an offer without relayed candidates, then a relayed candidate."""
    from websockets.asyncio.client import connect

    from peer import protocol

    async with relay_url() as url, connect(url) as socket_:
        await socket_.send(protocol.dump(protocol.Join("page")))
        async with Agent("a", server=url, ice_servers=[turn_server[0]]) as a:
            await a.wait_for("page", timeout=5)
            a.call("page", timeout=5)
            offer, relayed = None, None
            async with asyncio.timeout(5):
                while relayed is None:
                    match protocol.parse(str(await socket_.recv())):
                        case protocol.Offer(sdp=sdp):
                            offer = sdp
                        case protocol.Candidate(candidate=candidate) if candidate is not None:
                            assert offer is not None, "a candidate before its offer"
                            relayed = candidate if "typ relay" in candidate.candidate else None
            assert offer is not None and "typ relay" not in offer and "typ host" in offer
            assert "a=end-of-candidates" not in offer and "a=ice-options:trickle" in offer
            assert relayed.username_fragment is not None
            assert f"a=ice-ufrag:{relayed.username_fragment}" in offer


async def test_without_a_relay_relay_only_fails_with_a_reason_and_soon() -> None:
    async with relay_url() as url, Agent("a", server=url, relay_only=True) as a, Agent("b", server=url):
        await a.wait_for("b", timeout=5)
        started = time.monotonic()
        with pytest.raises(CallFailed, match="transport-failed"):
            async with a.call("b", timeout=10):
                pass
        assert time.monotonic() - started < 2
