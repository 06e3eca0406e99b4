"""ICE servers of a running relay: in the peer list, and renewed in time for the peers that stay."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from peer.errors import ConfigError
from server.ice.handout import Handout
from server.ice.turn_credentials import credential
from server.observability.counters import Counters
from server.relay import Relay, RelayConfig
from server.transport.connection import Client

from ..keys import secret
from ..wire import DEADLINE, Peer, Raw, joined, opened, relay

STUN = {"urls": ["stun:stun.example:3478"]}
TURN = {"ice_servers": ("stun:stun.example", "turn:turn.example"), "turn_lifetime": 1.0}


def hush(tmp_path: Path, text: str = "hush" * 8) -> str:
    return secret(tmp_path, text)


def checked(servers: list[dict[str, Any]], peer: str, made_with: bytes = b"hush" * 8) -> int:
    """Expiry time of these credentials, which must be those of ``peer``."""
    lasting, ending = servers
    assert lasting == STUN and ending["urls"] == ["turn:turn.example:3478?transport=udp"]
    end, _, name = ending["username"].partition(":")
    assert name == peer and ending["credential"] == credential(made_with, ending["username"])
    return int(end)


async def renewed(peer: Peer) -> int:
    """Expiry time of the next credentials for ``peer``; no other message may precede them."""
    message = await peer.get()
    assert set(message) == {"type", "iceServers"} and message["type"] == "ice-servers"
    return checked(message["iceServers"], peer.id)


def is_made_with(secret: bytes, message: dict[str, Any]) -> bool:
    server = message["iceServers"][-1]
    return bool(server["credential"] == credential(secret, server["username"]))


async def other(peer: Peer) -> dict[str, Any]:
    """The next message for ``peer``, skipping its own ICE servers."""
    while (message := await peer.get())["type"] == "ice-servers":
        checked(message["iceServers"], peer.id)
    return message


async def test_peer_list_has_the_configured_servers() -> None:
    async with (
        relay(ice_servers=("stun:stun.example", "turn:me:pass@turn.example")) as server,
        opened(server) as peer,
    ):
        await peer.send({"type": "join", "peerId": "a"})
        turn = {"urls": ["turn:turn.example:3478?transport=udp"], "username": "me", "credential": "pass"}
        assert await peer.get() == {"type": "peer-list", "peers": [], "iceServers": [STUN, turn]}


async def test_peer_list_without_servers_is_unchanged() -> None:
    async with relay() as server, opened(server) as peer:
        await peer.send({"type": "join", "peerId": "a"})
        assert await peer.text() == '{"type":"peer-list","peers":[]}'


async def test_credentials_are_renewed_before_they_expire(tmp_path: Path) -> None:
    async with relay(turn_secret_file=hush(tmp_path), **TURN) as server, opened(server) as peer:
        peer.id = "a"
        before = time.time()
        await peer.send({"type": "join", "peerId": "a"})
        first = checked((await peer.get())["iceServers"], "a")
        assert before + 1 <= first <= time.time() + 2
        assert server.counters.credentials == 1
        ends = [first] + [await renewed(peer) for _ in range(3)]
        assert server.counters.credentials >= 4
        assert ends == sorted(ends) and ends[-1] > first


async def test_each_peer_has_its_own_credentials_until_it_leaves(tmp_path: Path) -> None:
    async with relay(turn_secret_file=hush(tmp_path), **TURN) as server:
        async with joined(server, "a") as a:
            async with joined(server, "b", peers=["a"]) as b:
                assert (await other(a))["type"] == "peer-joined"
                await asyncio.gather(renewed(a), renewed(b))
            assert (await other(a))["type"] == "peer-left"
            await renewed(a)
            assert len(server.sessions.ice._renewals) == 1
        async with asyncio.timeout(DEADLINE):
            while len(server.sessions.ice._renewals):
                await asyncio.sleep(0)


async def test_renewals_of_hundreds_are_spread(tmp_path: Path) -> None:
    """More clients than one group, joined at the same time: all get renewals before their credentials expire."""
    async with relay(turn_secret_file=hush(tmp_path), **TURN | {"turn_lifetime": 4.0}) as server:
        peers = await asyncio.gather(*(Raw.join(server.port, f"p{n}") for n in range(200)))

        async def renewed(peer: Raw, name: str) -> None:
            while (message := await peer.get())["type"] != "ice-servers":
                pass
            checked(message["iceServers"], name)

        await asyncio.gather(*(renewed(peer, f"p{n}") for n, peer in enumerate(peers)))
        await asyncio.gather(*(peer.end() for peer in peers))


async def test_returning_owner_gets_new_credentials(tmp_path: Path) -> None:
    async with relay(turn_secret_file=hush(tmp_path), **TURN | {"turn_lifetime": 3600.0}) as server:
        first = await Raw.join(server.port, "a", key="k")
        first.reset()
        async with opened(server) as back:
            await back.send({"type": "join", "peerId": "a", "key": "k"})
            assert checked((await back.get())["iceServers"], "a") > time.time() + 3000
            assert len(server.sessions.ice._renewals) == 1
        await first.end()


async def test_reloaded_secret_is_used(tmp_path: Path) -> None:
    async with relay(turn_secret_file=hush(tmp_path), **TURN) as server, joined(server, "a") as a:
        await renewed(a)
        for content in ("south" * 8, ""):  # the second file is invalid: the old secret stays
            hush(tmp_path, content)
            server.reload()
            async with opened(server) as b:
                await b.send({"type": "join", "peerId": "b"})
                checked((await b.get())["iceServers"], "b", b"south" * 8)
            async with asyncio.timeout(DEADLINE):
                while (message := await a.get())["type"] != "ice-servers" or not is_made_with(b"south" * 8, message):
                    pass


async def test_forged_ice_servers_message_is_rejected(tmp_path: Path) -> None:
    """The type is routed like any other; the sender's id shows that it is not from the relay."""
    async with relay(turn_secret_file=hush(tmp_path), **TURN | {"turn_lifetime": 3600.0}) as server:
        async with joined(server, "a") as a, joined(server, "b", peers=["a"]) as b:
            assert (await a.get())["type"] == "peer-joined"
            for sender in ({}, {"from": None}, {"from": ""}, {"from": "a"}):
                await b.send({"type": "ice-servers", "iceServers": []} | sender)
                assert (await b.get())["code"] == "from-mismatch"
            await b.send_message("ice-servers", iceServers=[])
            assert (await a.get())["from"] == "b"


