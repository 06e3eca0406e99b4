"""Reading the lines of a description: lenient, linear, bounded."""

from __future__ import annotations

import sys

import pytest

from peer.rtc.sdp import SdpError
from peer.rtc.sdp_parser import MAX_CHARACTERS, MAX_LINES, MAX_SECTIONS, parse

from .descriptions import AUDIO, BUNDLE, HEAD, VIDEO, offer, text


def test_sections_and_attributes_are_read_in_order() -> None:
    parsed = parse(offer())
    audio, video = parsed.sections
    assert (audio.kind, audio.port, audio.protocol, audio.formats, audio.mid) == (
        "audio", 9, "UDP/TLS/RTP/SAVPF", ("111",), "0",
    )  # fmt: skip
    assert video.attributes["rtcp-fb"] == ["96 nack", "96 nack pli"]
    assert parsed.bundle == ("0", "1") and parsed.tagged is audio
    assert audio.where == "m=audio (line 6)" and audio.line == AUDIO[0]


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \r\n"])
def test_lines_end_in_any_way(ending: str) -> None:
    assert len(parse(offer().replace("\r\n", ending)).sections) == 2


@pytest.mark.parametrize(
    "line", ["m=audio", "m=audio x RTP/AVP 0", "m= 9 RTP/AVP 0", "m=audio 9 \u00e4 0", "m=audio -1 x 0"]
)
def test_media_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(SdpError, match="line 5 is not a media description") as caught:
        parse(text(*HEAD, line))
    assert caught.value.line == line and caught.value.rule


@pytest.mark.parametrize("mid", ["a b", "", "x" * 65, "\u00e4", "0"])
def test_mid_that_is_illegal_or_repeated_counts_as_missing(mid: str) -> None:
    parsed = parse(text(*HEAD, *AUDIO, "m=video 9 UDP/TLS/RTP/SAVPF 96", f"a=mid:{mid}"))
    assert [section.mid for section in parsed.sections] == ["0", None]


def test_group_that_names_unknown_sections_has_no_tagged_one() -> None:
    parsed = parse(offer(head=(*HEAD, "a=group:LS 0 1", "a=group:BUNDLE 8 9 8", BUNDLE)))
    assert parsed.bundle == ("8", "9") and parsed.tagged is None


@pytest.mark.parametrize(
    ("sdp", "message"),
    [
        ("", "without a media section"),
        ("hello", "without a media section"),
        ("x" * (MAX_CHARACTERS + 1), "characters"),
        ("\n" * (MAX_LINES + 1), "lines"),
        ("m=audio 9 x 0\n" * (MAX_SECTIONS + 1), "media sections"),
    ],
)
def test_text_that_is_too_large_or_no_description_is_refused(sdp: str, message: str) -> None:
    with pytest.raises(SdpError, match=message):
        parse(sdp)


@pytest.mark.parametrize(
    "extra", ["a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=ssrc:1 cname:x", "a=mid:7", "m=video 9 x 96"]
)
def test_cost_grows_with_the_number_of_lines_only(extra: str) -> None:
    def cost(count: int) -> int:
        sdp, steps = text(*HEAD, *AUDIO, *VIDEO, *[extra] * count), 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal steps
            steps += 1
            return trace

        previous = sys.gettrace()
        sys.settrace(trace)
        try:
            parse(sdp)
        finally:
            sys.settrace(previous)  # of a coverage run
        return steps

    few, many = cost(50), cost(200)
    assert many < 5 * few
