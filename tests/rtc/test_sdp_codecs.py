"""The codecs of a media section: what is read, what is chosen, what the engine gets."""

from __future__ import annotations

import pytest

from peer.rtc.sdp_codecs import (
    MAX_CODECS,
    MAX_PARAMETER,
    MAX_PARAMETERS,
    Codec,
    choose,
    read_codecs,
    read_parameters,
)

from .descriptions import SUPPORTED


def read(formats: str, **attributes: list[str]) -> list[Codec]:
    return read_codecs(formats.split(), {name.replace("_", "-"): values for name, values in attributes.items()})


def test_codecs_come_in_the_order_of_the_media_line() -> None:
    codecs = read("97 96", rtpmap=["96 VP8/90000", "97 H264/90000", "98 VP9/90000"])
    assert [(codec.payload_type, codec.name) for codec in codecs] == [(97, "H264"), (96, "VP8")]


def test_the_first_of_repeated_lines_counts() -> None:
    (codec,) = read("96 96", rtpmap=["96 VP8/90000", "96 VP9/90000"], fmtp=["96 a=1", "96 a=2"])
    assert codec.name == "VP8" and codec.parameters == {"a": "1"}


@pytest.mark.parametrize("formats", ["x", "128", "-1", "999", "72", "76", "1e1", "\u0663"])
def test_payload_type_that_is_illegal_is_dropped(formats: str) -> None:
    assert read(formats, rtpmap=[f"{formats} VP8/90000"]) == []


def test_payload_types_are_bounded() -> None:
    numbers = [*range(72), *range(77, 128)]
    codecs = read(" ".join(map(str, numbers)), rtpmap=[f"{number} VP8/90000" for number in numbers])
    assert len(codecs) == MAX_CODECS


def test_feedback_for_all_reaches_each_codec_once() -> None:
    feedback = ["* nack", "96 nack", "96 nack  pli", "96 unknown", "97 nack", "x nack"]
    (codec,) = read("96", rtpmap=["96 VP8/90000"], rtcp_fb=feedback)
    assert codec.feedback == ("nack", "nack pli")


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        (";;", {}),
        ("a=1;b", {"a": "1", "b": None}),
        (" a = 1 ; b=2; ", {"a": "1", "b": "2"}),
        ("a=1;a=2", {"a": "1"}),
        ("apt=x;apt=96", {"apt": "96"}),
        ("apt", {}),
        ("=1", {}),
        ("0-15", {"0-15": None}),
        ("a=" + "x" * MAX_PARAMETER, {}),
        ("a=\u2028x;b=1", {"b": "1"}),
    ],
)
def test_parameters_are_read_leniently(text: str, parameters: dict[str, str | None]) -> None:
    assert read_parameters(text) == parameters


def test_parameters_are_bounded() -> None:
    assert len(read_parameters(";".join(f"p{number}=1" for number in range(1000)))) == MAX_PARAMETERS


def test_retransmission_is_chosen_with_its_codec_only() -> None:
    maps = ["96 VP8/90000", "97 rtx/90000", "98 VP9/90000", "99 rtx/90000", "100 rtx/90000", "101 red/90000"]
    codecs = read("96 97 98 99 100 101", rtpmap=maps, fmtp=["97 apt=96", "99 apt=98"])
    assert [codec.payload_type for codec in choose(codecs, SUPPORTED)] == [96, 97]
    assert choose(codecs[1:], SUPPORTED) == []


@pytest.mark.parametrize(
    ("fmtp", "chosen", "written"),
    [
        ("packetization-mode=1;profile-level-id=42e01f", True, "42e01f"),
        ("profile-level-id=42E034;packetization-mode=1", True, "42e034"),
        ("packetization-mode=1", True, "42e01f"),
        ("packetization-mode=1;profile-level-id=640c99", True, "640c1f"),
        ("packetization-mode=1;profile-level-id=4d4028", True, "4d0028"),
        ("packetization-mode=1;profile-level-id=xyz", True, "42e01f"),
        ("packetization-mode=1;profile-level-id=6e001f", False, ""),
        ("packetization-mode=2;profile-level-id=42e01f", False, ""),
        ("profile-level-id=42e01f", True, "42e01f"),
        ("profile-level-id=42800a; packetization-mode=0", True, "42000a"),
    ],
)
def test_h264_is_chosen_by_profile_and_mode(fmtp: str, chosen: bool, written: str) -> None:
    codecs = choose(read("96", rtpmap=["96 H264/90000"], fmtp=[f"96 {fmtp}"]), SUPPORTED)
    assert bool(codecs) is chosen
    if chosen:
        assert any(f"profile-level-id={written}" in line for line in codecs[0].lines("video"))


def test_h264_names_profile_and_mode_for_people() -> None:
    (codec,) = read("96", rtpmap=["96 h264/90000"], fmtp=["96 profile-level-id=640c1f"])
    assert str(codec) == "H264 Constrained High (640c1f) packetization-mode 0"


def test_channels_are_part_of_an_audio_codec() -> None:
    codecs = read("111 112", rtpmap=["111 opus/48000/2", "112 opus/48000/1"])
    assert [codec.payload_type for codec in choose(codecs, SUPPORTED)] == [111]
    assert next(codecs[0].lines("audio")) == "a=rtpmap:111 opus/48000/2"


def test_opus_without_channels_has_two() -> None:
    codecs = choose(read("96", rtpmap=["96 OPUS/48000"]), SUPPORTED)
    assert [next(codec.lines("audio")) for codec in codecs] == ["a=rtpmap:96 OPUS/48000/2"]
