"""Pictures decoded only while somebody wants them, and at once when somebody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from peer.media.sources import decoding
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder
from peer.media.test_pattern import read_pattern
from tests.media.clips import write_h264


@contextmanager
def _clip(path: Path) -> Iterator[Iterator[Any]]:
    with av.open(str(path)) as container:
        yield container.demux(video=0)


def _numbers(pictures: list[Any] | None) -> list[int]:
    readings = [read_pattern(picture.to_ndarray(format="gray")) for picture in pictures or []]
    return [reading.frame for reading in readings if reading is not None]


def test_nothing_is_decoded_while_nobody_wants_it(tmp_path: Path) -> None:
    flags = DecodeFlags(video=False)
    pictures = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1)) as packets:
        assert [pictures.decode(packet) for packet in packets] == [None] * 26  # and the end of it
    assert flags.decoded_packets == 0


def test_the_first_who_looks_gets_the_picture_of_now_at_once(tmp_path: Path) -> None:
    flags = DecodeFlags(video=False)
    pictures = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=2)) as packets:
        for number, packet in enumerate(packets):
            flags.video = number >= 40
            got = pictures.decode(packet)
            if number == 40:
                assert _numbers(got) == [40]
                assert flags.decoded_packets == 16  # from key frame 25 on
            elif 40 < number < 50:
                assert _numbers(got) == [number]


def test_who_comes_back_within_the_same_group_of_pictures_waits_for_nothing(tmp_path: Path) -> None:
    flags = DecodeFlags()
    pictures = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1)) as packets:
        for number, packet in enumerate(packets):
            flags.video = not 5 <= number < 10
            got = pictures.decode(packet)
            if number in (4, 10, 11):
                assert _numbers(got) == [number]
            if number == 5:
                assert got is None
    assert flags.decoded_packets == 5 + 11 + 14


@pytest.mark.parametrize(("bound", "value"), [("_MAX_CACHED_PACKETS", 8), ("_MAX_CACHED_BYTES", 6000)])
def test_beyond_the_bound_the_next_key_frame_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(decoding, bound, value)
    flags = DecodeFlags(video=False)
    pictures = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1.2)) as packets:
        first = None
        for number, packet in enumerate(packets):
            flags.video = number >= 20
            got = pictures.decode(packet)
            assert len(pictures._cache) <= 9
            first = number if first is None and got else first
    assert first == 25


def test_a_stream_without_key_frames_is_decoded_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MAX_CACHED_PACKETS", 3)
    monkeypatch.setattr(decoding, "_KEY_FRAME_WAIT", 10)
    flags = DecodeFlags(video=False)
    pictures = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1, gop=1000)) as packets:
        for number, packet in enumerate(packets):
            flags.video = number >= 6
            if packet.size:
                packet.is_keyframe = False
                pictures.decode(packet)
    assert flags.decoded_packets == 25 - 13


def test_b_frames_at_the_end_are_not_lost(tmp_path: Path) -> None:
    pictures = OnDemandVideoDecoder(DecodeFlags())
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1, profile="high", b_frames=2)) as packets:
        numbers = [number for packet in packets for number in _numbers(pictures.decode(packet))]
    assert numbers == list(range(25))


def test_damage_is_forgiven_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def decode(self) -> list[Any]:
            raise av.error.InvalidDataError(1, "torn")

    monkeypatch.setattr(decoding, "_MAX_DAMAGED", 3)
    decoder = decoding.TolerantDecoder()
    assert [decoder.decode(Torn()) for _ in range(3)] == [[], [], []]
    with pytest.raises(av.error.InvalidDataError):
        decoder.decode(Torn())
