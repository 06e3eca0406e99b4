"""``peer list``, ``peer serve``, ``peer devices`` and ``peer demo``, as processes."""

from __future__ import annotations

import json
import signal
import time
import urllib.request

import pytest

from peer.cli.commands.demo import _in_words
from tests.cli.program import DEADLINE, QUIET, Program


def test_list_shows_who_is_there(relay: str, door: str) -> None:
    with Program("list", "--server", relay) as program:
        assert program.wait() == 0
    assert door in program.text
    with Program("list", "--server", relay, "--json") as program:
        assert program.wait() == 0
    (joined,) = program.events
    assert joined["event"] == "joined"
    assert door in joined["peers"]


def test_list_watches_who_comes_and_goes(relay: str) -> None:
    with Program("list", "--server", relay, "--room", "watched", "--watch", "--json") as watch:
        watch.expect("joined", peers=[])
        with Program("run", "--id", "guest", "--server", relay, "--room", "watched", "--json", *QUIET) as guest:
            watch.expect("peer-joined", peer="guest")
            guest.send(signal.SIGTERM)
            watch.expect("peer-left", peer="guest")
        watch.send(signal.SIGINT)
        assert watch.wait() == 130


def test_list_tells_once_that_the_relay_is_away_and_that_nobody_else_is_there() -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        url = serve.expect("listening")["url"]
        with Program("list", "--server", url, "--watch", "--json") as watch:
            watch.expect("joined", peers=[])
            with Program("list", "--server", url, "--room", "empty") as alone:
                assert alone.wait() == 0
                assert alone.text == [] and alone.errors == "nobody else is here\n"
            with Program("list", "--server", url, "--room", "empty", "-q") as quiet:
                assert quiet.wait() == 0
                assert quiet.errors == ""
            serve.send(signal.SIGTERM)
            assert serve.wait() == 0
            watch.expect("server-lost")
            until = time.monotonic() + DEADLINE
            while watch.errors.count("relay away") < 3:
                assert time.monotonic() < until
                time.sleep(0.05)
            watch.send(signal.SIGINT)
            assert watch.wait() == 130
        assert watch.names().count("server-lost") == 1


def test_list_declines_calls(relay: str) -> None:
    with Program("list", "--id", "eye", "--server", relay, "--watch", "--json") as watch:
        watch.expect("joined")
        with Program("call", "eye", "--server", relay, "--json", *QUIET) as caller:
            assert caller.wait() == 4
        assert caller.events[-2]["reason"] == "declined"


def test_list_without_a_server_is_3() -> None:
    with Program("list", "--server", "ws://127.0.0.1:9/ws", "--timeout", "200ms", "--json") as program:
        assert program.wait() == 3
    assert program.events[-1]["code"] == "server-unreachable"


def test_serve_tells_where_and_ends_well() -> None:
    with Program("serve", "--port", "0", "--json") as program:
        where = program.expect("listening")
        with urllib.request.urlopen(where["page"], timeout=5) as page:
            assert page.status == 200
        with urllib.request.urlopen(where["page"] + "healthz", timeout=5) as health:
            assert health.status == 200
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_serve_tells_where_its_metrics_are() -> None:
    with Program("serve", "--port", "0", "--metrics", "0", "--json") as program:
        where = program.expect("listening")["metrics"]
        assert where.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(where, timeout=10) as answer:
            assert b"\nrelay_ready 1.0\n" in answer.read()


@pytest.mark.parametrize("where", ["here", "localhost:99999", ":", "::1:9100", "[::1]", "1:2:3"])
def test_metrics_nowhere_is_2(where: str) -> None:
    with Program("serve", "--metrics", where) as program:
        assert program.wait() == 2
        assert "no place to listen" in program.errors


def test_serve_on_a_port_in_use_is_3(relay: str) -> None:
    port = relay.rpartition(":")[2].partition("/")[0]
    with Program("serve", "--port", port) as program:
        assert program.wait() == 3
        assert "in use" in program.errors
        assert "Traceback" not in program.errors


def test_metrics_on_a_port_in_use_are_named_and_nothing_listens(relay: str) -> None:
    port = relay.rpartition(":")[2].partition("/")[0]
    with Program("serve", "--port", "0", "--metrics", port) as program:
        assert program.wait() == 3
        assert "for --metrics: the port is in use" in program.errors and "try --metrics 0" in program.errors
        assert "listening" not in program.errors + "".join(program.text)


def test_a_demo_of_nothing_is_2() -> None:
    with Program("demo", "--video", "none", "--audio", "none") as program:
        assert program.wait() == 2
        assert "nothing to see or hear" in program.errors


def test_devices_says_what_there_is_or_that_there_is_nothing() -> None:
    with Program("devices") as program:
        assert program.wait() == 0
    for title in ("Cameras (--video)", "Microphones (--audio)", "Speakers (--speaker)"):
        assert program.text[program.text.index(title) + 1].startswith("  ")
    with Program("devices", "--json") as program:
        assert program.wait() == 0
    assert program.text == []
    assert {body["event"] for body in program.events} <= {"device"}


def test_the_demo_sees_the_picture_and_hears_the_tone() -> None:
    with Program("demo", "--duration", "3s", "--json", "--no-show", "--size", "320x240") as program:
        assert program.wait(40) == 0, program.errors
    result = program.events[-1]
    assert result["event"] == "demo"
    assert result["ok"] is True
    assert result["pictures"] > 20
    assert abs(result["tone_hz"] - 440) <= 5
    assert result["latency_ms"] < 1000
    assert {"connected", "first-frame"} <= set(program.names())


def test_a_demo_without_pictures_fails() -> None:
    with Program("demo", "--duration", "1s", "--no-show", "--video", "none") as program:
        assert program.wait(40) == 1
        assert "Traceback" not in program.errors


def test_logs_can_be_json_and_stay_out_of_the_output() -> None:
    with Program("serve", "--port", "0", "--json", "--log-format", "json") as program:
        program.expect("listening")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        lines = [json.loads(line) for line in program.errors.splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert program.text == []


def test_the_password_of_a_camera_is_not_shown() -> None:
    camera = "rtsp://user:secret@cam/1"
    for video, audio in ((camera, "none"), (camera, camera), ("none", camera)):
        assert "secret" not in _in_words(video, audio)
        assert "cam/1" in _in_words(video, audio)
