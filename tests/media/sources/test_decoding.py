"""On-demand decoding of video, and tolerance of damage."""

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


def _numbers(frames: list[Any] | None) -> list[int]:
    readings = [read_pattern(frame.to_ndarray(format="gray")) for frame in frames or []]
    return [reading.frame for reading in readings if reading is not None]


def test_on_demand_decoder_without_flag_decodes_nothing(tmp_path: Path) -> None:
    flags = DecodeFlags(video=False)
    decoder = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1)) as packets:
        assert [decoder.decode(packet) for packet in packets] == [None] * 26  # and the empty packet at the end
    assert flags.decoded_packets == 0


def test_on_demand_decoder_first_frame_is_the_current_one(tmp_path: Path) -> None:
    flags = DecodeFlags(video=False)
    decoder = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=2)) as packets:
        for number, packet in enumerate(packets):
            flags.video = number >= 40
            decoded = decoder.decode(packet)
            if number == 40:
                assert _numbers(decoded) == [40]
                assert flags.decoded_packets == 16  # from key frame 25 on
            elif 40 < number < 50:
                assert _numbers(decoded) == [number]


def test_on_demand_decoder_resumes_within_a_group_of_pictures(tmp_path: Path) -> None:
    flags = DecodeFlags()
    decoder = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1)) as packets:
        for number, packet in enumerate(packets):
            flags.video = not 5 <= number < 10
            decoded = decoder.decode(packet)
            if number in (4, 10, 11):
                assert _numbers(decoded) == [number]
            if number == 5:
                assert decoded is None
    assert flags.decoded_packets == 5 + 11 + 14


@pytest.mark.parametrize(("bound", "value"), [("_MAX_CACHED_PACKETS", 8), ("_MAX_CACHED_BYTES", 6000)])
def test_on_demand_decoder_full_cache_waits_for_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(decoding, bound, value)
    flags = DecodeFlags(video=False)
    decoder = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1.2)) as packets:
        first = None
        for number, packet in enumerate(packets):
            flags.video = number >= 20
            decoded = decoder.decode(packet)
            assert len(decoder._cache) <= 9
            first = number if first is None and decoded else first
    assert first == 25


def test_on_demand_decoder_without_key_frames_starts_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MAX_CACHED_PACKETS", 3)
    monkeypatch.setattr(decoding, "_KEY_FRAME_WAIT", 10)
    flags = DecodeFlags(video=False)
    decoder = OnDemandVideoDecoder(flags)
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1, gop=1000)) as packets:
        for number, packet in enumerate(packets):
            flags.video = number >= 6
            if packet.size:
                packet.is_keyframe = False
                decoder.decode(packet)
    assert flags.decoded_packets == 25 - 13


def test_on_demand_decoder_flushes_b_frames_at_the_end(tmp_path: Path) -> None:
    decoder = OnDemandVideoDecoder(DecodeFlags())
    with _clip(write_h264(tmp_path / "clip.mp4", seconds=1, profile="high", b_frames=2)) as packets:
        numbers = [number for packet in packets for number in _numbers(decoder.decode(packet))]
    assert numbers == list(range(25))


def test_tolerant_decoder_raises_after_too_much_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def decode(self) -> list[Any]:
            raise av.error.InvalidDataError(1, "torn")

    monkeypatch.setattr(decoding, "_MAX_DAMAGED", 3)
    decoder = decoding.TolerantDecoder()
    assert [decoder.decode(Torn()) for _ in range(3)] == [[], [], []]
    with pytest.raises(av.error.InvalidDataError):
        decoder.decode(Torn())
