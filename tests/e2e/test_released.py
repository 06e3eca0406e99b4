"""Released programs and ours in one room, with a relay of either version: calls in both directions."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.program import QUIET, TEST, Program
from tests.released import released


@pytest.mark.parametrize("relay_is_released", [False, True])
def test_released_peers_and_ours_call_each_other(relay_is_released: bool) -> None:
    old = released()
    with Program("serve", "--port", "0", "--json", source=old if relay_is_released else None) as relay:
        url = str(relay.expect("listening")["url"])

        def peer(command: str, id: str, *args: str, source: Path | None = None) -> Program:
            return Program(command, "--id", id, "--server", url, "--json", *args, source=source)

        with peer("run", "old", *TEST, source=old) as theirs, peer("run", "new", *TEST) as ours:
            theirs.expect("joined")
            ours.expect("joined")
            for source, callee, node in [(None, "old", theirs), (old, "new", ours)]:
                with peer("call", "caller", callee, *QUIET, source=source) as caller:
                    caller.expect("first-frame", peer=callee)
                    node.expect("connected", peer="caller")
                    caller.send(signal.SIGINT)
                    assert caller.wait() == 130
                assert node.expect("ended", peer="caller")["reason"] == "remote-hang-up"
