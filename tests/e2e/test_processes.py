"""Whole programs: relays, nodes and callers in processes of their own, with real files, windows and audio devices."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from peer.media.test_pattern import dominant_frequency
from tests import x_server
from tests.cli.program import QUIET, TEST, Program
from tests.media.clips import real_clip

Array = npt.NDArray[Any]


@pytest.fixture
def relay() -> Iterator[str]:
    with Program("serve", "--port", "0", "--json") as program:
        yield str(program.expect("listening")["url"])


def node(relay: str, id_: str, *args: str) -> Program:
    return Program("run", "--id", id_, "--server", relay, "--json", *(args or TEST))


def caller(relay: str, *args: str) -> Program:
    return Program("call", "--server", relay, "--json", *args)


def test_three_processes_call_each_other(relay: str) -> None:
    """The five phases of the original specification, from the command line: C calls A and B, which are connected."""
    with node(relay, "A") as a, node(relay, "B", *TEST, "--call", "A") as b:
        a.expect("incoming", peer="B")
        b.expect("first-frame", peer="A")
        a.expect("first-frame", peer="B")
        with caller(relay, "A", "B", "--id", "C", *TEST) as c:
            assert {c.expect("first-frame")["peer"] for _ in range(2)} == {"A", "B"}
            a.expect("first-frame", peer="C")
            b.expect("first-frame", peer="C")
            c.send(signal.SIGINT)
            assert c.wait() == 130
        for program in (a, b):
            assert program.expect("ended", peer="C")["reason"] == "remote-hang-up"


def test_killed_node_is_detected_and_redialed(relay: str) -> None:
    with node(relay, "watcher", *QUIET, "--call", "cam") as watcher:
        with node(relay, "cam") as cam:
            watcher.expect("first-frame", peer="cam")
            cam.send(signal.SIGKILL)
            killed = time.monotonic()
            assert watcher.expect("ended", 15, peer="cam")["reason"] in ("peer-left", "transport-failed")
            assert time.monotonic() - killed < 12
        with node(relay, "cam"):
            watcher.expect("first-frame", 30, peer="cam")


def expect_video(program: Program) -> None:
    """Wait until video arrives at more than 5 fps. On a busy machine, one interval can be without a frame."""
    while program.expect("stats")["video"]["fps"] <= 5:
        pass


def test_killed_relay_ends_no_call() -> None:
    with Program("serve", "--port", "0", "--json") as relay:
        url = str(relay.expect("listening")["url"])
        port = url.split(":")[2].split("/")[0]
        with node(url, "cam") as cam, caller(url, "cam", *QUIET) as program:
            program.expect("first-frame")
            relay.send(signal.SIGKILL)
            relay.wait()
            program.expect("server-lost")
            expect_video(program)
            with Program("serve", "--port", port, "--json"):
                program.expect("server-back", 30)
                cam.expect("server-back", 30)
                expect_video(program)
                cam.send(signal.SIGTERM)
                assert program.expect("ended")["reason"] == "remote-hang-up"
                assert program.wait() == 0
                assert program.names().count("connected") == 1


# --- a real clip, recorded at the remote ---


def read_video(path: Path) -> tuple[Array, Array]:
    """Return the time of each frame in seconds, and each frame as 48 x 27 gray."""
    times, images = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
            images.append(frame.reformat(48, 27, "gray").to_ndarray()[:, :48].astype(np.float64))
    return np.array(times), np.array(images)


def read_loudness(path: Path) -> Array:
    """Return the envelope of the audio: RMS of every 10 ms from the start of the file."""
    samples: list[Array] = []
    start: float | None = None
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48_000)
        for frame in container.decode(audio=0):
            start = float(frame.pts * frame.time_base) if start is None else start
            samples += [f.to_ndarray()[0] for f in resampler.resample(frame)]
    sound = np.concatenate([np.zeros(round((start or 0.0) * 48_000)), *samples])
    return np.asarray(np.sqrt(np.mean(sound[: len(sound) // 480 * 480].reshape(-1, 480) ** 2, axis=1)))


def test_clip_recorded_at_the_remote_is_the_clip(relay: str, tmp_path: Path) -> None:
    clip, recording = real_clip(), tmp_path / "recording.mkv"
    source = (*("--video", str(clip), "--audio", str(clip)), "--speaker", "none", "--no-show", "--size", "640x360")
    with node(relay, "cinema", *source) as cinema:
        cinema.expect("joined")
        with caller(relay, "cinema", *QUIET, "--record", str(recording), "--duration", "5s") as program:
            assert program.wait(40) == 0
            assert program.names().count("recorded") == 1

    clip_times, clip_frames = read_video(clip)
    times, images = read_video(recording)
    assert len(images) > 75, "of 125 frames in 5 s"

    def flat(images: Array) -> Array:
        rows = images.reshape(len(images), -1)
        rows = rows - rows.mean(axis=1, keepdims=True)
        return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9))

    likeness = flat(images) @ flat(clip_frames).T
    best = likeness.argmax(axis=1)
    assert np.median(likeness.max(axis=1)) > 0.97, "the frames are those of the clip"
    assert np.mean(np.diff(best) >= 0) > 0.9, "in their order"
    video_offset = float(np.median(times - clip_times[best]))

    heard, played = read_loudness(recording), read_loudness(clip)
    span = min(len(heard), len(played)) - 100
    shifts = range(-100, 101)
    scores = [np.corrcoef(heard[100 : span - 100], played[100 - s : span - 100 - s])[0, 1] for s in shifts]
    assert max(scores) > 0.8, "the audio is that of the clip"
    audio_offset = shifts[int(np.argmax(scores))] * 0.01
    assert abs(audio_offset - video_offset) < 0.1, "audio and video are in sync as before"


# --- windows ---


@pytest.fixture
def display() -> Iterator[str]:
    with x_server.running() as server:
        yield server.name


def xdotool(display: str, *args: str) -> str:
    return subprocess.run(
        ["xdotool", *args], env=os.environ | {"DISPLAY": display}, capture_output=True, text=True, check=False
    ).stdout.strip()


def window(display: str, title: str, program: Program) -> str:
    """Wait for the window with this title, and return its id."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := xdotool(display, "search", "--onlyvisible", "--name", title):
            return found.split()[0]
    there = [xdotool(display, "getwindowname", id_) for id_ in xdotool(display, "search", "--name", ".").split()]
    raise AssertionError(f"no window {title!r}, only {there}; {program.errors[-2000:]}")


