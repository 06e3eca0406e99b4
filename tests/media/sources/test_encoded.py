"""H.264 of a container as frames that can be sent."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from peer.media.frames import EncodedFrame
from peer.media.sources.encoded import PacketConverter, inspect
from tests.media.clips import write_clip, write_h264


def _frames(path: Path) -> list[EncodedFrame]:
    with av.open(str(path)) as container:
        converter = PacketConverter(container.streams.video[0])
        frames = [converter.convert(p, float(p.pts * p.time_base)) for p in container.demux(video=0) if p.size]
    return [frame for frame in frames if frame is not None]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_convert_sets_timestamp_key_and_codec(tmp_path: Path, suffix: str) -> None:
    frames = _frames(write_h264(tmp_path / f"clip.{suffix}", seconds=1, gop=5))
    assert len(frames) == 25
    first = frames[0].timestamp
    assert [round((frame.timestamp - first) / 3600) for frame in frames] == list(range(25))
    assert [index for index, frame in enumerate(frames) if frame.key] == [0, 5, 10, 15, 20]
    assert {(frame.kind, frame.codec, frame.clock_rate, frame.ntp) for frame in frames} == {
        ("video", "h264", 90_000, None)
    }


def test_convert_b_frames_in_decoding_order_keep_their_times(tmp_path: Path) -> None:
    frames = _frames(write_h264(tmp_path / "clip.mp4", seconds=1, profile="high", b_frames=2))
    stamps = [frame.timestamp for frame in frames]
    assert stamps != sorted(stamps)
    assert sorted(stamps) == [3600 * n for n in range(25)]


def test_convert_burst_gets_distinct_timestamps(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "clip.mp4", seconds=0.2)
    with av.open(str(path)) as container:
        converter = PacketConverter(container.streams.video[0])
        frames = [converter.convert(packet, 1.0) for packet in container.demux(video=0) if packet.size]
    assert [frame.timestamp for frame in frames if frame is not None] == [90_000 + n for n in range(5)]


def test_convert_packet_without_time_follows_the_previous(tmp_path: Path) -> None:
    """As V4L2 drivers hand them out."""
    path = write_h264(tmp_path / "clip.h264", seconds=0.2)
    with av.open(str(path)) as container:
        converter = PacketConverter(container.streams.video[0])
        frames = [converter.convert(packet, 2.0) for packet in container.demux(video=0) if packet.size]
    assert [frame.timestamp for frame in frames if frame is not None] == [180_000 + n for n in range(5)]


def test_convert_other_codec_returns_none(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "clip.webm", seconds=0.2, codec="libvpx")
    assert _frames(path) == []
    with av.open(str(path)) as container:
        assert inspect(container).codec == "vp8"


def test_inspect_key_interval_from_index(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "clip.mp4", seconds=3, gop=50)
    with av.open(str(path)) as container:
        stream_info = inspect(container)
    assert stream_info.key_interval == pytest.approx(2.0, abs=0.01)
    assert (stream_info.codec, stream_info.rotation) == ("h264", 0)
    assert stream_info.extradata


def test_inspect_ignores_index_of_key_frames_only(tmp_path: Path) -> None:
    with av.open(str(write_h264(tmp_path / "clip.mkv", seconds=3, gop=50))) as container:
        assert inspect(container).key_interval is None


def test_inspect_returns_rotation(tmp_path: Path) -> None:
    clip, turned = tmp_path / "clip.mp4", tmp_path / "turned.mp4"
    write_clip(clip, seconds=0.1, audio=False)
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy", "-metadata:s:v", "rotate=90", str(turned)]
    subprocess.run(command, check=True, timeout=60)
    with av.open(str(turned)) as container:
        assert inspect(container).rotation % 360 == 90


def test_inspect_ignores_a_damaged_frame(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "clip.ts", seconds=0.2)

    def decode() -> list[Any]:
        raise av.error.InvalidDataError(1, "torn")

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        torn = SimpleNamespace(decode=decode)
        fake: Any = SimpleNamespace(streams=container.streams, demux=lambda _: iter([torn]))
        assert inspect(fake).codec == stream.codec_context.name
