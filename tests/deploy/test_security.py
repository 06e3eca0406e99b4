"""What docs/security.md says: the tests that it names exist, and what no other one holds."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from peer import Agent
from server.relay import Relay, RelayConfig
from tests.coturn import coturn_with_secret
from tests.server.keys import secret
from tests.server.wire import joined, opened, relay

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
HUSH = "hush" * 8


def test_every_test_that_the_page_names_exists() -> None:
    files = (path for path in (ROOT / "tests").rglob("test_*.*") if path.suffix != ".pyc")
    tests = "".join(path.read_text() for path in files)
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 30
    assert {name for name in named if not re.search(rf"def {name}\b", tests)} == set()


async def test_who_has_not_joined_is_told_nothing_but_counts(tmp_path: Path) -> None:
    """No ids, no TURN credentials; the number of peers and rooms, by /healthz."""
    config = {"token": "secret", "ice_servers": ("turn:turn.example",), "turn_secret_file": secret(tmp_path, HUSH)}
    async with relay(**config) as server, joined(server, "door", token="secret"):
        for frame in ({"type": "join", "peerId": "A"}, {"type": "offer", "from": "A", "to": "door", "sdp": "x"}):
            async with opened(server) as stranger:
                await stranger.send(frame)
                told = await stranger.text()
                assert json.loads(told)["type"] == "error" and "turn" not in told and "door" not in told
                assert await stranger.closed() in (4400, 4401)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        health = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        writer.close()
        assert health == {"status": "ok", "peers": 1, "rooms": 1}


async def test_relay_does_not_log_what_peers_send(caplog: pytest.LogCaptureFixture) -> None:
    """Even with ``-v``: descriptions and candidates contain addresses."""
    caplog.set_level("WARNING", "websockets")  # the test's own client
    caplog.set_level("DEBUG")
    async with relay() as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        for kind in ("offer", "candidate", "hang-up", "unknown"):
            await a.send_message(kind, to="B", sdp="192.0.2.99 private")
            assert (await b.get())["sdp"] == "192.0.2.99 private"
        await a.send_message("offer", to="nobody", sdp="192.0.2.99 private")
        assert (await a.get())["code"] == "peer-not-found"
    assert "offer" in caplog.text and "private" not in caplog.text and "192.0.2.99" not in caplog.text


async def test_peer_with_a_shared_token_may_take_any_free_id() -> None:
    """An id is a name and no identity; signed tokens bind it."""
    async with relay(token="secret", grace=0) as server:
        async with joined(server, "door", token="secret", key="the real one"):
            pass
        async with joined(server, "door", token="secret", key="somebody else"):
            pass


@pytest.mark.parametrize("role", ["caller", "called"])
async def test_who_is_relay_only_tells_no_address_of_its_own(tmp_path: Path, role: str) -> None:
    async with coturn_with_secret(tmp_path, HUSH) as turn:
        file = secret(tmp_path, HUSH)
        running = Relay(RelayConfig(port=0, ice_servers=(turn.url,), turn_secret_file=file))
        await running.start()
        try:
            async with connect(running.url, max_size=None) as spy:
                await spy.send(json.dumps({"type": "join", "peerId": "spy"}))
                async with Agent("hidden", server=running.url, relay_only=True) as hidden:
                    await hidden.wait_for("spy", timeout=10)
                    if role == "caller":
                        hidden.call("spy", timeout=10)
                    else:
                        await spy.send(
                            json.dumps({"type": "offer", "from": "spy", "to": "hidden", "sdp": await _offer()})
                        )
                    told = await _until_relayed(spy)
        finally:
            await running.stop()
    assert "typ relay" in told and "typ host" not in told and "typ srflx" not in told
    addresses = set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", told))
    assert addresses <= {"127.0.0.1", "0.0.0.0"}, "coturn's, which is on loopback, and none"


async def _until_relayed(spy: object) -> str:
    """All that it hears up to a relayed candidate."""
    told = ""
    async with asyncio.timeout(10):
        while "typ relay" not in told:
            told += str(await spy.recv())  # type: ignore[attr-defined]
    return told


async def _offer() -> str:
    from aiortc import RTCConfiguration, RTCPeerConnection

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio")
    await connection.setLocalDescription(await connection.createOffer())
    await connection.close()
    return connection.localDescription.sdp
