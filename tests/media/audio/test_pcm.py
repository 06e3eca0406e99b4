"""PCM devices, on ALSA's plugins that need no hardware."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from peer.media.audio import pcm
from peer.media.audio.pcm import CaptureDevice, PlaybackDevice

pytestmark = pytest.mark.sound


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for ``played.raw`` by device ``tape``; device ``loop`` captures ``captured.raw``."""
    (tmp_path / "asound.conf").write_text(
        f"""
        pcm.null {{ type null }}
        pcm.tape {{ type file slave.pcm null file "{tmp_path}/played.raw" format raw }}
        pcm.loop {{ type file slave.pcm null file "/dev/null" infile "{tmp_path}/captured.raw" format raw }}
        """
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    return tmp_path


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No libasound can be loaded."""

    def fail(path: str) -> None:
        raise OSError(errno.ENOENT, f"{path}: cannot open shared object file")

    pcm._libasound.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", fail)
    yield
    pcm._libasound.cache_clear()


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-999, 999, (samples, 2), np.int16)


def test_playback_writes_the_samples_unchanged(folder: Path) -> None:
    device = PlaybackDevice("tape", 48_000, 0.08)
    samples = _noise(4800)
    device.write(samples)
    device.close()
    assert np.array_equal(np.fromfile(folder / "played.raw", np.int16).reshape(-1, 2)[:4800], samples)


def test_capture_reads_the_samples_unchanged(folder: Path) -> None:
    samples = _noise(4800)
    samples.tofile(folder / "captured.raw")
    device = CaptureDevice("loop", 48_000, 0.01, 0.5)
    parts = [device.read(960)[0] for _ in range(5)]
    device.close()
    assert [part.shape for part in parts] == [(1, 1920)] * 5
    assert np.array_equal(np.concatenate(parts, axis=1).reshape(-1, 2), samples)


_OPENERS = [
    lambda name: PlaybackDevice(name, 48_000, 0.08),
    lambda name: CaptureDevice(name, 48_000, 0.01, 0.5),
]


@pytest.mark.parametrize("open_device", _OPENERS, ids=["playback", "capture"])
def test_device_close_may_be_called_twice(folder: Path, open_device: Callable[[str], pcm._Device]) -> None:
    device = open_device("null")
    device.close()
    device.close()


@pytest.mark.parametrize("open_device", _OPENERS, ids=["playback", "capture"])
def test_missing_device_raises_its_errno_silently(
    folder: Path, open_device: Callable[[str], pcm._Device], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError) as caught:
        open_device("nowhere")
    assert caught.value.errno == errno.ENOENT
    assert capfd.readouterr().err == ""


def test_unsupported_rate_closes_the_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = pcm._Device.close
    monkeypatch.setattr(pcm._Device, "close", lambda device: (closed.append(device), close(device)))
    with pytest.raises(OSError):
        CaptureDevice("null", 0, 0.01, 0.5)
    assert len(closed) == 1


def test_missing_library_error_names_the_packages(without_library: None) -> None:
    with pytest.raises(OSError, match="install libasound2 and libasound2-plugins"):
        PlaybackDevice("null", 48_000, 0.08)
