"""Remote descriptions: which are accepted, as a whole and in part, and what the engine and the remote get of them."""

from __future__ import annotations

from typing import Literal

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from peer.rtc.answer import mirror
from peer.rtc.remote_description import (
    MAX_CANDIDATE,
    MAX_CANDIDATES,
    MAX_SECTIONS,
    NOT_OFFERED,
    RemoteDescription,
    normalize_answer,
    normalize_offer,
)
from peer.rtc.sdp import SdpError
from peer.rtc.sdp_writer import MAX_SSRCS

from .descriptions import (
    AUDIO,
    BUNDLE,
    DATA,
    HEAD,
    MID,
    OPUS,
    SUPPORTED,
    TRANSPORT,
    VIDEO,
    VP8,
    VP9,
    engine_answer,
    media_lines,
    offer,
    read,
    replaced,
    text,
    without,
)  # fmt: skip


def test_ordinary_offer_is_accepted_whole() -> None:
    remote = read(offer())
    assert [(one.kind, one.mid, one.named) for one in remote.accepted] == [("audio", "0", True), ("video", "1", True)]
    assert remote.rejections == {} and remote.explain() == "" and remote.kinds == ("audio", "video")
    parsed = SessionDescription.parse(remote.text)
    assert [codec.name for codec in parsed.media[1].rtp.codecs] == ["VP8", "rtx"]
    assert [str(one) for one in parsed.group] == ["BUNDLE 0 1"]


def test_transport_is_inherited_from_the_session_level() -> None:
    bare = [without(section, *TRANSPORT) for section in (AUDIO, VIDEO)]
    parsed = SessionDescription.parse(read(offer(*bare, head=(*HEAD, BUNDLE, *TRANSPORT))).text)
    assert all(media.ice.usernameFragment == "abcd" and media.dtls.role == "auto" for media in parsed.media)


def test_transport_is_inherited_from_the_tagged_section() -> None:
    bundled = (*replaced(without(VIDEO, *TRANSPORT), "m=", "m=video 0 UDP/TLS/RTP/SAVPF 96 97"), "a=bundle-only")
    remote = read(offer(AUDIO, bundled))
    assert remote.kinds == ("audio", "video")
    assert SessionDescription.parse(remote.text).media[1].ice.password == "abcdefghijklmnopqrstuvwx"


def test_transport_is_that_of_the_section_the_group_names_first() -> None:
    other = replaced(VIDEO, "a=ice-ufrag", "a=ice-ufrag:video")
    remote = read(offer(AUDIO, other, head=(*HEAD, "a=group:BUNDLE 1 0")))
    assert {media.ice.usernameFragment for media in SessionDescription.parse(remote.text).media} == {"video"}
    assert remote.bundle == ("1", "0")


@pytest.mark.parametrize("setup", [(), ("a=setup:holdconn",), ("a=setup:nonsense",)])
def test_missing_or_unusable_setup_in_an_offer_is_actpass(setup: tuple[str, ...]) -> None:
    sections = [(*without(section, "a=setup"), *setup) for section in (AUDIO, VIDEO)]
    assert all(media.dtls.role == "auto" for media in SessionDescription.parse(read(offer(*sections)).text).media)


@pytest.mark.parametrize(
    "line",
    [
        "c=IN IP4 0.0.0.0 ",
        "c=nonsense",
        "a=extmap:4 urn:unknown",
        "a=extmap:3/recvonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time attr",
        f"a=extmap:5 urn:ietf:params:rtp-hdrext:encrypt {MID}",
        "a=extmap:x y z",
        "a=candidate:nonsense",
        "a=rtcp:x",
        "a=ssrc:nonsense",
        "a=ssrc-group:FID x y",
        "a=fmtp:18 annexb=no",
        "a=fmtp:96",
        "a=fmtp:96 ",
        "a=fmtp:97 apt=x",
        "a=rtpmap:96",
        "a=rtpmap:x VP8/90000",
        "a=rtpmap:98 VP9",
        "a=rtpmap:99 H264/x",
        "a=rtcp-fb:96",
        "a=rtcp-fb:x nack",
        "a=max-message-size:x",
        "a=sctp-port:x",
        "a=setup",
        "a=fingerprint:sha-256",
        "a=fingerprint:md5 " + ":".join(["A1"] * 16),
        "a=mid:other",
        "a=",
        "b=AS:x",
        "y=0100000001",
        "nonsense",
        "",
        "a=msid:\u2028m=video 9 x 96",
    ],
)
def test_line_that_cannot_be_used_costs_nothing(line: str) -> None:
    remote = read(offer(AUDIO, (*VIDEO, line)))
    assert remote.kinds == ("audio", "video")
    assert line == "" or line not in remote.text.split("\r\n")