def screenshot(display: str) -> Array:
    with av.open(display, format="x11grab", options={"video_size": "1280x800"}) as screen:
        return next(screen.decode(video=0)).to_ndarray(format="gray")


@pytest.mark.display
def test_window_shows_remote_video_and_key_q_hangs_up(
    relay: str, display: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    with node(relay, "door", *TEST) as door:
        door.expect("joined")
        with caller(relay, "door", "--video", "test", "--audio", "none", "--speaker", "none", "--show") as program:
            program.expect("first-frame")
            remote = window(display, "^door", program)
            window(display, "^me", program)
            before, deadline = screenshot(display), time.monotonic() + 20
            while np.mean(np.abs(screenshot(display).astype(int) - before) > 30) < 0.0005:
                assert time.monotonic() < deadline, "the video does not move"
            assert before.std() > 20, "the screen is not empty"
            xdotool(display, "windowfocus", remote)
            xdotool(display, "key", "--window", remote, "q")
            assert program.expect("ended")["reason"] == "hang-up"
            assert program.wait() == 0
        assert door.expect("ended")["reason"] == "remote-hang-up"


@pytest.mark.parametrize("display_name", ["", ":999"])
def test_call_without_display_continues_without_windows(
    relay: str, display_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display_name)
    with node(relay, "door", *TEST) as door:
        door.expect("joined")
        with caller(relay, "door", *QUIET[:-1], "--show") as program:
            program.expect("first-frame")
            for _ in range(20):  # seconds
                assert program.expect("stats")["video"]["fps"] > 0
                if "no windows" in program.errors:
                    break
            program.send(signal.SIGINT)
            assert program.wait() == 130
            assert program.errors.count("no windows") == 1


# --- audio devices ---


@pytest.mark.sound
def test_audio_is_sent_from_alsa_to_alsa(relay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The microphone of one peer is a 1 kHz tone, the speaker of the other one a file."""
    at = np.arange(48_000 * 30) / 48_000
    (np.sin(2 * np.pi * 1000 * at) * 8000).astype("<i2").repeat(2).tofile(tmp_path / "mic.raw")
    (tmp_path / "asound.conf").write_text(
        f"""
        pcm.null {{ type null }}
        pcm.mic {{ type file slave.pcm null file "/dev/null" infile "{tmp_path}/mic.raw" format raw }}
        pcm.tape {{ type file slave.pcm null file "{tmp_path}/out.raw" format raw }}
        """
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    with node(relay, "ear", "--video", "none", "--audio", "mic", "--speaker", "none", "--no-show") as ear:
        ear.expect("joined")
        quiet = ("--video", "none", "--audio", "none", "--speaker", "tape", "--no-show")
        with caller(relay, "ear", *quiet, "--duration", "3s") as program:
            assert program.wait() == 0
    played = np.fromfile(tmp_path / "out.raw", "<i2").reshape(-1, 2)[:, 0]
    loud = played[np.abs(played) > 500]
    assert len(loud) > 24_000, "at least half a second of audio was played"
    middle = len(played) // 2
    assert abs(dominant_frequency(played[middle - 12_000 : middle + 12_000], 48_000) - 1000) < 10
