"""What a key frame says of the track that begins with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.media.recording.codec_parameters import is_media, parameters, read_head

from ..recordings import pictures, sound


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_the_head_is_read_from_a_key_frame_only(codec: str) -> None:
    first, second = pictures(codec, 1)[:2]
    head = read_head(first)
    assert head is not None and (head.codec, head.width, head.height) == (codec, 320, 240)
    assert read_head(second) is None
    assert read_head(replace(first, data=b"")) is None
    assert read_head(replace(first, data=bytes(1000))) is None


def test_an_h264_key_frame_without_its_parameter_sets_is_no_begin() -> None:
    frame = pictures("h264", 1)[0]
    idr = frame.data.rindex(b"\x00\x00\x01")
    assert read_head(replace(frame, data=b"\x00" + frame.data[idr:])) is None


def test_parameters_differ_by_size_and_by_nothing_else() -> None:
    large, small = pictures("h264", 2), pictures("h264", 1, 160, 120)
    keys = [frame for frame in large if frame.key]
    assert len(keys) == 2 and parameters(keys[0]) == parameters(keys[1]) != parameters(small[0])
    assert parameters(keys[0]).startswith(b"\x00\x00\x01\x67")
    assert parameters(large[1]) == b"" == parameters(pictures("vp8", 1)[0])


def test_an_access_unit_without_a_slice_is_no_picture() -> None:
    frame = pictures("h264", 1)[0]
    idr = frame.data.index(b"\x00\x00\x01\x65")
    assert is_media(frame) and is_media(sound(1)[0])
    assert not is_media(replace(frame, data=frame.data[:idr]))
    assert not is_media(replace(sound(1)[0], data=b""))
