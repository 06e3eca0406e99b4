"""Video frames in shared memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from peer.media.windows.shared_memory import SharedFrame, SharedFrameReader, SharedFrameWriter


@pytest.fixture
def ends() -> Iterator[tuple[SharedFrameWriter, SharedFrameReader]]:
    writer = SharedFrameWriter(320 * 240)
    reader = SharedFrameReader(os.dup(writer.fileno()))
    yield writer, reader
    reader.close()
    writer.close()


def _plain(value: int, width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_shared_memory_empty_reads_none(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    assert ends[1].read() is None


def test_shared_memory_frame_is_read_once(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    pixels = np.random.default_rng(1).integers(0, 255, (100, 160, 3), np.uint8)
    writer.write(pixels, 1280, 800, 29.5)
    frame = reader.read()
    assert frame is not None
    assert np.array_equal(frame.pixels, pixels)
    assert (frame.source_width, frame.source_height, frame.fps) == (1280, 800, 29.5)
    assert reader.read() is None


def test_shared_memory_newest_frame_wins(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    for value in range(7):
        writer.write(_plain(value), 320, 240, 30)
    frame = reader.read()
    assert frame is not None and frame.number == 7 and (frame.pixels == 6).all()


def test_shared_memory_padding_is_removed(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    padded = np.zeros((10, 64, 3), np.uint8)
    padded[:, :20] = 200
    writer.write(padded[:, :20], 20, 10, 1)
    frame = reader.read()
    assert frame is not None and frame.pixels.shape == (10, 20, 3) and (frame.pixels == 200).all()


def test_shared_memory_frame_size_may_change(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    for width, height in ((320, 240), (240, 320), (16, 16)):
        writer.write(_plain(9, width, height), width, height, 30)
        frame = reader.read()
        assert frame is not None and frame.pixels.shape == (height, width, 3)


def test_shared_memory_too_large_frame_raises(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    with pytest.raises(ValueError, match="640x480"):
        ends[0].write(_plain(0, 640, 480), 640, 480, 30)


def test_shared_memory_never_reads_a_torn_frame() -> None:
    """Large frames take long to copy and small ones no time to write, so the writer overtakes the reader."""
    writer = SharedFrameWriter(640 * 400)
    reader = SharedFrameReader(os.dup(writer.fileno()))
    enough = threading.Event()
    large = [_plain(value, 640, 400) for value in range(4)]

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            writer.write(large[number % 4], 640, 400, number % 4)
            writer.write(_plain(9, 2, 2), 2, 2, 9)
            writer.write(_plain(9, 2, 2), 2, 2, 9)

    thread = threading.Thread(target=write, name="writer")
    thread.start()
    frames: list[SharedFrame] = []
    until = time.monotonic() + 30
    while len(frames) < 200 and time.monotonic() < until:
        if (frame := reader.read()) is not None:
            frames.append(frame)
    enough.set()
    thread.join()
    reader.close()
    writer.close()
    assert frames
    assert all((frame.pixels == frame.fps).all() for frame in frames)
