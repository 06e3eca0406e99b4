"""The shared token, and where a relay may listen without one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from peer.errors import ConfigError
from peer.signaling.messages import Join, ProtocolError
from server.admission.secret_files import MAX_SECRET, read_secret
from server.admission.tokens import SharedTokenCheck, token_check
from server.errors import UnprotectedRelay
from server.relay import Relay, RelayConfig

from ..wire import joined, opened, relay


@pytest.mark.parametrize("token", [None, "", "wrong", "secret ", "secre", "Secret", "sécret", "\ud800", "s" * 8000])
async def test_join_without_the_token_is_rejected(token: str | None) -> None:
    async with relay(token="secret") as server, opened(server) as peer:
        await peer.send({"type": "join", "peerId": "A", "token": token})
        refusal = await peer.get()
        assert (refusal["type"], refusal["code"]) == ("error", "unauthorized")
        assert await peer.closed() == 4401
        assert server.sessions.rooms.peers() == []


async def test_rejected_client_is_invisible_to_peers_with_the_token() -> None:
    async with relay(token="sécret") as server, joined(server, "A", token="sécret") as a, opened(server) as peer:
        await peer.send({"type": "join", "peerId": "B", "token": "guess"})
        assert await peer.closed() == 4401
        await a.barrier()


async def test_key_of_a_seat_without_the_token_is_rejected() -> None:
    async with relay(token="secret") as server, joined(server, "A", token="secret", key="k") as a:
        async with opened(server) as thief:
            await thief.send({"type": "join", "peerId": "A", "key": "k"})
            assert await thief.closed() == 4401
        await a.barrier()


async def test_messages_after_a_rejected_join_are_not_read() -> None:
    async with relay(token="secret") as server, joined(server, "A", token="secret") as a, opened(server) as peer:
        await peer.send({"type": "join", "peerId": "B"})
        await peer.send({"type": "join", "peerId": "B", "token": "secret"})
        assert await peer.closed() == 4401
        await a.barrier()


async def test_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with relay(token="hush-hush") as server, joined(server, "A", token="hush-hush"), opened(server) as peer:
        await peer.send({"type": "join", "peerId": "B", "token": "hush-guess"})
        assert await peer.closed() == 4401
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("server")]
    assert any("unauthorized" in line for line in ours)
    assert not any("hush" in line for line in ours)
    assert "hush" not in repr(RelayConfig(token="hush-hush")) + repr(Join("A", token="hush-hush", key="hush"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
async def test_relay_beyond_loopback_requires_a_token(host: str) -> None:
    with pytest.raises(UnprotectedRelay, match=r"--host: other machines can reach .*--token-file.*--open"):
        await Relay(RelayConfig(host=host, port=0)).start()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_relay_behind_a_proxy_requires_a_token(host: str) -> None:
    with pytest.raises(
        UnprotectedRelay, match=r"--trust-proxy: other machines can reach the proxy in front.*--token-file.*--open"
    ):
        await Relay(RelayConfig(host=host, port=0, trust_proxies=("127.0.0.1",))).start()
    async with relay(trust_proxies=("127.0.0.1",), open=True):
        pass


@pytest.mark.parametrize("options", [{"token": "secret"}, {"open": True}])
async def test_relay_with_a_token_or_open_listens_beyond_loopback(options: dict[str, object]) -> None:
    server = Relay(RelayConfig(host="0.0.0.0", port=0, **options))  # type: ignore[arg-type]
    await server.start()
    await server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
async def test_relay_on_loopback_needs_no_token(host: str) -> None:
    server = Relay(RelayConfig(host=host, port=0))
    await server.start()
    await server.stop()


def test_only_one_token_option_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--token and --jwt-key: use one of them"):
        token_check(RelayConfig(token="a", jwt_key="b"))
    with pytest.raises(ConfigError, match="the token is empty"):
        token_check(RelayConfig(token=""))


def test_shared_token_must_be_equal() -> None:
    check = SharedTokenCheck("a" * 40)
    check.check(Join("A", token="a" * 40))
    with pytest.raises(ProtocolError, match="wrong"):
        check.check(Join("A", token="a" * 41))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "empty"), (b" \n", "empty"), (b"x" * (MAX_SECRET + 1), "right file"), (None, "No such file")],
)
def test_unusable_token_file_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"--token-file: .*secret: .*{complaint}"):
        read_secret(str(path), "--token-file")


def test_line_end_in_a_token_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hush\r\n")
    assert read_secret(str(tmp_path / "secret"), "--token-file") == b"hush"
