"""State of one received RTP stream (SSRC): statistics, NACKs, frame assembly and reordering."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..rtp.frame_assembler import FrameAssembler
from ..rtp.nack import NackGenerator
from ..rtp.reorder_buffer import ReorderBuffer
from ..rtp.statistics import StreamStatistics


@dataclass(frozen=True, slots=True)
class Codec:
    """The meaning of a negotiated payload type."""

    name: str
    """FFmpeg's name."""
    clock_rate: int
    retransmits: int | None
    """With RTX, the payload type that it retransmits (RFC 4588). ``None`` for media."""


class ReceiveStream:
    """One SSRC. Frames are assembled only while the stream is consumed."""

    def __init__(self, ssrc: int, codec: Codec) -> None:
        self.ssrc = ssrc
        self.codec = codec
        self.statistics = StreamStatistics(codec.clock_rate)
        self.last_packet_at = 0.0
        self.consumed = False
        self.skipped_timestamp: int | None = None
        """The timestamp of the last packet that arrived while the stream was not consumed."""
        self.timer: asyncio.TimerHandle | None = None
        self._reset()

    def start_consuming(self) -> None:
        """Start assembling frames, with the next packet as the first one."""
        self._reset()
        self.consumed, self.skipped_timestamp = True, None

    def stop_consuming(self) -> None:
        """Stop assembling frames and requesting missing packets."""
        self._reset()
        self.consumed = False

    def cancel_timer(self) -> None:
        """Cancel the next check for missing packets."""
        if self.timer is not None:
            self.timer.cancel()

    def _reset(self) -> None:
        self.nacks, self.assembler, self.reorder_buffer = NackGenerator(), FrameAssembler(), ReorderBuffer()
