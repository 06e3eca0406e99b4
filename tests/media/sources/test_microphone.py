"""A microphone through ALSA without hardware. Each test has its own process, as ALSA reads its configuration once."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from peer.media.sources import capture_time, microphone
from peer.media.sources.microphone import with_conversion

pytestmark = pytest.mark.sound

_LISTEN = """
import asyncio, sys
import numpy as np
from peer.media.test_pattern import dominant_frequency
from peer.media.sources.local_media import open_sources
from peer.media.frames import media_time
from peer.media.sources.spec import parse_audio, parse_video

async def main():
    media = await open_sources(parse_video("none"), parse_audio(sys.argv[1]))
    started = media_time()
    with media.audio.read(100) as audio:
        frames = [await asyncio.wait_for(audio.get(), 5) for _ in range(50)]
    took, age = media_time() - started, media_time() - frames[-1].time
    await media.close()
    samples = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames])
    steps = set(np.diff([frame.pts for frame in frames]).tolist())
    print(dominant_frequency(samples), steps, 0.8 < took < 4, 0 < age < 1)

asyncio.run(main())
"""


_LISTEN_LATE = """
import itertools, sys, threading
import numpy as np
from peer.media.sources.microphone import read
from peer.media.test_pattern import dominant_frequency

class Busy(threading.Event):
    def wait(self, timeout):
        return super().wait(timeout + 0.1)

frames = list(itertools.islice(read(sys.argv[1], Busy()), 50))
samples = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames])
print(dominant_frequency(samples), set(np.diff([frame.pts for frame in frames]).tolist()))
"""
"""Simulates a machine that wakes its threads 0.1 s late."""


def _listen(
    tmp_path: Path, device: str, config: str = "", program: str = _LISTEN
) -> subprocess.CompletedProcess[str]:
    wave = np.sin(np.arange(48_000 * 10) * 2 * np.pi * 750 / 48_000) * 8000
    (tmp_path / "tone.raw").write_bytes(wave.astype("<i2").tobytes())
    (tmp_path / "asound.conf").write_text(f"</usr/share/alsa/alsa.conf>\n{config.format(folder=tmp_path)}\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ALSA_")}
    environ["ALSA_CONFIG_PATH"] = str(tmp_path / "asound.conf")
    return subprocess.run(
        [sys.executable, "-c", program, device], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


_ROOM = """
pcm.tone {{ type file; slave.pcm null; file "/dev/null"; infile "{folder}/tone.raw"; format "raw" }}
pcm.room {{ type plug; slave {{ pcm tone; channels 1; rate 48000; format S16_LE }} }}
"""
"""Configuration of a device that delivers a tone of 750 Hz."""


def test_microphone_delivers_in_real_time_without_gaps(tmp_path: Path) -> None:
    result = _listen(tmp_path, "room", _ROOM)
    assert result.stdout.strip() == "750.0 {960} True True", result.stderr


def test_microphone_without_clock_late_reader_leaves_no_gap(tmp_path: Path) -> None:
    result = _listen(tmp_path, "room", _ROOM, _LISTEN_LATE)
    assert result.stdout.strip() == "750.0 {960}", result.stderr


class FastDevice:
    """A device with a poor clock, 0.5% too fast, in simulated time."""

    now = 0.0

    def __init__(self, name: str, rate: int, period: float, buffer: float) -> None:
        self._rate = rate * 1.005
        self._opened, self._read = FastDevice.now, 0
        self.waiting: list[int] = []

    def read(self, count: int) -> tuple[np.ndarray, int]:
        self._read += count
        FastDevice.now = max(FastDevice.now, self._opened + self._read / self._rate)
        self.waiting.append(int((FastDevice.now - self._opened) * self._rate) - self._read)
        return np.zeros((1, 2 * count), np.int16), self.waiting[-1]

    def close(self) -> None:
        assert max(self.waiting) < 0.05 * 48_000, "captured audio was not read"


class FastDevicesTime(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        FastDevice.now += timeout or 0.0
        return False


def test_microphone_with_fast_clock_adds_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """One minute with this clock equals an hour with a good one."""
    monkeypatch.setattr(microphone, "CaptureDevice", FastDevice)
    for module in (microphone, capture_time):
        monkeypatch.setattr(module, "media_time", lambda: FastDevice.now)
    with contextlib.closing(microphone.read("fast", FastDevicesTime())) as audio:
        for frame in itertools.islice(audio, 3000):
            assert frame.time == pytest.approx(FastDevice.now, abs=0.1)


def test_microphone_without_clock_is_paced(tmp_path: Path) -> None:
    result = _listen(tmp_path, "null")
    assert result.stdout.strip().endswith("{960} True True"), result.stderr


@pytest.mark.parametrize("device", ["nosuch", "hw:29"])
def test_microphone_missing_device_error_is_one_line(tmp_path: Path, device: str) -> None:
    result = _listen(tmp_path, device)
    assert result.returncode == 1
    assert "there is no such file or device" in result.stderr.splitlines()[-1]
    assert "ALSA lib" not in result.stderr


def test_microphone_hw_device_gets_conversion() -> None:
    assert with_conversion("hw:1,0") == "plughw:1,0"
    assert with_conversion("plughw:1,0") == "plughw:1,0"
    assert with_conversion("default") == "default"
