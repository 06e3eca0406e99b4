"""The key frame gate: drops video from a recording after a loss, until the next key frame. Pure."""

from __future__ import annotations

from ..frames import EncodedFrame


class KeyFrameGate:
    """A filter for video frames that cannot be decoded because a frame that they refer to was lost."""

    def __init__(self) -> None:
        self._decodable = True
        self._started = False
        """Whether a key frame has passed. Frames before the first one do not count as dropped."""
        self.dropped = 0
        """Frames missing from the recording: those reported by ``report_loss`` and those dropped here."""

    @property
    def needs_key_frame(self) -> bool:
        """Whether video is dropped until a key frame."""
        return not self._decodable

    def report_loss(self, count: int) -> None:
        """Record that ``count`` frames were lost in front of the next one."""
        if count:
            self.dropped += count
            self._decodable = False

    def accepts(self, frame: EncodedFrame) -> bool:
        """Whether ``frame``, the next one in order, is recorded."""
        if frame.kind != "video":
            return True
        self._decodable = frame.key or (self._decodable and not frame.gap)
        self._started = self._started or frame.key
        self.dropped += self._started and not self._decodable
        return self._decodable
