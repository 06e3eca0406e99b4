"""Offers and answers that real products wrote, each with what must be accepted of it.

``corpus`` has them as they were made, with line feeds for line ends and addresses of RFC 5737 and RFC 3849, by

- browsers: Chromium 156, Firefox ESR 153;
- libraries: libwebrtc (@roamhq/wrtc), libdatachannel (node-datachannel), werift, pion 3.1, GStreamer 1.22 (webrtcbin,
  with its default policy, which is no BUNDLE, and with ``max-bundle``);
- servers and gateways: Janus 1.1 (streaming, echo test), rtpengine 10.5 (from a phone's RTP/AVP with G.711, and H.264
  in packetization-mode 0);
- SIP phones that speak ICE and DTLS-SRTP: baresip 1.0, linphone 5.1.

The answers are to ``our-offer``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from aiortc.sdp import SessionDescription

from peer.rtc.aiortc_hooks import supported_codecs
from peer.rtc.remote_description import NOT_OFFERED, RemoteDescription, normalize_answer, normalize_offer
from peer.rtc.sdp import SdpError
from peer.rtc.sdp_transports import restrict, split_transports

CORPUS: Final = Path(__file__).parent / "corpus"
SUPPORTED: Final = supported_codecs(("vp8", "h264"))

_OWN_TRANSPORT: Final = "it needs a transport of its own"

EXPECTED: Final[dict[str, tuple[str, str]]] = {
    "baresip-offer-rtcp-mux": ("audio:0", _OWN_TRANSPORT),
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
    "chromium-offer-stopped-video": ("audio:1", NOT_OFFERED),
    "chromium-offer-vp9-only": ("audio:0", "no common codec, offered: VP9/90000"),
    "firefox-offer": ("audio:0 video:1", ""),
    "firefox-offer-data-channel": ("video:0", "application is not supported"),
    "firefox-offer-simulcast": ("video:0", ""),
    "gstreamer-offer": ("audio:audio0", _OWN_TRANSPORT),
    "gstreamer-offer-h264": ("audio:audio0 video:video1", ""),
    "gstreamer-offer-max-bundle": ("audio:audio0 video:video1", ""),
    "janus-offer": ("audio:a video:v", ""),
    "janus-offer-h264-data": ("audio:a video:v", "application is not supported"),
    "libdatachannel-offer": ("video:video audio:audio", ""),
    "libwebrtc-offer": ("audio:0 video:1", ""),
    "linphone-offer": ("audio:0", _OWN_TRANSPORT),
    "pion-offer": ("audio:0 video:1", ""),
    "pion-offer-data-channel": ("audio:0 video:1", "application is not supported"),
    "rtpengine-offer": ("audio:1", _OWN_TRANSPORT),
    "rtpengine-offer-audio": ("audio:0", ""),
    "werift-offer": ("audio:0 video:1", ""),
    "werift-offer-data-channel": ("video:0", "application is not supported"),
}
"""For each offer its accepted sections, as kind and ``a=mid``, and why others are rejected."""

REFUSED: Final = {
    "baresip-offer": "no a=rtcp-mux",
    "chromium-offer-data-channel-only": "application is not supported",
}
"""Offers without any section that can be accepted, and the reason."""

ANSWERS: Final[dict[str, tuple[str, str, str]]] = {
    "chromium-answer": ("opus", "VP8", "recvonly"),
    "firefox-answer": ("opus", "VP8", "recvonly"),
    "gstreamer-answer": ("OPUS", "VP8", "sendrecv"),
    "gstreamer-answer-max-bundle": ("OPUS", "VP8", "sendrecv"),
    "janus-answer": ("opus", "VP8", "sendrecv"),
    "libdatachannel-answer": ("opus", "VP8", "sendrecv"),
    "pion-answer": ("opus", "VP8", "sendrecv"),
    "rtpengine-answer": ("PCMU", "", "inactive"),
    "werift-answer": ("opus", "VP8", "recvonly"),
}
"""For each answer the first codec of audio and of video, and the direction of video; no codec for rejected video."""

UNBUNDLED: Final = ("baresip-offer-rtcp-mux", "gstreamer-offer", "linphone-offer", "rtpengine-offer")
"""Offers that have a transport for audio and another one for video. ``EXPECTED`` is what one connection accepts."""

OUR_OFFER: Final = "our-offer"


def read(name: str) -> str:
    return (CORPUS / f"{name}.sdp").read_text().replace("\n", "\r\n")


def test_corpus_and_tables_have_the_same_names() -> None:
    names = {path.stem for path in CORPUS.glob("*.sdp")}
    assert names == EXPECTED.keys() | REFUSED.keys() | ANSWERS.keys() | {OUR_OFFER}


def check_engine(remote: RemoteDescription) -> SessionDescription:
    """Check that the engine reads a transport and a codec of ours in every section."""
    parsed = SessionDescription.parse(remote.text)
    for media in parsed.media:
        names = {codec.name.lower() for codec in media.rtp.codecs}
        assert names & ({"vp8", "h264"} if media.kind == "video" else {"opus", "pcmu", "pcma", "g722"})
        assert media.ice.usernameFragment and media.dtls is not None and media.dtls.fingerprints
    return parsed


@pytest.mark.parametrize("name", EXPECTED)
def test_real_offer_is_accepted_as_expected(name: str) -> None:
    accepted, reason = EXPECTED[name]
    remote = normalize_offer(read(name), SUPPORTED)
    assert " ".join(f"{one.kind}:{one.mid}" for one in remote.accepted) == accepted
    assert reason in "; ".join(remote.rejections.values()) and bool(reason) is bool(remote.rejections)
    check_engine(remote)


@pytest.mark.parametrize("name", EXPECTED)
def test_real_offer_has_one_transport_or_one_per_kind(name: str) -> None:
    parts = split_transports(read(name), SUPPORTED)
    assert [part.kinds for part in parts] == ([("audio",), ("video",)] if name in UNBUNDLED else [])
    for part in parts:
        check_engine(normalize_offer(restrict(read(name), part.indexes), SUPPORTED))


@pytest.mark.parametrize("name", ANSWERS)
def test_real_answer_is_accepted_as_expected(name: str) -> None:
    audio, video, direction = ANSWERS[name]
    remote = normalize_answer(read(name), read(OUR_OFFER), SUPPORTED)
    assert [one.mid for one in remote.accepted] == ["0", "1"]
    assert remote.kinds == (("audio", "video") if video else ("audio",))
    parsed = check_engine(remote)
    assert parsed.media[0].rtp.codecs[0].name == audio and parsed.media[1].direction == direction
    assert parsed.media[1].rtp.codecs[0].name == video or not video


@pytest.mark.parametrize("name", REFUSED)
def test_real_offer_of_nothing_supported_is_refused(name: str) -> None:
    with pytest.raises(SdpError, match=REFUSED[name]):
        normalize_offer(read(name), SUPPORTED)