@pytest.mark.parametrize("space", [" ", "\t", "   "])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_spaces_at_line_ends_cost_nothing(space: str, end: str) -> None:
    plain = offer()
    assert read(plain.replace("\r\n", f"{space}{end}")) == read(plain)


def test_unsupported_codecs_and_extensions_are_dropped() -> None:
    video = replaced(VIDEO, "m=", "m=video 9 UDP/TLS/RTP/SAVPF 98 96 97 99 100")
    unsupported = ("a=rtpmap:98 VP9/90000", "a=rtpmap:99 rtx/90000", "a=fmtp:99 apt=98", "a=rtpmap:100 red/90000")
    extensions = ("a=extmap:13 urn:3gpp:video-orientation", f"a=extmap:5 {MID}")
    (_, media) = SessionDescription.parse(read(offer(AUDIO, (*video, *unsupported, *extensions))).text).media
    assert [codec.payloadType for codec in media.rtp.codecs] == [96, 97]
    assert [(one.id, one.uri) for one in media.rtp.headerExtensions] == [(5, MID)]


def test_inactive_section_of_an_offer_is_accepted() -> None:
    remote = read(offer(AUDIO, (*VIDEO, "a=inactive")))
    assert remote.kinds == ("audio", "video") and remote.carries_media(())
    assert SessionDescription.parse(remote.text).media[1].direction == "inactive"


def test_static_payload_types_need_no_rtpmap() -> None:
    section = ("m=audio 9 UDP/TLS/RTP/SAVPF 0 8 18", "a=fmtp:18 annexb=no", "a=mid:0", *TRANSPORT)
    parsed = SessionDescription.parse(read(offer(section)).text)
    assert [codec.name for codec in parsed.media[0].rtp.codecs] == ["PCMU", "PCMA"]


def test_parameters_may_have_spaces_and_empty_parts() -> None:
    section = replaced(AUDIO, "a=fmtp", "a=fmtp:111 minptime=10; useinbandfec=1;; ;stereo")
    (codec,) = SessionDescription.parse(read(offer(section)).text).media[0].rtp.codecs
    assert codec.parameters == {"minptime": 10, "useinbandfec": 1}


H264 = ("m=video 9 UDP/TLS/RTP/SAVPF 98", "a=mid:2", *TRANSPORT, "a=rtpmap:98 H264/90000")


@pytest.mark.parametrize(
    ("parameters", "profile_level_id", "mode"),
    [
        ((), "42e01f", "0"),
        (("a=fmtp:98",), "42e01f", "0"),
        (("a=fmtp:98 profile-level-id=42801f",), "42001f", "0"),
        (("a=fmtp:98 profile-level-id=640c1f; packetization-mode=0",), "640c1f", "0"),
        (("a=fmtp:98 profile-level-id=640c1f; packetization-mode=1",), "640c1f", "1"),
    ],
)
def test_h264_is_accepted_in_both_modes(parameters: tuple[str, ...], profile_level_id: str, mode: str) -> None:
    remote = read(offer(AUDIO, (*H264, *parameters), head=(*HEAD, "a=group:BUNDLE 0 2")))
    (codec,) = SessionDescription.parse(remote.text).media[1].rtp.codecs
    assert codec.parameters == {"profile-level-id": profile_level_id, "packetization-mode": mode}


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (DATA, "application is not supported"),
        (("m=image 9 udptl t38", "a=mid:2"), "image is not supported"),
        (("m=text 9 UDP/TLS/RTP/SAVPF 98", "a=mid:2", "a=rtpmap:98 t140/1000"), "text is not supported"),
        (("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:2", *VP8), "rejected or removed"),
        (("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:2", *VP8, *TRANSPORT, "a=inactive"), "rejected or removed"),
        (("m=video 0 UDP/TLS/RTP/SAVPF 0",), "rejected or removed"),
        (("m=video 9 TCP/MRCPv2 1", "a=mid:2"), "protocol TCP/MRCPv2"),
        (("m=video 9 UDP/TLS/RTP/SAVPF 98", "a=mid:2", *TRANSPORT, "a=rtpmap:98 VP9/90000"), "VP9/90000"),
        ((*H264, "a=fmtp:98 packetization-mode=2"), "H264 Constrained Baseline (42e01f) packetization-mode 2"),
        ((*H264, "a=fmtp:98 packetization-mode=1;profile-level-id=6e0028"), "H264 High 10 (6e0028)"),
        (("m=video 9 UDP/TLS/RTP/SAVPF x", "a=mid:2", *TRANSPORT), "none that can be read"),
        ((*without(VIDEO, "a=mid"), "a=mid:9"), "a transport of its own"),
    ],
)
def test_section_that_cannot_be_accepted_costs_only_itself(section: tuple[str, ...], reason: str) -> None:
    remote = read(offer(AUDIO, section, head=(*HEAD, "a=group:BUNDLE 0 2")))
    assert remote.kinds == ("audio",)
    assert reason in remote.rejections[1]
    assert remote.explain() == "" if remote.rejections[1] == NOT_OFFERED else reason in remote.explain()
    lines = media_lines(mirror(engine_answer(remote), remote))
    assert lines[0].startswith("m=audio 9 ")
    assert lines[1].startswith(f"m={section[0][2:].split()[0]} 0 {section[0].split()[2]}")


