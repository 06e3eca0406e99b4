"""The audio that one call sends."""

from __future__ import annotations

from typing import Final

from ..fanout import Reader
from ..frames import OutgoingFrame
from .shared import SharedAudio


class OutgoingAudio:
    """The audio that one call sends: the shared encoding of the negotiated codec.

    It may be opened and started again after ``stop``. It has the methods of ``OutgoingVideo``. The feedback of the
    viewer has no effect, because audio has one bitrate.
    """

    kind: Final = "audio"

    def __init__(self, shared: SharedAudio) -> None:
        self._shared = shared
        self._held = False
        self._reader: Reader[OutgoingFrame] | None = None

    def open(self) -> None:
        """Start the source. May be called twice."""
        if not self._held:
            self._held = True
            self._shared.hold()

    def start(
        self,
        codec: str,
        profile_level_id: str | None = None,
        packetization_mode: int = 1,
        *,
        can_probe: bool = False,
    ) -> None:
        """Start encoding with the negotiated codec (FFmpeg's name). The other parameters are of video only.

        May be called again, after ``stop`` or instead of it.
        """
        if self._reader is not None:
            self._reader.close()
        self._reader = self._shared.encoding(codec).read()

    async def get(self) -> OutgoingFrame:
        """Wait for the next packet.

        Raises:
            StopAsyncIteration: the track is stopped or not started.
        """
        while True:
            if (reader := self._reader) is None:
                raise StopAsyncIteration
            try:
                frame = await reader.get()
            except StopAsyncIteration:
                if reader is self._reader:
                    raise
                continue  # started again
            if reader is self._reader:
                return frame

    def stop(self) -> None:
        """Release the source. May be called twice, and without ``start``."""
        if self._reader is not None:
            self._reader.close()
        if self._held:
            self._held = False
            self._shared.release()

    def request_key_frame(self) -> None:
        """Do nothing: audio has no key frames."""

    def set_estimate(self, bitrate: int) -> None:
        """Do nothing."""

    def add_report(self, loss: float, rtt: float | None) -> None:
        """Do nothing."""

    def allow_retransmission(self, sequence_number: int) -> bool:
        """Return true: audio is small."""
        return True

    def probe_bitrate(self) -> int:
        """Return 0: audio is not probed with."""
        return 0
