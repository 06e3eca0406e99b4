"""Our answers: which sections they have, and what is in those that are not the engine's."""

from __future__ import annotations

import pytest
from aiortc.sdp import SessionDescription

from peer.rtc.answer import mirror

from .descriptions import (
    AUDIO,
    DATA,
    HEAD,
    MID,
    TRANSPORT,
    VIDEO,
    VP9,
    engine_answer,
    media_lines,
    offer,
    read,
    replaced,
    without,
)

BUNDLE_ONLY = (*replaced(without(AUDIO, *TRANSPORT), "m=", "m=audio 0 UDP/TLS/RTP/SAVPF 111"), "a=bundle-only")


def test_answer_has_rejected_sections_in_their_places() -> None:
    data = replaced(DATA, "a=ice-ufrag", "a=ice-ufrag:data")
    remote = read(offer(data, AUDIO, VIDEO, head=(*HEAD, "a=group:BUNDLE 2 0 1")))
    answer = mirror(engine_answer(remote), remote)
    assert [line.split()[:2] for line in media_lines(answer)] == [
        ["m=application", "0"],
        ["m=audio", "9"],
        ["m=video", "9"],
    ]
    assert "a=group:BUNDLE 0 1\r\n" in answer
    assert [one.index for one in remote.accepted] == [1, 2]


def test_rejected_section_has_one_format_with_its_rtpmap() -> None:
    """Pion rejects an answer with a format whose codec it does not find."""
    remote = read(offer(AUDIO, replaced(VP9, "m=", "m=video 9 UDP/TLS/RTP/SAVPF 97 98")))
    rejected = mirror(engine_answer(remote), remote).split("\r\nm=video")[1].splitlines()
    assert rejected[0] == " 0 UDP/TLS/RTP/SAVPF 98"
    assert "a=rtpmap:98 VP9/90000" in rejected


@pytest.mark.parametrize("audio", [AUDIO, BUNDLE_ONLY, without(AUDIO, "a=ice-")])
@pytest.mark.parametrize(
    ("tagged", "media", "line"),
    [
        (DATA, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=sctp-port:5000"),
        (VP9, "m=video 9 UDP/TLS/RTP/SAVPF 98", "a=inactive"),
    ],
)
def test_rejected_section_is_kept_if_others_need_its_transport(
    audio: tuple[str, ...], tagged: tuple[str, ...], media: str, line: str
) -> None:
    remote = read(offer(tagged, audio, head=(*HEAD, "a=group:BUNDLE 2 0")))
    assert remote.kinds == ("audio",) and 0 in remote.rejections
    assert (remote.transport.index, remote.transport.mid) == (0, "2")
    answer = mirror(engine_answer(remote), remote)
    assert media_lines(answer)[0] == media and "a=group:BUNDLE 2 0\r\n" in answer
    kept = SessionDescription.parse(answer).media[0]
    assert kept.ice.usernameFragment == "abcd" and kept.dtls is not None and kept.dtls.fingerprints
    assert line in answer.split("\r\nm=audio")[0].splitlines()


@pytest.mark.parametrize("tagged", [("m=image 9 udptl t38", "a=mid:2", *TRANSPORT), (*VP9[:2], *TRANSPORT)])
def test_rejected_section_that_cannot_be_answered_is_not_kept(tagged: tuple[str, ...]) -> None:
    remote = read(offer(tagged, AUDIO, head=(*HEAD, "a=group:BUNDLE 2 0")))
    assert remote.kept is None and remote.bundle == ("0",)


def test_answer_to_an_offer_without_a_group_has_none() -> None:
    remote = read(offer(AUDIO, VIDEO, head=HEAD))
    assert remote.kinds == ("audio",) and "transport" in remote.rejections[1]
    answer = mirror(engine_answer(remote), remote)
    assert "BUNDLE" not in answer and len(media_lines(answer)) == 2


def test_group_without_usable_sections_is_not_in_the_answer() -> None:
    remote = read(offer(AUDIO, VIDEO, DATA, head=(*HEAD, "a=group:BUNDLE 2")))
    assert remote.kinds == ("audio",) and remote.bundle == ()
    assert "BUNDLE" not in mirror(engine_answer(remote), remote)  # RFC 8843 7.3: 0 is in no group of the offer


def test_answer_to_an_offer_without_mids_has_none() -> None:
    extension = f"a=extmap:1 {MID}"
    remote = read(offer((*without(AUDIO, "a=mid"), extension), head=HEAD))
    (one,) = remote.accepted
    assert not one.named and f"a=mid:{one.mid}" in remote.text and MID not in remote.text
    assert "a=mid" not in mirror(engine_answer(remote), remote)


def test_answer_repeats_the_protocol_of_the_offer() -> None:
    remote = read(offer(replaced(AUDIO, "m=", "m=audio 9 RTP/SAVPF 111")))
    assert media_lines(mirror(engine_answer(remote), remote)) == ["m=audio 9 RTP/SAVPF 96"]
