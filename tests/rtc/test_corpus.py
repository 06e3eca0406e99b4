"""Offers that real products wrote, each with what must be accepted of it.

``corpus`` has them as Chromium 156, Firefox ESR, libwebrtc (@roamhq/wrtc), libdatachannel (node-datachannel) and
werift made them, with line feeds for line ends and addresses of RFC 5737 and RFC 3849.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from aiortc.sdp import SessionDescription

from peer.rtc.aiortc_hooks import supported_codecs
from peer.rtc.remote_description import normalize_offer
from peer.rtc.sdp import SdpError

CORPUS: Final = Path(__file__).parent / "corpus"
SUPPORTED: Final = supported_codecs(("vp8", "h264"))

EXPECTED: Final[dict[str, tuple[str, str]]] = {
    "chromium-offer": ("audio:0 video:1", ""),
    "chromium-offer-24-sections": (
        "audio:0 video:1 audio:2 video:3 audio:4 video:5 audio:6 video:7",
        "more than 8 sections",
    ),
    "chromium-offer-data-channel": ("audio:0 video:1", "application is not supported"),
    "chromium-offer-max-bundle": ("audio:0 video:1 video:2", ""),
    "chromium-offer-max-compat": ("audio:0 video:1", ""),
    "chromium-offer-recvonly": ("audio:0 video:1", ""),
    "chromium-offer-simulcast": ("audio:0 video:1", ""),
    "chromium-offer-stopped-video": ("audio:1", "rejected or removed by the offerer"),
    "chromium-offer-vp9-only": ("audio:0", "no common codec, offered: VP9/90000"),
    "firefox-offer": ("audio:0 video:1", ""),
    "firefox-offer-data-channel": ("video:0", "application is not supported"),
    "firefox-offer-simulcast": ("video:0", ""),
    "libdatachannel-offer": ("video:video audio:audio", ""),
    "libwebrtc-offer": ("audio:0 video:1", ""),
    "werift-offer": ("audio:0 video:1", ""),
    "werift-offer-data-channel": ("video:0", "application is not supported"),
}
"""For each offer its accepted sections, as kind and ``a=mid``, and why others are rejected."""

REFUSED: Final = {"chromium-offer-data-channel-only": "application is not supported"}
"""Offers without any section that can be accepted, and the reason."""


def read(name: str) -> str:
    return (CORPUS / f"{name}.sdp").read_text().replace("\n", "\r\n")


def test_corpus_and_tables_have_the_same_names() -> None:
    assert {path.stem for path in CORPUS.glob("*.sdp")} == EXPECTED.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_real_offer_is_accepted_as_expected(name: str) -> None:
    accepted, reason = EXPECTED[name]
    remote = normalize_offer(read(name), SUPPORTED)
    assert " ".join(f"{one.kind}:{one.mid}" for one in remote.accepted) == accepted
    assert reason in remote.explain() and bool(reason) is bool(remote.rejections)
    parsed = SessionDescription.parse(remote.text)
    for media in parsed.media:
        names = {codec.name.lower() for codec in media.rtp.codecs}
        assert names & ({"vp8", "h264"} if media.kind == "video" else {"opus"})
        assert media.ice.usernameFragment and media.dtls is not None and media.dtls.fingerprints


@pytest.mark.parametrize("name", REFUSED)
def test_real_offer_of_nothing_supported_is_refused(name: str) -> None:
    with pytest.raises(SdpError, match=REFUSED[name]):
        normalize_offer(read(name), SUPPORTED)
