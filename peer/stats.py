"""Statistics of one call, once per second: the content of the ``stats`` event (docs/interface.md).

The counters of tracks and transport grow throughout the call. This module turns them into rates, mean times and
fractions of one interval. There is one dataclass per direction; unknown values are omitted from the event.
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
class InboundStats:
    """Media of one kind received in an interval (compare the W3C's RTCInboundRtpStreamStats)."""

    kbps: int
    fps: float | None = None
    """Complete video frames per second, decoded or not."""
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    jitter_ms: float | None = None
    """Interarrival jitter at the end of the interval (RFC 3550 6.4.1)."""
    decode_ms: float | None = None
    """Mean decoding time of a video frame; ``None`` if none was decoded."""
    freezes: int | None = None
    """Number of freezes while the video had readers (the W3C's ``freezeCount``)."""
    dropped: Mapping[str, int] | None = None
    """Frames that were neither shown nor played, by reason."""


@dataclass(frozen=True, slots=True)
class OutboundStats:
    """Media of one kind sent in an interval. All fields but the first are for video only."""

    sent_kbps: int
    sent_fps: float | None = None
    sent_codec: str | None = None
    sent_width: int | None = None
    sent_height: int | None = None
    encode_ms: float | None = None
    """Mean encoding time of a video frame, shared by all its receivers; ``None`` if none was encoded."""
    encoder_dropped: int | None = None
    """Frames of the source that were dropped because the encoder was too slow."""
    sent_skipped: int | None = None
    """Encoded frames that were not sent to this peer: it was too slow, or was waiting for a key frame."""
    passthrough: bool | None = None
    """Whether the source's own encoding was sent."""


class StatsSampler:
    """The statistics of one call, per interval. ``sample`` is called about once per second."""

    def __init__(self, peer: str, media: IncomingMedia, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._media = media
        self._clock = clock
        self._sampled_at = clock()
        self._previous: dict[tuple[str, str], float] = {}

    def sample(self, transport: TransportStats) -> events.Stats:
        """Return the statistics since the previous sample.

        ``loss`` is the fraction of the expected packets, of video and audio together, that were lost.
        """
        now = self._clock()
        elapsed, self._sampled_at = max(now - self._sampled_at, 1e-3), now
        video, audio = self._media.video, self._media.audio
        received = sum(self._increase(kind, "received", count) for kind, count in transport.packets_received.items())
        lost = sum(self._increase(kind, "lost", count) for kind, count in transport.packets_lost.items())
        return events.Stats(
            peer=self._peer,
            video=_merge(self._inbound(video, elapsed), self._outbound(video.kind, transport, elapsed)),
            audio=_merge(self._inbound(audio, elapsed), self._outbound(audio.kind, transport, elapsed)),
            rtt_ms=None if transport.rtt is None else round(transport.rtt * 1000, 1),
            loss=round(lost / (received + lost), 4) if received + lost else None,
        )

    def _inbound(self, track: IncomingTrack, elapsed: float) -> InboundStats:
        counters, kind, is_video = track.counters, track.kind, track.kind == "video"
        frames = self._increase(kind, "frames", counters.frames)
        decoded = self._increase(kind, "decoded", counters.decoded)
        seconds = self._increase(kind, "decode_seconds", counters.decode_seconds)
        dropped = {"network": counters.lost, "decoder": counters.decoder_dropped}
        if is_video:
            dropped["waiting-for-key-frame"] = counters.skipped
        width, height = track.size or (None, None)
        return InboundStats(
            kbps=round(self._increase(kind, "bytes", counters.byte_count) * 8 / elapsed / 1000),
            fps=round(frames / elapsed, 1) if is_video else None,
            codec=track.codec,
            width=width,
            height=height,
            jitter_ms=None if track.codec is None else round(counters.jitter * 1000, 1),
            decode_ms=round(seconds / decoded * 1000, 2) if decoded and is_video else None,
            freezes=int(self._increase(kind, "freezes", track.freezes.count)) if is_video else None,
            dropped={reason: int(self._increase(kind, reason, count)) for reason, count in dropped.items()},
        )

    def _outbound(self, kind: str, transport: TransportStats, elapsed: float) -> OutboundStats:
        sent = self._increase(kind, "bytes_sent", transport.bytes_sent.get(kind, 0))
        kbps = round(sent * 8 / elapsed / 1000)
        video = transport.video
        if kind == "audio" or video is None:
            return OutboundStats(kbps)
        encoded = self._increase(kind, "encoded", video.encoder.frames)
        seconds = self._increase(kind, "encode_seconds", video.encoder.seconds)
        return OutboundStats(
            kbps,
            sent_fps=round(self._increase(kind, "sent", video.frames) / elapsed, 1),
            sent_codec=video.codec,
            sent_width=video.width,
            sent_height=video.height,
            encode_ms=round(seconds / encoded * 1000, 2) if encoded else None,
            encoder_dropped=int(self._increase(kind, "encoder_dropped", video.encoder.dropped)),
            sent_skipped=int(self._increase(kind, "skipped", video.skipped)),
            passthrough=video.passthrough,
        )

    def _increase(self, kind: str, name: str, count: float) -> float:
        """Return the increase of a counter since the previous sample. A new connection starts again at zero."""
        previous = self._previous.get((kind, name), 0)
        self._previous[kind, name] = count
        return max(count - previous, 0)


def _merge(*parts: Any) -> dict[str, Any]:
    return {name: value for part in parts for name, value in asdict(part).items() if value is not None}
