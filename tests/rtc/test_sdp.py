"""Session descriptions: sections, candidates, limits and codecs, read and edited as text."""

from __future__ import annotations

import pytest

from peer.rtc import sdp

HOST = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"
MDNS = "candidate:2 1 udp 2113937151 4c0e.local 5001 typ host"

OFFER = "\r\n".join(
    (
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1 2",
        "a=fingerprint:sha-256 00:11",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        f"a={HOST}",
        f"a={MDNS}",
        "a=end-of-candidates",
        "a=rtpmap:111 opus/48000/2",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98",
        "a=mid:1",
        f"a={HOST}",
        "a=rtpmap:96 VP8/90000",
        "a=rtpmap:97 rtx/90000",
        "a=rtpmap:98 H264/90000",
        "a=rtpmap:99 H264/90000",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:2",
        "",
    )
)


def test_parse_splits_the_description_into_sections() -> None:
    description = sdp.parse(OFFER)
    assert [one.kind for one in description.sections] == ["audio", "video", "application"]
    assert description.sections[1].line == "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98"
    assert description.sections[1].text.startswith("m=video 9 ")
    assert description.sections[1].text.endswith("a=rtpmap:99 H264/90000\r\n")
    assert description.text == OFFER


@pytest.mark.parametrize("text", ["", "v=0\r\n", "no description at all"])
def test_parse_without_sections_finds_none(text: str) -> None:
    assert sdp.parse(text) == sdp.Description(text, ())


def test_media_kinds_are_listed_once_in_the_offered_order() -> None:
    text = "v=0\nm=video 9 x 96\nm=application 9 x y\nm=audio 9 x 0\nm=video 9 x 96\n"
    assert sdp.parse(text).media_kinds == ("video", "audio")


@pytest.mark.parametrize(
    ("line", "kind", "rejected"),
    [
        ("m=video 9 UDP/TLS/RTP/SAVPF 96", "video", False),
        ("m=video 0 UDP/TLS/RTP/SAVPF 96", "video", True),
        ("m=video x UDP/TLS/RTP/SAVPF 96", "video", True),
        ("m=video", "", True),
        ("m=", "", True),
    ],
)
def test_section_kind_and_port_are_read_from_its_line(line: str, kind: str, rejected: bool) -> None:
    section = sdp.Section(f"{line}\r\na=mid:0\r\n")
    assert (section.line, section.kind, section.rejected) == (line, kind, rejected)


def test_section_codecs_are_lower_case_and_listed_once() -> None:
    assert sdp.parse(OFFER).sections[1].codecs == ("vp8", "rtx", "h264")


def test_section_codec_with_an_overlong_name_is_ignored() -> None:
    assert sdp.Section(f"m=video 9 x 96\na=rtpmap:96 {'x' * 33}/90000\n").codecs == ()


def test_candidates_carry_the_index_of_their_section() -> None:
    assert sdp.parse(OFFER).candidates == ((0, HOST), (0, MDNS), (1, HOST))


def test_candidates_of_a_section_are_limited() -> None:
    section = sdp.Section("m=audio 9 x 0\n" + f"a={HOST}\n" * (sdp.MAX_CANDIDATES + 1))
    assert section.candidates == (HOST,) * sdp.MAX_CANDIDATES


def test_read_remote_returns_text_without_candidates() -> None:
    description = sdp.read_remote(OFFER)
    assert "candidate" not in description.text
    assert description.text == "".join(line for line in OFFER.splitlines(True) if "candidate" not in line)
    assert description.candidates == ((0, HOST), (0, MDNS), (1, HOST))


def test_strip_candidates_accepts_bare_line_feeds() -> None:
    text = f"v=0\nm=audio 9 x 0\na={HOST}\na=end-of-candidates\na=mid:0\n"
    assert sdp.strip_candidates(text) == "v=0\nm=audio 9 x 0\na=mid:0\n"


@pytest.mark.parametrize(
    ("text", "named"), [("v=0\r\n", "none"), ("v=0\r\nm=application 9 UDP/DTLS/SCTP x\r\n", "application")]
)
def test_read_remote_without_media_raises(text: str, named: str) -> None:
    with pytest.raises(sdp.SdpError, match=f"without audio or video sections, only: {named}") as caught:
        sdp.read_remote(text)
    assert caught.value.line == ""


def test_read_remote_with_too_many_sections_names_the_extra_one() -> None:
    text = "a=fingerprint:x y\r\n" + "".join(f"m=audio {9 + n} x 0\r\n" for n in range(sdp.MAX_SECTIONS))
    sdp.read_remote(text)
    with pytest.raises(sdp.SdpError) as caught:
        sdp.read_remote(f"{text}m=video 9 x {'96 ' * 40}\r\n")
    assert caught.value.line == "m=video 9 x " + "96 " * 40
    assert str(caught.value) == "description with more than 8 media sections: " + repr(caught.value.line[:80])


def test_read_remote_without_fingerprint_names_the_rule() -> None:
    with pytest.raises(sdp.SdpError) as caught:
        sdp.read_remote(OFFER.replace("a=fingerprint", "a=footprint"))
    assert caught.value.rule == "RFC 8122 5"
    assert str(caught.value) == "description without a=fingerprint (RFC 8122 5)"


def test_announce_trickle_adds_the_option_to_the_session_level() -> None:
    text = sdp.announce_trickle(OFFER)
    session = text.partition("\r\nm=")[0]
    assert session.endswith("\r\na=ice-options:trickle")
    assert text.count("a=ice-options:trickle") == 1
    assert "a=end-of-candidates" not in text
    assert sdp.parse(text).candidates == sdp.parse(OFFER).candidates


@pytest.mark.parametrize("accepted", [("vp8",), ("h264", "vp8"), ("h264",)])
def test_check_video_codecs_with_a_common_codec_returns(accepted: tuple[str, ...]) -> None:
    sdp.check_video_codecs(sdp.parse(OFFER).sections, accepted)


def test_check_video_codecs_without_a_common_codec_names_both() -> None:
    with pytest.raises(sdp.NoCommonCodecError) as caught:
        sdp.check_video_codecs(sdp.parse(OFFER).sections, ("av1",))
    assert str(caught.value) == (
        "no common video codec: vp8, h264 offered, ours is av1; try --video-codec vp8,h264 at both ends"
    )


def _video(*names: str, port: int = 9) -> tuple[sdp.Section, ...]:
    lines = "".join(f"a=rtpmap:{96 + n} {name}/90000\r\n" for n, name in enumerate(names))
    return (sdp.Section(f"m=video {port} UDP/TLS/RTP/SAVPF 96\r\n{lines}"),)


@pytest.mark.parametrize("section", [_video("AV1", port=0), _video("rtx", "ulpfec"), _video()])
def test_check_video_codecs_ignores_sections_without_choice(section: tuple[sdp.Section, ...]) -> None:
    sdp.check_video_codecs(section, ("vp8",))


def test_check_video_codecs_of_many_offered_codecs_names_eight() -> None:
    names = [f"codec{n}" for n in range(20)]
    with pytest.raises(sdp.NoCommonCodecError, match="codec6, codec7 offered, ours is vp8"):
        sdp.check_video_codecs(_video(*names), ("vp8",))
    sdp.check_video_codecs(_video(*names, "VP8"), ("vp8",))
