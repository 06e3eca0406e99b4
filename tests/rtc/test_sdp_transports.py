"""Offers with several transports: how they are split, and how the answers are merged."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.rtc.answer import mirror
from peer.rtc.remote_description import normalize_offer
from peer.rtc.sdp_transports import MAX_TRANSPORTS, merge_answers, restrict, split_transports

from .descriptions import (
    AUDIO,
    BUNDLE,
    DATA,
    HEAD,
    SUPPORTED,
    VIDEO,
    VP9,
    engine_answer,
    media_lines,
    offer,
    replaced,
    without,
)

SECOND_AUDIO = replaced(AUDIO, "a=mid", "a=mid:5")
SECOND_VIDEO = replaced(VIDEO, "a=mid", "a=mid:6")
BUNDLE_ONLY = (
    *replaced(without(VIDEO, "a=ice", "a=finger"), "m=", "m=video 0 UDP/TLS/RTP/SAVPF 96 97"),
    "a=bundle-only",
)


def parts(sdp: str) -> list[tuple[list[int], tuple[str, ...]]]:
    return [(sorted(part.indexes), part.kinds) for part in split_transports(sdp, SUPPORTED)]


def answer(sdp: str) -> str:
    """Answer ``sdp`` as ``UnbundledConnection`` does."""
    found = split_transports(sdp, SUPPORTED)
    remotes = [normalize_offer(restrict(sdp, part.indexes), SUPPORTED) for part in found]
    return merge_answers(found, [mirror(engine_answer(remote), remote) for remote in remotes])


@pytest.mark.parametrize(
    ("sections", "head", "expected"),
    [
        ((AUDIO, VIDEO), HEAD, [([0], ("audio",)), ([1], ("video",))]),
        ((VIDEO, DATA, AUDIO), HEAD, [([0], ("video",)), ([2], ("audio",))]),
        ((AUDIO, VIDEO), (*HEAD, "a=group:BUNDLE 0", "a=group:BUNDLE 1"), [([0], ("audio",)), ([1], ("video",))]),
        ((AUDIO, VIDEO), (*HEAD, "a=group:BUNDLE 1"), [([1], ("video",)), ([0], ("audio",))]),
        ((AUDIO, SECOND_AUDIO, VIDEO, SECOND_VIDEO), HEAD, [([0], ("audio",)), ([2], ("video",))]),
        ((AUDIO, VP9, VIDEO), HEAD, [([0], ("audio",)), ([2], ("video",))]),
    ],
)
def test_offer_is_split_into_one_transport_per_kind(
    sections: tuple[tuple[str, ...], ...], head: tuple[str, ...], expected: list[tuple[list[int], tuple[str, ...]]]
) -> None:
    assert parts(offer(*sections, head=head)) == expected


@pytest.mark.parametrize(
    "sdp",
    [
        offer(),
        offer(AUDIO, head=HEAD),
        offer(AUDIO, DATA, head=HEAD),
        offer(AUDIO, VP9, head=HEAD),
        offer(AUDIO, SECOND_AUDIO, head=HEAD),
        offer(AUDIO, BUNDLE_ONLY),
        offer(AUDIO, SECOND_AUDIO, VIDEO, head=(*HEAD, "a=group:BUNDLE 0", "a=group:BUNDLE 5 1")),
        offer(SECOND_VIDEO, AUDIO, BUNDLE_ONLY, head=(*HEAD, "a=group:BUNDLE 6", BUNDLE)),
        offer(SECOND_VIDEO, AUDIO, VIDEO, head=(*HEAD, "a=group:BUNDLE 6", "a=group:BUNDLE 1 0")),
        offer(AUDIO, VIDEO, SECOND_AUDIO, head=(*HEAD, BUNDLE)),
        offer(AUDIO, without(VIDEO, "a=fingerprint"), head=HEAD),
        offer(without(AUDIO, "a=fingerprint"), VIDEO, head=HEAD),
        "nonsense",
    ],
)
def test_offer_for_one_connection_is_not_split(sdp: str) -> None:
    assert parts(sdp) == []


def test_restricted_offer_keeps_places_and_identifications() -> None:
    sdp = restrict(offer(DATA, without(AUDIO, "a=mid"), VIDEO, head=HEAD), {2})
    assert media_lines(sdp) == [
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "m=audio 0 UDP/TLS/RTP/SAVPF 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    ]
    assert re.findall(r"a=mid:\S+", sdp) == ["a=mid:2", "a=mid:1"] and "opus" not in sdp and "VP8" in sdp


def test_merged_answer_has_each_section_of_its_connection() -> None:
    video = replaced(VIDEO, "a=ice-ufrag", "a=ice-ufrag:video")
    merged = answer(offer(AUDIO, DATA, video, head=HEAD))
    assert [line.split()[:2] for line in media_lines(merged)] == [
        ["m=audio", "9"],
        ["m=application", "0"],
        ["m=video", "9"],
    ]
    assert "BUNDLE" not in merged


def test_merged_answer_has_the_groups_of_the_offer() -> None:
    merged = answer(offer(AUDIO, VIDEO, head=(*HEAD, "a=group:BUNDLE 0", "a=group:BUNDLE 1")))
    head = merged.partition("m=")[0]
    assert re.findall(r"^a=group:.*(?=\r$)", head, re.MULTILINE) == ["a=group:BUNDLE 0", "a=group:BUNDLE 1"]


_ANY = st.lists(
    st.sampled_from([AUDIO, VIDEO, DATA, VP9, SECOND_AUDIO, SECOND_VIDEO, BUNDLE_ONLY]), min_size=1, max_size=6
)
_GROUPS = st.lists(
    st.lists(st.sampled_from("01256"), max_size=4).map(lambda mids: " ".join(["a=group:BUNDLE", *mids])), max_size=3
)


@given(_ANY, _GROUPS)
def test_parts_are_disjoint_and_each_can_be_answered(sections: list[tuple[str, ...]], groups: list[str]) -> None:
    sdp = offer(*sections, head=(*HEAD, *groups))
    found = split_transports(sdp, SUPPORTED)
    assert len(found) in (0, *range(2, MAX_TRANSPORTS + 1))
    assert sum(len(part.indexes) for part in found) == len({index for part in found for index in part.indexes})
    for part in found:
        remote = normalize_offer(restrict(sdp, part.indexes), SUPPORTED)
        assert remote.kinds == part.kinds and {one.index for one in remote.accepted} <= part.indexes
    if found:
        assert len(media_lines(answer(sdp))) == len(sections)
