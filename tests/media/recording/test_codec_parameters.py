"""Parameters of the track that starts with a key frame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.media.recording.codec_parameters import is_media, read_video_parameters, sequence_parameter_sets

from ..recordings import audio_frames, video_frames


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_parameters_are_read_from_key_frames_only(codec: str) -> None:
    first, second = video_frames(codec, 1)[:2]
    parameters = read_video_parameters(first)
    assert parameters is not None
    assert (parameters.codec, parameters.width, parameters.height) == (codec, 320, 240)
    assert read_video_parameters(second) is None
    assert read_video_parameters(replace(first, data=b"")) is None
    assert read_video_parameters(replace(first, data=bytes(1000))) is None


def test_h264_key_frame_without_sps_starts_no_track() -> None:
    frame = video_frames("h264", 1)[0]
    idr = frame.data.rindex(b"\x00\x00\x01")
    assert read_video_parameters(replace(frame, data=b"\x00" + frame.data[idr:])) is None


def test_sps_changes_with_the_frame_size_only() -> None:
    large, small = video_frames("h264", 2), video_frames("h264", 1, 160, 120)
    keys = [frame for frame in large if frame.key]
    first, second = map(sequence_parameter_sets, keys)
    assert first == second != sequence_parameter_sets(small[0])
    assert first.startswith(b"\x00\x00\x01\x67")
    assert sequence_parameter_sets(large[1]) == b"" == sequence_parameter_sets(video_frames("vp8", 1)[0])


def test_access_unit_without_a_slice_is_no_media() -> None:
    frame = video_frames("h264", 1)[0]
    idr = frame.data.index(b"\x00\x00\x01\x65")
    assert is_media(frame) and is_media(audio_frames(1)[0])
    assert not is_media(replace(frame, data=frame.data[:idr]))
    assert not is_media(replace(audio_frames(1)[0], data=b""))
