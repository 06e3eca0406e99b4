"""The passthrough check, on streams from x264."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.media.frames import EncodedFrame
from peer.media.sources.encoded import PacketConverter
from peer.media.sources.passthrough import KEY_INTERVAL, PassthroughCheck, StreamInfo, profile
from tests.media.clips import write_h264


@cache
def _stream(**options: Any) -> tuple[EncodedFrame, ...]:
    """Return the frames of a clip made with ``options``, starting at time zero."""
    with TemporaryDirectory() as folder:
        path = write_h264(Path(folder) / "clip.mp4", **options)
        with av.open(str(path)) as container:
            converter = PacketConverter(container.streams.video[0])
            frames = [converter.convert(p, float(p.pts * p.time_base)) for p in container.demux(video=0) if p.size]
    return tuple(frame for frame in frames if frame is not None)


def _moved(frames: Iterable[EncodedFrame], seconds: float) -> Iterator[EncodedFrame]:
    for frame in frames:
        yield replace(
            frame, timestamp=frame.timestamp + round(seconds * 90_000), arrival=frame.arrival + seconds * 1000
        )


def _seen(*frames: EncodedFrame, passthrough: PassthroughCheck | None = None) -> PassthroughCheck:
    passthrough = passthrough or PassthroughCheck()
    for frame in frames:
        passthrough.observe(frame)
    return passthrough


def test_passthrough_accepted_from_first_key_frame() -> None:
    frames = _stream()
    passthrough = PassthroughCheck()
    assert passthrough.refusal("42e01f") == "not seen yet"
    _seen(*frames[1:4], passthrough=passthrough)
    assert passthrough.refusal("42e01f") == "not seen yet"
    _seen(frames[25], passthrough=passthrough)
    assert passthrough.refusal("42e01f") is None
    _seen(*frames[26:], passthrough=passthrough)
    assert passthrough.refusal("42e01f") is None
    assert passthrough.size == (320, 180)
    assert (passthrough.profile_level_id or "")[:4] == "42c0"


@pytest.mark.parametrize("taken", ["42e01f", "42001f", "4d001f", "64001f", "640c1f", "4d801f", "58c01f", "f4001f"])
def test_passthrough_constrained_baseline_fits_every_profile(taken: str) -> None:
    assert _seen(*_stream()).refusal(taken) is None


@pytest.mark.parametrize(
    ("own", "taken", "refused"),
    [
        ("high", "42e01f", "its profile is High, the viewer accepts Constrained Baseline"),
        ("high", "4d001f", "its profile is High, the viewer accepts Main"),
        ("high", "64001f", None),
        ("high", "f4001f", None),
        ("main", "42001f", "its profile is Main, the viewer accepts Baseline"),
        ("main", "4d001f", None),
        ("main", "64001f", None),
    ],
)
def test_passthrough_profile_above_the_viewers_is_refused(own: str, taken: str, refused: str | None) -> None:
    assert _seen(*_stream(profile=own)).refusal(taken) == refused


def test_passthrough_level_above_the_viewers_is_accepted() -> None:
    passthrough = _seen(*_stream(seconds=0.2, size=(1920, 1080), level="4.0"))
    assert (passthrough.profile_level_id or "")[4:] == "28"
    assert passthrough.refusal("42e00b") is None


@pytest.mark.parametrize("taken", ["", "nonsense", "42e0", "42e01g"])
def test_passthrough_invalid_profile_means_constrained_baseline(taken: str) -> None:
    assert _seen(*_stream()).refusal(taken) is None
    assert "Constrained Baseline" in (_seen(*_stream(profile="high")).refusal(taken) or "")


@pytest.mark.parametrize(
    ("profile_level_id", "name"),
    [
        ("42c01e", "Constrained Baseline"), ("42001f", "Baseline"), ("4d801f", "Constrained Baseline"),
        ("4d401f", "Main"), ("58f01f", "Constrained Baseline"), ("58001f", "Extended"), ("64001f", "High"),
        ("640c1f", "Constrained High"), ("6e001f", "High 10"), ("f4001f", "High 4:4:4"), ("2c001f", "number 44"),
    ],
)  # fmt: skip
def test_profile_names(profile_level_id: str, name: str) -> None:
    assert profile(profile_level_id) == name


def test_passthrough_baseline_counts_as_constrained() -> None:
    """Cameras state 4200xx for streams without slice groups and arbitrary slice order."""
    frames = [replace(frame, data=frame.data.replace(b"\x67\x42\xc0", b"\x67\x42\x00")) for frame in _stream()]
    passthrough = _seen(*frames)
    assert (passthrough.profile_level_id or "").startswith("4200")
    assert passthrough.refusal("42e01f") is None


def test_passthrough_b_frames_refused_by_parameter_set() -> None:
    frames = _stream(profile="high", b_frames=2)
    assert _seen(frames[0]).refusal("64001f") == "it has B-frames"


def test_passthrough_b_frames_refused_by_slice_or_timestamp() -> None:
    plain, mixed = _stream(profile="high"), _stream(profile="high", b_frames=2)
    passthrough = _seen(*plain)
    assert passthrough.refusal("64001f") is None
    between = next(frame for frame in _moved(mixed, 10.0) if not frame.key and _is_b(frame))
    assert _seen(between, passthrough=passthrough).refusal("64001f") == "it has B-frames"
    later = replace(plain[2], arrival=plain[3].arrival + 1)
    back = _seen(plain[0], plain[3], later)
    assert back.refusal("64001f") == "it has B-frames"


def _is_b(frame: EncodedFrame) -> bool:
    passthrough = PassthroughCheck()
    plain = _stream(profile="high")
    return "B-frames" in (_seen(plain[0], *_moved([frame], 20.0), passthrough=passthrough).refusal("64001f") or "")


def test_passthrough_rare_key_frames_refused_once_observed() -> None:
    frames = _stream(seconds=6.0, fps=10, gop=30)
    passthrough = PassthroughCheck()
    refusals = []
    for frame in frames:
        passthrough.observe(frame)
        refusals.append(passthrough.refusal("42e01f"))
    assert refusals[: int(KEY_INTERVAL * 10)] == [None] * int(KEY_INTERVAL * 10)
    assert refusals[27] == "its key frames are 2.7 s apart"
    assert refusals[35] == "its key frames are 3.0 s apart"


def test_passthrough_long_interval_expires() -> None:
    frames = _stream(seconds=4.0, fps=10, gop=10)
    passthrough = _seen(*frames, *_moved(frames[:20], 8.0))
    assert passthrough.refusal("42e01f") == "its key frames are 5.0 s apart"
    for n in range(1, 31):
        assert passthrough.refusal("42e01f") == "its key frames are 5.0 s apart"
        _seen(*_moved(frames[:20], 8.0 + 2 * n), passthrough=passthrough)
    assert passthrough.refusal("42e01f") is None


def test_passthrough_rare_key_frames_refused_by_index() -> None:
    passthrough = PassthroughCheck()
    passthrough.restart(StreamInfo("h264", key_interval=8.3))
    assert _seen(_stream()[0], passthrough=passthrough).refusal("42e01f") == "its key frames are 8.3 s apart"


def test_passthrough_other_codecs_are_refused() -> None:
    passthrough = PassthroughCheck()
    passthrough.restart(StreamInfo("vp8"))
    assert passthrough.refusal() == "not H.264 but vp8"
    assert passthrough.profile_level_id is None
    other = _seen(EncodedFrame("video", "hevc", b"x", 0, 90_000, True, 0.0, None))
    assert other.refusal() == "not H.264 but hevc"


def test_passthrough_profile_known_from_extradata() -> None:
    first = _stream(profile="high")[0].data
    passthrough = PassthroughCheck()
    passthrough.restart(StreamInfo("h264", extradata=first))
    assert (passthrough.profile_level_id or "").startswith("6400")
    assert passthrough.refusal("42e01f") == "its profile is High, the viewer accepts Constrained Baseline"
    assert passthrough.refusal("64001f") == "not seen yet"


def test_passthrough_restart_forgets_the_old_stream() -> None:
    passthrough = _seen(*_stream(), *_moved(_stream(profile="high", b_frames=2), 3.0))
    assert passthrough.refusal() is not None
    passthrough.restart(StreamInfo("h264"))
    assert passthrough.refusal() == "not seen yet"
    assert _seen(*_moved(_stream(), 60.0), passthrough=passthrough).refusal() is None


def test_passthrough_frame_observed_twice_counts_once() -> None:
    """The source observes every frame, and a later reader observes it again."""
    frames = _stream(seconds=2.0, fps=25)
    passthrough = _seen(*frames, *frames[10:], passthrough=PassthroughCheck(fps=25))
    assert passthrough.refusal() is None
    passthrough.restart(StreamInfo("h264"))
    assert _seen(*frames[-5:], passthrough=passthrough).refusal() == "not seen yet"


def test_passthrough_follows_a_change_of_profile() -> None:
    passthrough = _seen(*_stream(), *_moved(_stream(profile="high", b_frames=2, size=(640, 360)), 2.5))
    assert passthrough.size == (640, 360)
    assert passthrough.refusal("42e01f") == "its profile is High, the viewer accepts Constrained Baseline"
    assert passthrough.refusal("64001f") == "it has B-frames"
    _seen(*_moved(_stream(), 5.0), passthrough=passthrough)
    assert passthrough.size == (320, 180)
    assert passthrough.refusal("42e01f") is None


def test_passthrough_above_maximum_size_or_rate_is_refused() -> None:
    frames = _stream(seconds=2.0, fps=25)
    assert _seen(*frames, passthrough=PassthroughCheck(size=(320, 180), fps=25)).refusal() is None
    assert _seen(*frames, passthrough=PassthroughCheck(size=(1280, 720), fps=30)).refusal() is None
    smaller = _seen(frames[0], passthrough=PassthroughCheck(size=(160, 90)))
    assert smaller.refusal() == "its size is 320x180, the maximum is 160x90"
    slower = _seen(*frames, passthrough=PassthroughCheck(fps=10))
    assert slower.refusal() == "its frame rate is 25 per second, the maximum is 10"


def test_passthrough_rotated_or_interlaced_is_refused() -> None:
    passthrough = PassthroughCheck()
    passthrough.restart(StreamInfo("h264", rotation=-90))
    assert _seen(*_stream(), passthrough=passthrough).refusal() == "it must be rotated by 270 degrees"
    fields = _stream(seconds=0.2, profile="main", **{"x264-params": "interlaced=1"})
    assert _seen(*fields).refusal("4d001f") == "it is interlaced"


def test_passthrough_anamorphic_is_refused() -> None:
    passthrough = PassthroughCheck()
    passthrough.restart(StreamInfo("h264", pixel_aspect=Fraction(4, 3)))
    assert _seen(*_stream(), passthrough=passthrough).refusal() == "its pixels are not square but 4:3"
    narrow = _stream(seconds=0.2, **{"x264-params": "sar=10/11"})
    assert _seen(*narrow).refusal() == "its pixels are not square but 10:11"
    assert _seen(*_stream(seconds=0.2, **{"x264-params": "sar=200/199"})).refusal() is None


def test_passthrough_unreadable_parameter_set_is_refused() -> None:
    broken = EncodedFrame("video", "h264", b"\0\0\0\1\x67\x42" + b"\0\0\0\1\x65\x88", 0, 90_000, True, 1.0, None)
    passthrough = _seen(broken)
    assert passthrough.refusal() == "its parameter set cannot be read"
    assert (passthrough.profile_level_id, passthrough.size) == (None, None)


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 2**40), st.booleans()), max_size=8),
    st.binary(max_size=40),
    st.text(max_size=8),
)
def test_passthrough_garbage_raises_nothing(
    frames: list[tuple[bytes, int, bool]], extradata: bytes, taken: str
) -> None:
    passthrough = PassthroughCheck((320, 180), 30)
    passthrough.restart(StreamInfo("h264", extradata))
    for number, (data, timestamp, key) in enumerate(frames):
        passthrough.observe(EncodedFrame("video", "h264", b"\0\0\1" + data, timestamp, 90_000, key, number, None))
        assert passthrough.refusal(taken) is None or passthrough.size is None or min(passthrough.size) > 0
