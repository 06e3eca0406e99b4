"""``peer serve --ice-server``, from the command line to a call through the real coturn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cli.program import QUIET, Program
from tests.coturn import coturn_with_secret
from tests.server.keys import secret

HUSH = "hush" * 8


def call_by(url: str, secret_file: str) -> str:
    """Make a call through the TURN server that the relay announces, and return the logs of all three programs."""
    options = ("--ice-server", url, "--turn-secret-file", secret_file)
    with Program("serve", "--port", "0", "--json", "-vv", *options) as relay:
        common = ("--server", relay.expect("listening")["url"], "--relay-only", "--json", "-vv", *QUIET)
        with (
            Program("run", "--id", "door", *common) as node,
            Program("call", "door", "--id", "me", "--duration", "100ms", *common) as call,
        ):
            call.expect("connected")
            assert call.wait() == 0
            return relay.errors + node.errors + call.errors


async def test_call_through_the_turn_server_that_the_relay_names(tmp_path: Path) -> None:
    """Only the relay has its address and secret, and no log shows the secret."""
    async with coturn_with_secret(tmp_path, HUSH) as turn:
        logged = await asyncio.to_thread(call_by, turn.url, secret(tmp_path, HUSH))
        await turn.allocated("door", "me")
    assert f"ICE servers for peers: {turn.url}?transport=udp" in logged
    assert HUSH not in logged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--ice-server", "turn:turn.example"],
            "turn:turn.example:3478?transport=udp has no credentials; write turn:",
        ),
        (["--ice-server", "turn.example"], "--ice-server: 'turn.example' is not an ICE server"),
        (["--ice-server", "turn:a", "--turn-secret-file", "nowhere"], "--turn-secret-file: nowhere: No such file"),
        (["--turn-secret-file", "nowhere"], "--turn-secret-file: "),
        (["--turn-lifetime", "10s"], "the minimum is 1m"),
    ],
)
def test_serve_unusable_ice_options_exit_with_2(options: list[str], message: str) -> None:
    with Program("serve", "--port", "0", *options) as program:
        assert program.wait() == 2
        assert message in program.errors and "Traceback" not in program.errors
