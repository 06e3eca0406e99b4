"""``peer run`` whose devices are missing at the start or fail in a call: the promises of docs/node.md."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import av
import numpy as np
import pytest

from tests.cli.program import Program
from tests.media import rtsp_server
from tests.waiting import on_this_machine

JOINED_WITHIN = 6.0
"""The promise for a start without devices, in seconds."""

LOST_WITHIN = 6.0
"""The promise for the report of a camera that freezes, in seconds. Its last frame is replaced by the card before."""

TAKEN_WITHIN = 2.0
"""The promise for a device that appears, in seconds."""


@pytest.fixture
def relay() -> Iterator[str]:
    with Program("serve", "--port", "0", "--json") as program:
        yield str(program.expect("listening")["url"])


def node(relay: str, *args: str) -> Program:
    return Program("run", "--id", "cam", "--server", relay, "--json", "--no-show", *args)


def viewer(relay: str, *args: str) -> Program:
    own = ("--video", "none", "--audio", "none", "--speaker", "none", "--no-show")
    return Program("call", "cam", "--id", "viewer", "--server", relay, "--json", *own, *args)


def test_node_without_any_device_joins_and_shows_the_card(relay: str, tmp_path: Path) -> None:
    picture = tmp_path / "card.png"
    missing = ("--video", "/dev/video97", "--audio", "hw:97", "--speaker", "hw:97")
    started = time.monotonic()
    with node(relay, *missing) as cam:
        cam.expect("source-lost", source="/dev/video97", cause="missing", kinds=["video"])
        cam.expect("joined", deadline=on_this_machine(JOINED_WITHIN))
        assert time.monotonic() - started < on_this_machine(JOINED_WITHIN)
        with viewer(relay, "--snapshot", str(picture), "--duration", "3s") as program:
            program.expect("first-frame")
            program.expect("snapshot")
            assert program.wait() == 0
        assert "/dev/video97: there is no such file or device; check the path" in cam.errors
    with av.open(str(picture)) as container:
        luma = next(container.decode(video=0)).to_ndarray(format="gray")
    assert 25 < np.median(luma) < 55 and np.mean(luma > 100) < 0.1, "a dark frame with some text"


@pytest.mark.sound
def test_microphone_and_speaker_that_appear_are_used(
    relay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, microphone = tmp_path / "asound.conf", tmp_path / "mic.raw"
    config.write_text("pcm.null { type null }")
    microphone.write_bytes(bytes(48_000 * 4 * 30))
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(config))
    with node(relay, "--video", "test", "--audio", "mic", "--speaker", "tape") as cam:
        cam.expect_all("source-lost", "sink-lost", "joined")
        sound = ("call", "cam", "--id", "viewer", "--server", relay, "--json", "--video", "none")
        with Program(*sound, "--audio", "test", "--speaker", "none", "--no-show") as program:
            program.expect("connected")
            appeared = time.time()
            config.write_text(
                f"""
                pcm.null {{ type null }}
                pcm.mic {{ type file slave.pcm null file "/dev/null" infile "{microphone}" format raw }}
                pcm.tape {{ type file slave.pcm null file "{tmp_path}/played.raw" format raw }}
                """
            )
            cam.expect_all("source-back", "sink-back")
            assert time.time() - appeared < on_this_machine(TAKEN_WITHIN)


async def test_rtsp_camera_that_appears_is_shown(relay: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with node(relay, "--video", f"rtsp://127.0.0.1:{port}/camera", "--speaker", "none") as cam:
        lost = await asyncio.to_thread(cam.expect, "source-lost", cause="unreachable")
        assert lost["kinds"] == ["video", "audio"]
        await asyncio.to_thread(cam.expect, "joined")
        with viewer(relay) as program:
            await asyncio.to_thread(program.expect, "source-lost", peer="cam", kinds=["video"], cause="unreachable")
            await asyncio.to_thread(program.expect, "first-frame")
            appeared = time.time()
            async with rtsp_server.serve(port):
                back = await asyncio.to_thread(cam.expect, "source-back")
                assert back["time"] - appeared < on_this_machine(TAKEN_WITHIN)
                await asyncio.to_thread(program.expect, "source-back", peer="cam", kinds=["video"])


async def test_rtsp_camera_that_freezes_is_reported_and_reopened(relay: str) -> None:
    async with rtsp_server.serve() as camera:
        with node(relay, "--video", camera.url, "--speaker", "none") as cam, viewer(relay) as program:
            await asyncio.to_thread(cam.expect, "joined")
            await asyncio.to_thread(program.expect, "first-frame")
            lost = await asyncio.to_thread(cam.expect, "source-lost", cause="silent")
            assert 0 < lost["time"] - camera.frozen_at < on_this_machine(LOST_WITHIN)
            await asyncio.to_thread(program.expect, "source-lost", peer="cam")
            await asyncio.to_thread(cam.expect, "source-back")
            assert "ended" not in program.names()


async def test_rtsp_camera_that_dies_is_shown_after_its_return(relay: str) -> None:
    async with AsyncExitStack() as stack:
        async with rtsp_server.serve() as camera:
            cam = stack.enter_context(node(relay, "--video", camera.url, "--speaker", "none"))
            program = stack.enter_context(viewer(relay))
            await asyncio.to_thread(cam.expect, "joined")
            await asyncio.to_thread(program.expect, "first-frame")
        await asyncio.to_thread(cam.expect, "source-lost")
        appeared = time.time()
        async with rtsp_server.serve(int(camera.url.split(":")[-1].split("/")[0])):
            back = await asyncio.to_thread(cam.expect, "source-back")
            assert back["time"] - appeared < on_this_machine(TAKEN_WITHIN)
            await asyncio.to_thread(program.expect, "source-back", peer="cam")
