"""``peer call``, as a process, against a real relay and a real node."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peer import Agent
from tests.cli.program import QUIET, TEST, Program


def call(relay: str, *args: str) -> Program:
    return Program("call", "--server", relay, "--json", *QUIET, *args)


def test_call_with_duration_exits_with_0(relay: str, door: str, tmp_path: Path) -> None:
    snapshot, video = tmp_path / "door.png", tmp_path / "door.mkv"
    with call(relay, door, "--duration", "2s", "--record", str(video), "--snapshot", str(snapshot)) as program:
        assert program.wait() == 0
    names = program.names()
    assert names[:3] == ["joined", "calling", "connected"]
    assert {"first-frame", "snapshot", "recorded", "ended"} <= set(names)
    assert all("time" in body for body in program.events)
    ended = next(body for body in program.events if body["event"] == "ended")
    assert (ended["peer"], ended["reason"]) == (door, "hang-up")
    first = next(body for body in program.events if body["event"] == "first-frame")
    assert (first["width"], first["height"]) == (320, 240)
    assert snapshot.read_bytes().startswith(b"\x89PNG")
    assert video.stat().st_size > 5_000
    assert program.text == []


def test_call_absent_peer_exits_with_4(relay: str) -> None:
    with call(relay, "nobody", "--timeout", "500ms") as program:
        assert program.wait() == 4
    error = program.events[-1]
    assert (error["event"], error["code"], error["peer"]) == ("error", "no-answer", "nobody")
    assert error["message"].startswith("nobody is not in the room; ")


NO_COMMON_CODEC = "no common codec, offered: VP8/90000, ours: h264; try --video-codec vp8,h264 at both ends"


def test_call_without_common_codec_explained_at_both_ends(relay: str) -> None:
    args = ("run", "--id", "cam", "--server", relay, "--json", *TEST, "--audio", "none", "--video-codec", "h264")
    with Program(*args) as node:
        node.expect("joined")
        with call(relay, "cam", "--video-codec", "vp8") as program:
            assert program.wait() == 4
            assert "declined (m=" in program.errors and NO_COMMON_CODEC in program.errors
        assert node.expect("ended")["reason"] == "media-error"
        assert NO_COMMON_CODEC in node.errors


async def test_call_declined_without_a_reason_suggests_other_codecs(relay: str) -> None:
    async with Agent("cam", server=relay, accept=lambda _: False):
        with call(relay, "cam", "--video-codec", "vp8") as program:
            assert await asyncio.to_thread(program.wait) == 4
            hint = "declined (perhaps because this peer accepts only vp8; try --video-codec vp8,h264)"
            assert hint in program.errors


def test_call_without_common_codec_continues_with_audio(relay: str) -> None:
    with Program("run", "--id", "cam", "--server", relay, "--json", *TEST, "--video-codec", "h264") as node:
        node.expect("joined")
        with call(relay, "cam", "--video-codec", "vp8", "--duration", "1s") as program:
            assert program.wait() == 0
            assert "m=video" in program.errors and "rejected by the answerer" in program.errors
        assert "connected" in program.names() and "first-frame" not in program.names()
        assert NO_COMMON_CODEC in node.errors


def test_call_waits_for_a_late_peer(relay: str) -> None:
    with call(relay, "late", "--duration", "200ms", "--timeout", "20s") as program:
        program.expect("joined")
        with Program("run", "--id", "late", "--server", relay, "--json", *TEST) as late:
            late.expect("joined")
            assert program.wait() == 0


def test_call_remote_hang_up_exits_with_0(relay: str) -> None:
    with (
        Program("run", "--id", "brief", "--server", relay, "--json", *TEST) as brief,
        call(relay, "brief") as program,
    ):
        program.expect("connected")
        brief.send(signal.SIGTERM)
        assert program.expect("ended")["reason"] == "remote-hang-up"
        assert program.wait() == 0
        assert brief.wait() == 130


def test_call_lost_exits_with_6(relay: str) -> None:
    with Program("run", "--id", "fragile", "--server", relay, "--json", *TEST) as fragile:
        fragile.expect("joined")
        with call(relay, "fragile") as program:
            program.expect("first-frame")
            fragile.send(signal.SIGKILL)
            assert program.expect("ended", 40)["reason"] in ("transport-failed", "peer-left")
            assert program.wait() == 6


def test_call_of_a_restarted_remote_continues_in_a_new_one(relay: str, tmp_path: Path) -> None:
    """The remote is killed, comes back within the grace period of its seat, and calls again."""
    node = ("run", "--id", "phoenix", "--server", relay, "--json", *TEST)
    with call(relay, "phoenix", "--id", "watcher", "--record", str(tmp_path / "call.mkv")) as program:
        with Program(*node) as first:
            program.expect("stats")
            first.send(signal.SIGKILL)
            first.wait()
        with Program(*node, "--call", "watcher") as second:
            program.expect("ended", reason="peer-left")
            program.expect("connected")
            program.expect("stats")
            second.send(signal.SIGTERM)
            program.expect("ended", reason="remote-hang-up")
            assert program.wait() == 0
    paths = {body["path"] for body in program.events if body["event"] == "recorded"}
    assert paths == {str(tmp_path / "call.mkv"), str(tmp_path / "call-2.mkv")}


def test_several_calls_end_with_the_last_one(relay: str, door: str) -> None:
    with call(relay, door, "nobody", "--duration", "500ms", "--timeout", "2s") as program:
        assert program.wait() == 4
    assert "connected" in program.names()


def test_call_without_relay_exits_with_3() -> None:
    with call("ws://127.0.0.1:9/ws", "door", "--timeout", "300ms") as program:
        assert program.wait() == 3
        assert "is `peer serve` running there?" in program.errors
        assert "Traceback" not in program.errors
    assert program.events[-1]["code"] == "server-unreachable"


def test_call_taken_id_exits_with_3(relay: str, door: str) -> None:
    with call(relay, "gate", "--id", door) as program:
        assert program.wait() == 3
        assert program.errors.count("is in the room already (id-taken); try another --id") == 1
    (error,) = program.events  # reported once
    assert error["code"] == "id-taken"


@pytest.mark.parametrize(
    "args", [("--video", "/dev/video99"), ("--record", "/dev/null/x.mkv"), ("--video", "none.mp4")]
)
def test_call_missing_device_or_file_exits_with_5(relay: str, args: tuple[str, str]) -> None:
    with call(relay, "door", *args) as program:
        assert program.wait() == 5
        assert args[1] in program.errors
        assert "Traceback" not in program.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_call_signal_closes_recording_and_exits_with_130(
    relay: str, door: str, tmp_path: Path, number: signal.Signals
) -> None:
    video = tmp_path / "door.mkv"
    with call(relay, door, "--record", str(video)) as program:
        program.expect("stats")
        program.expect("stats")
        program.send(number)
        assert program.wait() == 130
    assert program.names()[-2:] in (["ended", "recorded"], ["recorded", "ended"])
    assert next(body for body in program.events if body["event"] == "ended")["reason"] == "shutdown"


def test_call_ends_when_stdout_is_closed(relay: str, door: str) -> None:
    command = [sys.executable, "-m", "peer", "call", door, "--server", relay, "--json", *QUIET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "joined"
        process.stdout.close()
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_call_text_output_has_no_json(relay: str, door: str) -> None:
    with Program("call", door, "--server", relay, "--duration", "300ms", *QUIET) as program:
        assert program.wait() == 0
    assert program.events == []
    assert program.text[0].startswith("joined as ")
    assert any(line.startswith("door: connected in ") for line in program.text)
    assert "door: ended (hang-up)" in program.text
