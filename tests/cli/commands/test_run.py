"""``peer run``, as a process: calls, redial, reconnection and exit codes."""

from __future__ import annotations

import asyncio
import signal

from websockets.asyncio.server import ServerConnection, serve

from tests.cli.program import DEADLINE, QUIET, TEST, Program


def test_run_calls_a_peer_each_time_it_joins(relay: str) -> None:
    with Program("run", "--id", "wall", "--server", relay, "--call", "cam", "--json", *QUIET) as wall:
        wall.expect("joined")
        for _ in range(2):
            with Program("run", "--id", "cam", "--server", relay, "--json", *TEST) as cam:
                cam.expect("incoming", peer="wall")
                wall.expect("connected", peer="cam")
                wall.expect("first-frame", peer="cam")
                cam.send(signal.SIGINT)
                assert cam.wait() == 130
            wall.expect("ended", peer="cam")
            wall.expect("peer-left", peer="cam")


def test_run_does_not_redial_after_a_hang_up(relay: str) -> None:
    with Program("run", "--id", "guard", "--server", relay, "--call", "door2", "--json", *QUIET) as guard:
        guard.expect("joined")
        script = "expect connected guard within 20s\nhang-up guard\nsleep 3s\n"
        with Program("script", "-", "--id", "door2", "--server", relay, "--json", script=script) as door:
            assert door.wait() == 0
        guard.expect("peer-left", peer="door2")
        assert guard.names().count("calling") == 1


async def test_run_survives_invalid_ids_in_the_peer_list() -> None:
    """The original server accepts any text as an id."""

    async def old_server(ws: ServerConnection) -> None:
        await ws.recv()
        await ws.send('{"type":"peer-list","peers":["my phone","Bj\u00f6rn"]}')
        await ws.wait_closed()

    async with serve(old_server, "127.0.0.1", 0) as server, asyncio.timeout(DEADLINE):
        port = next(iter(server.sockets)).getsockname()[1]
        args = ("run", "--call", "all", "--id", "a", "--server", f"ws://127.0.0.1:{port}/ws", "--json", *QUIET)
        with Program(*args) as node:
            await asyncio.to_thread(node.expect, "joined")
            node.send(signal.SIGTERM)
            assert await asyncio.to_thread(node.wait) == 130


def test_two_nodes_that_call_each_other_have_one_call(relay: str) -> None:
    with (
        Program("run", "--id", "left", "--server", relay, "--room", "two", "--call", "all", "--json", *TEST) as left,
        Program(
            "run", "--id", "right", "--server", relay, "--room", "two", "--call", "all", "--json", *TEST
        ) as right,
    ):
        left.expect("first-frame", peer="right")
        right.expect("first-frame", peer="left")
        for program in (left, right):
            program.expect("stats")
            program.expect("stats")
            assert "ended" not in program.names()


def test_run_waits_for_its_relay_and_reconnects(relay: str) -> None:
    with Program("serve", "--port", "0", "--json") as first:
        url = first.expect("listening")["url"]
        first.send(signal.SIGTERM)
        assert first.wait() == 0
    port = url.rpartition(":")[2].partition("/")[0]
    with Program("run", "--id", "patient", "--server", url, "--json", *QUIET) as node:
        with Program("serve", "--port", port, "--json") as second:
            second.expect("listening")
            node.expect("joined")
            second.send(signal.SIGKILL)
            node.expect("server-lost")
        with Program("serve", "--port", port, "--json") as third:
            third.expect("listening")
            node.expect("server-back")
            assert node.expect("joined")["id"] == "patient"


def test_run_with_duration_exits_with_0(relay: str) -> None:
    with Program("run", "--server", relay, "--duration", "500ms", "--json", *QUIET) as program:
        assert program.wait() == 0


def test_run_with_duration_that_never_joins_exits_with_3() -> None:
    with Program("run", "--server", "ws://127.0.0.1:9/ws", "--duration", "1s", *QUIET) as program:
        assert program.wait() == 3
        assert "cannot reach the relay at ws://127.0.0.1:9/ws: not joined within 1 s" in program.errors


def test_run_ids_without_call_exit_with_2(relay: str) -> None:
    with Program("run", "door", "--server", relay) as program:
        assert program.wait() == 2
        assert "write: peer run --call door" in program.errors


def test_run_taken_id_exits_with_3(relay: str) -> None:
    """The same id and the same key, joined from elsewhere, take the seat."""
    with Program("run", "--id", "seat", "--server", relay, "--json", *QUIET) as program:
        program.expect("joined")
        with Program("run", "--id", "seat", "--server", relay, "--json", *QUIET) as other:
            assert other.wait() == 3  # the state file is locked: another key, so the id is taken
        assert "ended" not in program.names()
        program.send(signal.SIGTERM)
        assert program.wait() == 130
