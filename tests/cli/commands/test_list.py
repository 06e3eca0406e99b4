"""``peer list``, as a process."""

from __future__ import annotations

import signal
import time

from tests.cli.program import DEADLINE, QUIET, Program


def test_list_prints_one_id_per_line(relay: str, door: str) -> None:
    with Program("list", "--server", relay) as program:
        assert program.wait() == 0
    assert door in program.text
    with Program("list", "--server", relay, "--json") as program:
        assert program.wait() == 0
    (joined,) = program.events
    assert joined["event"] == "joined"
    assert door in joined["peers"]


def test_list_watch_reports_joins_and_leaves(relay: str) -> None:
    with Program("list", "--server", relay, "--room", "watched", "--watch", "--json") as watch:
        watch.expect("joined", peers=[])
        with Program("run", "--id", "guest", "--server", relay, "--room", "watched", "--json", *QUIET) as guest:
            watch.expect("peer-joined", peer="guest")
            guest.send(signal.SIGTERM)
            watch.expect("peer-left", peer="guest")
        watch.send(signal.SIGINT)
        assert watch.wait() == 130


def test_list_reports_lost_relay_and_empty_room_once() -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        url = serve.expect("listening")["url"]
        with Program("list", "--server", url, "--watch", "--json", "-v") as watch:
            watch.expect("joined", peers=[])
            with Program("list", "--server", url, "--room", "empty") as alone:
                assert alone.wait() == 0
                assert alone.text == [] and alone.errors == "no other peers in the room\n"
            with Program("list", "--server", url, "--room", "empty", "-q") as quiet:
                assert quiet.wait() == 0
                assert quiet.errors == ""
            serve.send(signal.SIGTERM)
            assert serve.wait() == 0
            watch.expect("server-lost", detail="the relay is shutting down")
            until = time.monotonic() + DEADLINE
            while watch.errors.count("next try") < 3:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert not [line for line in watch.errors.splitlines() if "relay" in line and "next try" not in line]
            watch.send(signal.SIGINT)
            assert watch.wait() == 130
        assert watch.names().count("server-lost") == 1


def test_list_declines_calls(relay: str) -> None:
    with Program("list", "--id", "eye", "--server", relay, "--watch", "--json") as watch:
        watch.expect("joined")
        with Program("call", "eye", "--server", relay, "--json", *QUIET) as caller:
            assert caller.wait() == 4
        assert caller.events[-2]["reason"] == "declined"
