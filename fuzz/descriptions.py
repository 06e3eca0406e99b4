"""Target: remote session descriptions, offers and answers.

    python -m fuzz descriptions --seconds 60

Properties: an ``SdpError`` of one short line, or a description that the engine parses, whose size depends on what is
supported and not on what was sent; our answer has every section of the offer, in its place, also where the offer is
split into one per transport.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from aiortc.sdp import SessionDescription

from peer.negotiation.description_identity import (
    MAX_FINGERPRINTS,
    MAX_UFRAGS,
    SecondOffer,
    classify,
    read_identity,
)
from peer.rtc.aiortc_hooks import supported_codecs
from peer.rtc.answer import mirror
from peer.rtc.remote_description import MAX_SECTIONS, RemoteDescription, normalize_answer, normalize_offer
from peer.rtc.sdp import SdpError
from peer.rtc.sdp_transports import MAX_TRANSPORTS, merge_answers, restrict, split_transports

SUPPORTED = supported_codecs(("vp8", "h264"))

MAX_SECTION = 48_000
"""Maximum size of one section that the engine is given, in characters: 64 codecs with 32 parameters each."""

TRANSPORT = (
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:active\r\na=rtcp-mux\r\n"
    f"a=fingerprint:sha-256 {':'.join(['A1'] * 32)}\r\n"
)
AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=mid:0\r\na=sendrecv\r\n"
    "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1\r\n"
)
VIDEO = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n"
    "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 H264/90000\r\n"
    "a=fmtp:98 packetization-mode=1;profile-level-id=640c1f\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
    "a=ssrc:1 cname:x\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
)
HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
GROUP = "a=group:BUNDLE 0 1\r\n"
OFFER = HEAD + GROUP + AUDIO + TRANSPORT + VIDEO + TRANSPORT

SEEDS = [
    text.encode()
    for text in (
        OFFER,
        HEAD + GROUP + TRANSPORT + AUDIO + VIDEO,
        HEAD + TRANSPORT + AUDIO + VIDEO,
        HEAD + AUDIO + TRANSPORT + VIDEO + TRANSPORT.replace("abcd", "efgh"),
        HEAD + TRANSPORT + VIDEO.replace("a=mid:1\r\n", ""),
        HEAD + GROUP + AUDIO + TRANSPORT + "m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=bundle-only\r\na=mid:1\r\n",
        HEAD + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n" + TRANSPORT + AUDIO + TRANSPORT,
    )
]


def test_one(data: bytes) -> None:
    """Read ``data`` as an offer and as the answer to one of ours."""
    sdp = data.decode(errors="replace")
    _check_identity(sdp)
    offer = _check(lambda: normalize_offer(sdp, SUPPORTED))
    if offer is not None:
        assert len(re.findall(r"^m=", _answer(offer), re.MULTILINE)) == len(offer.sections)
        assert len(offer.accepted) <= MAX_SECTIONS
        _check_transports(sdp)
    _check(lambda: normalize_answer(sdp, OFFER, SUPPORTED))


def _check_transports(sdp: str) -> None:
    parts = split_transports(sdp, SUPPORTED)
    answers = []
    for part in parts:
        offer = _check(functools.partial(normalize_offer, restrict(sdp, part.indexes), SUPPORTED))
        assert offer is not None and offer.kinds == part.kinds
        answers.append(_answer(offer))
    if parts:
        offered, answered = (
            len(re.findall(r"^m=", text, re.MULTILINE)) for text in (sdp, merge_answers(parts, answers))
        )
        assert len(parts) <= MAX_TRANSPORTS and offered == answered


def _answer(offer: RemoteDescription) -> str:
    sections = (f"m={one.kind} 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{one.mid}\r\n" for one in offer.accepted)
    return mirror(f"{HEAD}{GROUP}{''.join(sections)}", offer)


def _check_identity(sdp: str) -> None:
    identity = read_identity(sdp)
    assert len(identity.ufrags) <= MAX_UFRAGS and len(identity.fingerprints) <= MAX_FINGERPRINTS
    assert identity.ufrag is None or identity.ufrag in identity.ufrags or len(identity.ufrags) == MAX_UFRAGS
    again = classify(identity, identity)
    assert again is (SecondOffer.REPLACEMENT if identity.ufrag is None else SecondOffer.RENEGOTIATION)


def _check(read: Callable[[], RemoteDescription]) -> RemoteDescription | None:
    try:
        remote = read()
    except SdpError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None
    assert len(remote.text) < 1000 + MAX_SECTION * len(remote.accepted)
    parsed = SessionDescription.parse(remote.text)
    assert [(media.kind, media.rtp.muxId) for media in parsed.media] == [
        (one.kind, one.mid) for one in remote.accepted
    ]
    return remote
