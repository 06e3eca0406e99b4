"""Session descriptions for tests, put together from lines."""

from __future__ import annotations

import re

from aiortc.sdp import SessionDescription

from peer.rtc.remote_description import RemoteDescription, normalize_offer
from peer.rtc.sdp_codecs import SupportedCodecs

SUPPORTED = SupportedCodecs(
    frozenset({
        "opus/48000/2", "pcmu/8000", "pcma/8000", "g722/8000", "vp8/90000", "h264/90000", "rtx/90000",
    }),
    frozenset({
        (name, mode)
        for name in ("Constrained Baseline", "Baseline", "Main", "Constrained High", "High")
        for mode in (0, 1)
    }),
)  # fmt: skip

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
TRANSPORT = (
    "a=ice-ufrag:abcd",
    "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    "a=fingerprint:sha-256 " + ":".join(["A1"] * 32),
    "a=setup:actpass",
    "a=rtcp-mux",
)
OPUS = ("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1")
VP8 = (
    "a=rtpmap:96 VP8/90000",
    "a=rtcp-fb:96 nack",
    "a=rtcp-fb:96 nack pli",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
)
AUDIO = ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", *TRANSPORT, *OPUS)
VIDEO = ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "a=mid:1", *TRANSPORT, *VP8)
VP9 = ("m=video 9 UDP/TLS/RTP/SAVPF 98", "a=mid:2", *TRANSPORT, "a=rtpmap:98 VP9/90000")
DATA = ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2", *TRANSPORT, "a=sctp-port:5000")
HEAD = ("v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0")
BUNDLE = "a=group:BUNDLE 0 1"


def text(*lines: str) -> str:
    """The description with these lines."""
    return "".join(f"{line}\r\n" for line in lines)


def offer(*sections: tuple[str, ...], head: tuple[str, ...] = (*HEAD, BUNDLE)) -> str:
    """An offer of ``sections``; of sound and video where none are given."""
    return text(*head, *(line for section in sections or (AUDIO, VIDEO) for line in section))


def without(section: tuple[str, ...], *starts: str) -> tuple[str, ...]:
    """``section`` less the lines that begin so."""
    return tuple(line for line in section if not line.startswith(starts))


def replaced(section: tuple[str, ...], start: str, line: str) -> tuple[str, ...]:
    """``section`` with ``line`` in the place of each one that begins with ``start``."""
    return tuple(line if one.startswith(start) else one for one in section)


def read(sdp: str) -> RemoteDescription:
    """Normalize an offer. The engine must be able to parse the result."""
    remote = normalize_offer(sdp, SUPPORTED)
    SessionDescription.parse(remote.text)
    return remote


def engine_answer(remote: RemoteDescription) -> str:
    """Return an answer as the engine makes it: accepted sections only, in one group."""
    mids = [one.mid for one in remote.accepted]
    sections = (
        (f"m={one.kind} 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", f"a=mid:{one.mid}", "a=sendrecv", *TRANSPORT)
        for one in remote.accepted
    )
    return text(*HEAD, f"a=group:BUNDLE {' '.join(mids)}", *(line for section in sections for line in section))


def media_lines(sdp: str) -> list[str]:
    """Return the ``m=`` lines of a description."""
    return re.findall(r"^m=.*?(?=\r$)", sdp, re.MULTILINE)
