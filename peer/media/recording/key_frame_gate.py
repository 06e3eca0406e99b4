"""What of a remote's frames is worth recording: after a loss no picture until a key frame. PURE."""

from __future__ import annotations

from ..frames import EncodedFrame


class Gate:
    """Pictures are made from the ones before: when some were lost, those behind are rubbish until a key frame."""

    def __init__(self) -> None:
        self._whole = True
        self._began = False  # before its first key frame a recording misses nothing
        self.dropped = 0
        """Frames that were left out, on the way to us or here."""

    @property
    def wants_key_frame(self) -> bool:
        """Whether no picture can pass but a key frame."""
        return not self._whole

    def lost(self, frames: int) -> None:
        """``frames`` were dropped between the last frame and the next one."""
        if frames:
            self.dropped += frames
            self._whole = False

    def passes(self, frame: EncodedFrame) -> bool:
        """Whether to record ``frame``, the next one that came."""
        if frame.kind != "video":
            return True
        self._whole = frame.key or (self._whole and not frame.gap)
        self._began = self._began or frame.key
        self.dropped += self._began and not self._whole
        return self._whole
