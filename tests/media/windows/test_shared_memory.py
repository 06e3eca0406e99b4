"""Pictures cross whole, newest first, and nobody waits."""

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


def test_nothing_is_read_before_anything_was_written(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    assert ends[1].read() is None


def test_a_picture_arrives_as_it_was_written_and_only_once(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    pixels = np.random.default_rng(1).integers(0, 255, (100, 160, 3), np.uint8)
    writer.write(pixels, 1280, 800, 29.5)
    picture = reader.read()
    assert picture is not None
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.source_width, picture.source_height, picture.fps) == (1280, 800, 29.5)
    assert reader.read() is None


def test_the_newest_picture_wins(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    for value in range(7):
        writer.write(_plain(value), 320, 240, 30)
    picture = reader.read()
    assert picture is not None and picture.number == 7 and (picture.pixels == 6).all()


def test_rows_with_padding_are_written_without_it(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    padded = np.zeros((10, 64, 3), np.uint8)
    padded[:, :20] = 200
    writer.write(padded[:, :20], 20, 10, 1)
    picture = reader.read()
    assert picture is not None and picture.pixels.shape == (10, 20, 3) and (picture.pixels == 200).all()


def test_a_size_change_between_two_pictures_is_carried(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    writer, reader = ends
    for width, height in ((320, 240), (240, 320), (16, 16)):
        writer.write(_plain(9, width, height), width, height, 30)
        picture = reader.read()
        assert picture is not None and picture.pixels.shape == (height, width, 3)


def test_a_picture_that_is_too_large_is_refused(ends: tuple[SharedFrameWriter, SharedFrameReader]) -> None:
    with pytest.raises(ValueError, match="640x480"):
        ends[0].write(_plain(0, 640, 480), 640, 480, 30)


def test_no_picture_is_ever_torn() -> None:
    """Large pictures take long to copy, small ones no time to write: the writer comes round during a copy."""
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
    pictures: list[SharedFrame] = []
    until = time.monotonic() + 30
    while len(pictures) < 200 and time.monotonic() < until:
        if (picture := reader.read()) is not None:
            pictures.append(picture)
    enough.set()
    thread.join()
    reader.close()
    writer.close()
    assert pictures
    assert all((picture.pixels == picture.fps).all() for picture in pictures)
