"""Scaling and encoding of one source at one rung, with a new encoder for each new size or frame rate."""

from __future__ import annotations

from collections.abc import Callable

import av
from av.video.reformatter import VideoReformatter

from .. import picture
from ..frame_rate_limiter import FrameRateLimiter
from ..frames import VIDEO_TIME_BASE
from .encoder import EncodedPacket, VideoEncoder
from .frame_rate import FrameRateEstimator
from .quality_ladder import Rung


class ScalingEncoder:
    """Encoder of frames of any size. ``rung_for_size`` returns the rung for a source's width and height.

    ``hardware`` and ``max_slice_size`` are those of ``VideoEncoder``.

    ``frame_rate`` outlives this object: after a failure, the next one continues with it.
    """

    def __init__(
        self,
        codec: str,
        rung_for_size: Callable[[int, int], Rung],
        *,
        hardware: bool,
        frame_rate: FrameRateEstimator,
        max_slice_size: int | None = None,
    ) -> None:
        self._codec = codec
        self._rung_for_size = rung_for_size
        self._hardware = hardware
        self._frame_rate = frame_rate
        self._max_slice_size = max_slice_size
        self._reformatter = VideoReformatter()
        self._encoder: VideoEncoder | None = None
        self._rung: Rung | None = None
        self._fps = 0.0
        self._limiter: tuple[float, FrameRateLimiter] | None = None

    def accepts(self, frame: av.VideoFrame) -> bool:
        """Whether to encode ``frame``. False: drop it to limit the frame rate. Called in the event loop."""
        rung = self._rung_for_size(frame.width, frame.height)
        if not rung.limits_frame_rate or frame.time is None:
            return True
        if self._limiter is None or self._limiter[0] != rung.fps:
            self._limiter = rung.fps, FrameRateLimiter(rung.fps)
        return self._limiter[1].accepts(frame.time)

    def encode(self, frame: av.VideoFrame, pts: int, key: bool) -> tuple[list[EncodedPacket], tuple[int, int]]:
        """Encode ``frame``, which is shared and not modified. Return the packets and their frame size.

        Called in the encoder's thread.

        Raises:
            av.FFmpegError: the encoder failed. This object is not usable any more.
        """
        rung = self._rung_for_size(frame.width, frame.height)
        size = (rung.width, rung.height)
        is_h264 = self._codec == "h264"
        fps = self._frame_rate.add_frame(float(pts * VIDEO_TIME_BASE), rung.fps) if is_h264 else rung.fps
        if self._encoder is None or (rung, fps) != (self._rung, self._fps):
            self._encoder = VideoEncoder(
                self._codec,
                *size,
                fps,
                rung.bitrate,
                hardware=self._hardware,
                max_slice_size=self._max_slice_size,
            )
            self._rung, self._fps = rung, fps
        if (frame.width, frame.height) != size:
            frame = self._reformatter.reformat(frame, *size, "yuv420p", threads=1)
            frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        elif frame.pts != pts:
            frame = picture.copy(frame, pts)
        return self._encoder.encode(frame, key=key), size