async def test_passwords_and_the_secret_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    servers = ("turn:me:SECRET-PASSWORD@turn.example", "turn:other.example")
    options = {"ice_servers": servers, "turn_secret_file": hush(tmp_path, "SECRET-OF-TURN"), "turn_lifetime": 1.0}
    assert "SECRET" not in repr(RelayConfig(**options))  # type: ignore[arg-type]
    async with relay(**options) as server, joined(server, "a") as a:
        message = await a.get()
        server.reload()
    assert "turn:turn.example:3478" in caplog.text and "a new TURN credentials" in caplog.text
    assert "SECRET" not in caplog.text
    assert message["iceServers"][1]["credential"] not in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"x" * 20_000])
def test_unreadable_secret_names_its_option(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "turn.secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--turn-secret-file: .*turn\.secret: "):
        Relay(RelayConfig(ice_servers=("turn:turn.example",), turn_secret_file=str(path)))


async def test_stopped_relay_renews_no_credentials(tmp_path: Path) -> None:
    async with relay(turn_secret_file=hush(tmp_path), **TURN) as server:
        silent = await Raw.join(server.port, "a")
        await silent.get()
        stop = asyncio.create_task(server.stop())
        kinds = []
        while (found := await silent.frame())[0] != 8:
            kinds.append(json.loads(found[1])["type"])
        assert set(kinds) <= {"ice-servers"}
        await stop
        assert await silent.rest() == b""
        await silent.end()


async def test_client_lost_during_a_renewal_does_not_stop_the_others(tmp_path: Path) -> None:
    renewed: list[str] = []

    def send(client: Any, servers: tuple[Mapping[str, Any], ...]) -> None:
        renewed.append(client)
        if client == "a":
            handout.remove(cast(Client, "b"))  # its send queue had no room for the notice that a has left

    config = RelayConfig(turn_secret_file=hush(tmp_path), **TURN)
    handout = Handout(config, Counters(), send)
    for client in ("a", "b", "c"):
        handout.add(cast(Client, client), client)
    async with asyncio.timeout(DEADLINE):
        while renewed.count("c") < 2:
            await asyncio.sleep(0.01)
    handout.stop()
    assert "b" not in renewed
