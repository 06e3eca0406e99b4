"""The media clock and encoded frames."""

from __future__ import annotations

import time

import pytest

from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, MAX_PIXELS, OutgoingFrame, media_time


def test_media_time_advances_with_the_monotonic_clock() -> None:
    offset = time.monotonic() - media_time()
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    assert time.monotonic() - media_time() == pytest.approx(offset, abs=0.01)
    assert media_time() > 0


def test_outgoing_frame_byte_count_is_the_size_of_all_payloads() -> None:
    assert OutgoingFrame((b"abc", b"", b"de"), timestamp=0, key=True).byte_count == 5


def test_constants_agree_with_their_standards() -> None:
    assert AUDIO_FRAME_SAMPLES / AUDIO_RATE == 0.02
    assert MAX_PIXELS == 8192 * 4352
