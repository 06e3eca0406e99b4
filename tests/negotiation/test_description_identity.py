"""Identity of a description: which values are read, from where, and what a second offer with others does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from peer.negotiation.description_identity import (
    MAX_FINGERPRINTS,
    MAX_UFRAGS,
    MAX_VALUE,
    DescriptionIdentity,
    SecondOffer,
    classify,
    read_identity,
)
from peer.signaling.messages import MAX_MESSAGE

CORPUS = sorted((Path(__file__).parents[1] / "rtc" / "corpus").glob("*.sdp"))

CHROMIUM = (
    "v=0\r\no=- 42 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:frag\r\na=ice-pwd:word\r\na=fingerprint:sha-256 AA:BB\r\n"
    "a=tls-id:t1\r\na=mid:0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:frag\r\na=ice-pwd:word\r\na=fingerprint:sha-256 AA:BB\r\n"
    "a=mid:1\r\n"
)
IDENTITY = DescriptionIdentity("frag", "word", frozenset({"sha-256 aa:bb"}), "42", "t1", frozenset({"frag"}))


def test_identity_of_a_bundled_offer_is_that_of_its_section() -> None:
    assert read_identity(CHROMIUM) == IDENTITY


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_identity_of_real_offers_is_complete(path: Path) -> None:
    identity = read_identity(path.read_text())
    assert identity.ufrag and identity.password and identity.fingerprints and identity.session_id
    assert identity.ufrag in identity.ufrags
    assert classify(identity, read_identity(path.read_text())) is SecondOffer.RENEGOTIATION


def test_identity_at_the_session_level_is_inherited() -> None:
    sdp = (
        "v=0\no=- 42 2 IN IP4 0.0.0.0\na=ice-ufrag:frag\na=ice-pwd:word\na=fingerprint:SHA-256 aa:BB\na=tls-id:t1\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n"
    )
    assert read_identity(sdp) == IDENTITY


def test_identity_of_the_tagged_section_wins_over_the_first() -> None:
    moved = CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 1").replace(":frag", ":stopped", 1).replace("audio 9", "audio 0")
    assert read_identity(moved).ufrag == "frag"
    assert read_identity(moved).ufrags == {"frag", "stopped"}


def test_identity_without_bundle_is_that_of_a_live_section() -> None:
    sdp = CHROMIUM.replace("a=group:BUNDLE 0 1\r\n", "").replace(":frag", ":stopped", 1)
    assert read_identity(sdp).ufrag == "stopped"
    assert read_identity(sdp.replace("audio 9", "audio 0")).ufrag == "frag"


@pytest.mark.parametrize("sdp", ["", "v=0", "o=\r\nm=\r\na=mid:", "m=audio", "\0\ud800\n\n", "a=ice-ufrag: \r\n"])
def test_identity_of_a_malformed_text_is_empty(sdp: str) -> None:
    assert read_identity(sdp) == DescriptionIdentity()


def test_identity_ignores_values_beyond_their_limits() -> None:
    assert read_identity(f"a=ice-ufrag:{'x' * (MAX_VALUE + 1)}").ufrag is None
    many = "".join(f"a=fingerprint:sha-256 {i:02}\n" for i in range(100))
    assert len(read_identity(many).fingerprints) == MAX_FINGERPRINTS
    many = "".join(f"m=audio 9 x 0\na=ice-ufrag:u{i}\n" for i in range(100))
    assert len(read_identity(many).ufrags) == MAX_UFRAGS


@pytest.mark.parametrize(
    "line",
    ["a=mid:\n", "\n", "m=", "a=ice-ufrag:x\n", "a=fingerprint:", " ", "\t", "a=group:BUNDLE 0\n", "m=a\na=mid:1\n"],
)
def test_identity_of_a_large_text_is_read_in_linear_time(line: str) -> None:
    """Compared with an eighth of the text: quadratic time would be 64 times as long, and linear time is 8 times."""

    def seconds(size: int) -> float:
        text = line * (size // len(line))
        best = float("inf")
        for _ in range(5):
            begin = time.thread_time()
            read_identity(text)
            best = min(best, time.thread_time() - begin)
        return best

    assert seconds(MAX_MESSAGE) < 32 * max(seconds(MAX_MESSAGE // 8), 0.0005)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, SecondOffer.RENEGOTIATION),
        ({"AA:BB": "aa:bb", "sha-256": "SHA-256"}, SecondOffer.RENEGOTIATION),
        ({"o=- 42 2": "o=- 43 3"}, SecondOffer.RENEGOTIATION),
        ({"o=- 42 2": "o=- 42 3", ":frag": ":new", "word": "other"}, SecondOffer.ICE_RESTART),
        ({"word": "other"}, SecondOffer.ICE_RESTART),
        ({":frag": ":new", "a=tls-id:t1\r\n": ""}, SecondOffer.ICE_RESTART),
        ({":frag": ":new", "tls-id:t1": "tls-id:t2"}, SecondOffer.REPLACEMENT),
        ({":frag": ":new", "o=- 42 2": "o=- 43 2"}, SecondOffer.REPLACEMENT),
        ({":frag": ":new", "AA:BB": "AA:CC"}, SecondOffer.REPLACEMENT),
        ({"AA:BB": "AA:CC"}, SecondOffer.REPLACEMENT),
        ({"a=ice-ufrag:frag\r\n": ""}, SecondOffer.REPLACEMENT),
        ({"a=fingerprint:sha-256 AA:BB\r\n": ""}, SecondOffer.REPLACEMENT),
    ],
    ids=str,
)
def test_second_offer_is_classified_by_what_it_keeps(changes: dict[str, str], expected: SecondOffer) -> None:
    offer = CHROMIUM
    for old, new in changes.items():
        offer = offer.replace(old, new)
    assert classify(IDENTITY, read_identity(offer)) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({":frag": ":new", "o=- 42 2": "o=- 43 2"}, SecondOffer.ICE_RESTART),
        ({":frag": ":new", "o=- 42 2": "o=- 43 2", "tls-id:t1": "tls-id:t2"}, SecondOffer.REPLACEMENT),
        ({":frag": ":new", "AA:BB": "AA:CC"}, SecondOffer.REPLACEMENT),
        ({":frag": ":new", "a=fingerprint:sha-256 AA:BB\r\n": ""}, SecondOffer.REPLACEMENT),
    ],
    ids=str,
)
def test_offer_of_the_call_needs_no_session_id(changes: dict[str, str], expected: SecondOffer) -> None:
    offer = CHROMIUM
    for old, new in changes.items():
        offer = offer.replace(old, new)
    assert classify(IDENTITY, read_identity(offer), continues=True) is expected


def test_second_offer_without_fingerprints_never_restarts_ice() -> None:
    before, after = read_identity("o=- 1 1\na=ice-ufrag:x"), read_identity("o=- 1 2\na=ice-ufrag:y")
    assert classify(before, after) is SecondOffer.REPLACEMENT