def test_group_with_usable_sections_is_used_among_several() -> None:
    bundled = (*replaced(without(VIDEO, *TRANSPORT), "m=", "m=video 0 UDP/TLS/RTP/SAVPF 96 97"), "a=bundle-only")
    remote = read(offer(DATA, AUDIO, bundled, head=(*HEAD, "a=group:BUNDLE 2", BUNDLE)))
    assert remote.kinds == ("audio", "video") and remote.bundle == ("0", "1")


def test_sections_beyond_the_limit_are_rejected() -> None:
    many = [("m=audio 9 UDP/TLS/RTP/SAVPF 111", f"a=mid:{n}", *TRANSPORT, *OPUS) for n in range(MAX_SECTIONS + 3)]
    group = "a=group:BUNDLE " + " ".join(map(str, range(MAX_SECTIONS + 3)))
    remote = read(offer(*many, head=(*HEAD, group)))
    assert len(remote.accepted) == MAX_SECTIONS and len(remote.rejections) == 3
    assert len(media_lines(mirror(engine_answer(remote), remote))) == MAX_SECTIONS + 3


@pytest.mark.parametrize("missing", ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=rtcp-mux"])
def test_offer_without_transport_is_rejected_with_line_and_rule(missing: str) -> None:
    with pytest.raises(SdpError, match=rf"m=audio \(line 5\): no {missing}.*\(RFC \d+") as caught:
        read(offer(*(without(section, missing) for section in (AUDIO, VIDEO)), head=HEAD))
    assert caught.value.rule


_TWO_GROUPS = (*HEAD, "a=group:BUNDLE 0", "a=group:BUNDLE 1")


@pytest.mark.parametrize(
    ("missing", "head"),
    [
        ("a=ice-ufrag", HEAD),
        ("a=ice-pwd", HEAD),
        ("a=fingerprint", HEAD),
        ("a=rtcp-mux", HEAD),
        ("a=ice-ufrag", _TWO_GROUPS),
        ("a=fingerprint", _TWO_GROUPS),
    ],
)
def test_incomplete_transport_costs_only_its_own_sections(missing: str, head: tuple[str, ...]) -> None:
    remote = read(offer(without(AUDIO, missing), VIDEO, head=head))
    assert remote.kinds == ("video",) and remote.rejections[0].startswith(f"no {missing}")
    answer = mirror(engine_answer(remote), remote)
    assert [line.split()[1] for line in media_lines(answer)] == ["0", "9"]


@pytest.mark.parametrize(
    ("section", "head"),
    [
        (without(AUDIO, "a=rtcp-mux"), (*HEAD, "a=group:BUNDLE 0")),
        ((*without(AUDIO, "a=rtcp-mux"), "a=rtcp-mux-only"), HEAD),
        (without(AUDIO, "a=rtcp-mux"), (*HEAD, "a=rtcp-mux")),
    ],
)
def test_rtcp_mux_may_be_implied(section: tuple[str, ...], head: tuple[str, ...]) -> None:
    assert SessionDescription.parse(read(offer(section, head=head)).text).media[0].rtcp_mux


@pytest.mark.parametrize("value", ["a=ice-ufrag:a b", "a=ice-ufrag:", "a=ice-pwd:" + "x" * 300, "a=ice-pwd:\u00e4"])
def test_offer_with_illegal_credentials_is_refused(value: str) -> None:
    name = value.partition(":")[0]
    with pytest.raises(SdpError, match=f"invalid {name}"):
        read(offer(*(replaced(section, name, value) for section in (AUDIO, VIDEO))))


def test_offer_without_usable_sections_has_a_reason_for_each() -> None:
    vp9 = ("m=video 9 UDP/TLS/RTP/SAVPF 98", "a=mid:1", *TRANSPORT, "a=rtpmap:98 VP9/90000")
    with pytest.raises(SdpError, match=r"m=application \(line 6\): .*; m=video \(line 14\): no common codec.*VP9"):
        read(offer(DATA, vp9))


def test_message_about_many_sections_is_bounded() -> None:
    many = [("m=text 9 UDP/TLS/RTP/SAVPF 98",)] * 100
    with pytest.raises(SdpError) as caught:
        read(offer(*many))
    assert len(str(caught.value)) < 600


def test_extensions_and_ssrcs_are_passed_on_once_and_bounded() -> None:
    extra = [f"a=extmap:{n} {MID}" for n in (0, 15, 4, 4, 5, 300)] + [f"a=ssrc:{n} cname:x" for n in range(1, 50)]
    (media,) = SessionDescription.parse(read(offer((*AUDIO, *extra))).text).media
    assert [(one.id, one.uri) for one in media.rtp.headerExtensions] == [(4, MID)]
    assert [one.ssrc for one in media.ssrc] == [*range(1, MAX_SSRCS + 1)]


def test_extensions_of_the_session_apply_to_all_sections() -> None:
    remote = read(offer(AUDIO, (*VIDEO, f"a=extmap:7 {MID}"), head=(*HEAD, BUNDLE, f"a=extmap:3 {MID}")))
    found = [media.rtp.headerExtensions[0].id for media in SessionDescription.parse(remote.text).media]
    assert found == [3, 7]


def test_candidates_are_kept_apart_and_bounded() -> None:
    candidate = "1 1 udp 1 127.0.0.1 9 typ host"
    longest = "x" * (MAX_CANDIDATE - len("candidate:"))
    lines = [f"a=candidate:{value}" for value in (candidate, f"{longest}x", longest, "\u20ac")]
    remote = read(offer(AUDIO, (*VIDEO, *lines, "a=end-of-candidates", *[f"a=candidate:{candidate}"] * 200)))
    assert remote.candidates[:2] == ((1, f"candidate:{candidate}"), (1, f"candidate:{longest}"))
    assert len(remote.candidates) == MAX_CANDIDATES - 2
    assert "candidate" not in remote.text


def test_direction_comes_from_the_section_or_the_session() -> None:
    remote = read(offer((*AUDIO, "a=recvonly"), VIDEO, head=(*HEAD, BUNDLE, "a=sendonly")))
    assert [media.direction for media in SessionDescription.parse(remote.text).media] == ["recvonly", "sendonly"]


@pytest.mark.parametrize(
    ("direction", "sent", "carries"),
    [
        ("sendrecv", (), True),
        ("sendonly", (), True),
        ("recvonly", (), False),
        ("recvonly", ("video",), False),
        ("recvonly", ("audio",), True),
        ("inactive", ("audio", "video"), False),
    ],
)
def test_media_flows_by_direction_and_by_what_is_sent(
    direction: str, sent: tuple[Literal["audio", "video"], ...], carries: bool
) -> None:
    remote = read(offer((*AUDIO, f"a={direction}"), ("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=sendrecv")))
    assert remote.carries_media(sent) is carries


@pytest.mark.parametrize(
    ("section", "refused"), [(DATA, False), (VP9, True), (replaced(VP9, "m=", "m=video 0 RTP/AVP 98"), False)]
)
def test_only_offered_audio_or_video_counts_as_refused_media(section: tuple[str, ...], refused: bool) -> None:
    assert read(offer(AUDIO, section, head=(*HEAD, "a=group:BUNDLE 0 2"))).refuses_media is refused


def test_lite_agents_stay_lite() -> None:
    assert SessionDescription.parse(read(offer(head=(*HEAD, BUNDLE, "a=ice-lite"))).text).media[0].ice.iceLite


# --- answers ---


def answer(*sections: tuple[str, ...], ours: str | None = None) -> RemoteDescription:
    active = [replaced(section, "a=setup", "a=setup:active") for section in sections]
    remote = normalize_answer(
        text(*HEAD, BUNDLE, *(line for one in active for line in one)), ours or offer(), SUPPORTED
    )
    SessionDescription.parse(remote.text)
    return remote


def test_ordinary_answer_is_accepted_whole() -> None:
    remote = answer(AUDIO, VIDEO)
    assert remote.kinds == ("audio", "video") and remote.rejections == {}


@pytest.mark.parametrize(
    "video",
    [
        ("m=video 0 UDP/TLS/RTP/SAVPF 0", "a=inactive", "a=mid:1"),
        ("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:1", *VP8, *TRANSPORT),
        ("m=video 0 UDP/TLS/RTP/SAVPF 0",),
        ("m=video 9 UDP/TLS/RTP/SAVPF 98", "a=mid:1", *TRANSPORT, "a=rtpmap:98 VP9/90000"),
    ],
)
def test_answer_that_rejects_video_costs_only_the_video(video: tuple[str, ...]) -> None:
    remote = answer(AUDIO, video)
    assert remote.kinds == ("audio",) and list(remote.rejections) == [1]
    sound, pictures = SessionDescription.parse(remote.text).media
    assert sound.direction == "sendrecv" and pictures.direction == "inactive"
    assert pictures.rtp.muxId == "1" and [codec.name for codec in pictures.rtp.codecs] == ["VP8", "rtx"]
    assert pictures.ice.usernameFragment == sound.ice.usernameFragment and pictures.dtls.role == "client"


@pytest.mark.parametrize(
    ("video", "kinds"),
    [
        (VIDEO, ("audio", "video")),
        (without(VIDEO, *TRANSPORT), ("audio", "video")),
        (replaced(VIDEO, "a=ice-ufrag", "a=ice-ufrag:video"), ("audio",)),
    ],
)
def test_answer_without_a_group_is_read_by_its_transports(video: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    remote = normalize_answer(text(*HEAD, *AUDIO, *video), offer(), SUPPORTED)
    assert remote.kinds == kinds
    assert SessionDescription.parse(remote.text).media[1].direction == ("sendrecv" if kinds[1:] else "inactive")


def test_answer_with_inactive_video_keeps_the_section() -> None:
    remote = answer(AUDIO, (*VIDEO, "a=inactive"))
    assert remote.kinds == ("audio", "video") and remote.rejections == {}
    assert SessionDescription.parse(remote.text).media[1].direction == "inactive"


def test_answer_may_reject_the_first_section() -> None:
    remote = answer(("m=audio 0 UDP/TLS/RTP/SAVPF 0", "a=mid:0"), VIDEO)
    assert remote.kinds == ("video",)


def test_answer_without_mids_gets_those_of_the_offer() -> None:
    remote = answer(without(AUDIO, "a=mid"), without(VIDEO, "a=mid"))
    assert [one.mid for one in remote.accepted] == ["0", "1"]


def test_answer_without_setup_is_active() -> None:
    remote = answer(without(AUDIO, "a=setup"), without(VIDEO, "a=setup"))
    assert {media.dtls.role for media in SessionDescription.parse(remote.text).media} == {"client"}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ((AUDIO,), "1 media sections answer 2"),
        ((VIDEO, AUDIO), "answers m=audio"),
        ((("m=audio 0 x 0",), ("m=video 0 x 0",)), "rejected by the answerer"),
    ],
)
def test_answer_that_does_not_fit_is_refused(sections: tuple[tuple[str, ...], ...], reason: str) -> None:
    with pytest.raises(SdpError, match=reason):
        answer(*sections)


# --- whatever comes ---


_LINES = st.sampled_from([*AUDIO, *VIDEO, *HEAD, BUNDLE, *DATA, "m=", "a=mid:\x85"])


@given(st.text(max_size=300) | st.lists(_LINES).map("\r\n".join))
def test_any_text_is_normalized_or_refused(sdp: str) -> None:
    try:
        remote = normalize_offer(sdp, SUPPORTED)
    except SdpError as error:
        assert "\n" not in str(error)
        return
    parsed = SessionDescription.parse(remote.text)
    assert [media.rtp.muxId for media in parsed.media] == [one.mid for one in remote.accepted]
