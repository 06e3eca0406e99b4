"""The figures of one call, second by second: what the ``stats`` event says (docs/interface.md).

Counters grow with the call and belong to those who count; here they become rates, times and parts of an interval. One
dataclass for each direction; what is not known is left out of the event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from . import events
from .media.incoming.track import IncomingMedia, IncomingTrack
from .rtc.rtcp_stats import TransportStats


@dataclass(frozen=True, slots=True)
class Received:
    """What came of one kind of media in an interval."""

    kbps: int
    fps: float | None = None
    """Pictures that came whole a second, decoded or not."""
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    jitter_ms: float | None = None
    """Interarrival jitter at the end of the interval (RFC 3550 6.4.1)."""
    decode_ms: float | None = None
    """Mean time that decoding one took; ``None`` when none was."""
    freezes: int | None = None
    """Times that the picture stood still while somebody looked (the W3C's ``freezeCount``)."""
    dropped: Mapping[str, int] | None = None
    """Frames that were not shown or heard, by reason."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What we sent of one kind of media in an interval. All but the first figure are of pictures."""

    sent_kbps: int
    sent_fps: float | None = None
    sent_codec: str | None = None
    sent_width: int | None = None
    sent_height: int | None = None
    encode_ms: float | None = None
    """Mean time that coding a picture took, for all who got it; ``None`` when none was coded."""
    encoder_dropped: int | None = None
    """Pictures of the source that came faster than they could be coded."""
    sent_skipped: int | None = None
    """Coded pictures that this peer did not get: it was too slow, or had to wait for a key frame."""
    passthrough: bool | None = None
    """Whether they went as the source had coded them."""


class Gauge:
    """Turns counters into the figures of one interval: call ``read`` about once a second."""

    def __init__(self, peer: str, media: IncomingMedia, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._media = media
        self._clock = clock
        self._then = clock()
        self._before: dict[tuple[str, str], float] = {}

    def read(self, transport: TransportStats) -> events.Stats:
        """The figures since the last reading. ``loss``: packets lost of those expected, both kinds together."""
        now = self._clock()
        elapsed, self._then = max(now - self._then, 1e-3), now
        video, audio = self._media.video, self._media.audio
        got = sum(self._since(kind, "received", count) for kind, count in transport.received.items())
        lost = sum(self._since(kind, "lost", count) for kind, count in transport.lost.items())
        return events.Stats(
            peer=self._peer,
            video=_figures(self._received(video, elapsed), self._sent(video.kind, transport, elapsed)),
            audio=_figures(self._received(audio, elapsed), self._sent(audio.kind, transport, elapsed)),
            rtt_ms=None if transport.rtt is None else round(transport.rtt * 1000, 1),
            loss=round(lost / (got + lost), 4) if got + lost else None,
        )

    def _received(self, track: IncomingTrack, elapsed: float) -> Received:
        counters, kind, video = track.counters, track.kind, track.kind == "video"
        frames = self._since(kind, "frames", counters.frames)
        decoded = self._since(kind, "decoded", counters.decoded)
        seconds = self._since(kind, "decode_seconds", counters.decode_seconds)
        dropped = {"network": counters.torn, "decoder": counters.overrun}
        if video:
            dropped["waiting-for-key-frame"] = counters.skipped
        width, height = track.size or (None, None)
        return Received(
            kbps=round(self._since(kind, "octets", counters.octets) * 8 / elapsed / 1000),
            fps=round(frames / elapsed, 1) if video else None,
            codec=track.codec,
            width=width,
            height=height,
            jitter_ms=None if track.codec is None else round(counters.jitter * 1000, 1),
            decode_ms=round(seconds / decoded * 1000, 2) if decoded and video else None,
            freezes=int(self._since(kind, "freezes", track.freezes.count)) if video else None,
            dropped={reason: int(self._since(kind, reason, count)) for reason, count in dropped.items()},
        )

    def _sent(self, kind: str, transport: TransportStats, elapsed: float) -> Sent:
        octets = self._since(kind, "octets_sent", transport.octets_sent.get(kind, 0))
        kbps = round(octets * 8 / elapsed / 1000)
        pictures = transport.pictures
        if kind == "audio" or pictures is None:
            return Sent(kbps)
        coded = self._since(kind, "coded", pictures.encoder.frames)
        seconds = self._since(kind, "coding", pictures.encoder.seconds)
        return Sent(
            kbps,
            sent_fps=round(self._since(kind, "sent", pictures.frames) / elapsed, 1),
            sent_codec=pictures.codec,
            sent_width=pictures.width,
            sent_height=pictures.height,
            encode_ms=round(seconds / coded * 1000, 2) if coded else None,
            encoder_dropped=int(self._since(kind, "encoder_dropped", pictures.encoder.dropped)),
            sent_skipped=int(self._since(kind, "skipped", pictures.skipped)),
            passthrough=pictures.passthrough,
        )

    def _since(self, kind: str, name: str, count: float) -> float:
        """How much a counter has grown; a new connection begins at zero."""
        before = self._before.get((kind, name), 0)
        self._before[kind, name] = count
        return max(count - before, 0)


def _figures(*parts: Any) -> dict[str, Any]:
    return {name: value for part in parts for name, value in asdict(part).items() if value is not None}
