"""What all calls share of one source: its encodings, each created for its first viewer, and passthrough.

``SharedVideo`` and ``SharedAudio`` belong to the agent. Each call selects what it reads of them (``track.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import av

from ..fanout import Fanout, Reader
from ..frames import OutgoingFrame, media_time
from .audio_encoding import AudioEncoding
from .passthrough import Passthrough
from .quality_ladder import Rung, ladder
from .video_encoding import CARD_AFTER, VideoEncoding

DEFAULT_FPS: Final = 30.0
"""Frame rate for which bitrates are computed if the user has set none, in frames per second."""

T = TypeVar("T")


class WarmUp(Generic[T]):
    """A reader that keeps a source running while it is held: ``hold`` and ``release`` are called in pairs."""

    def __init__(self, frames: Fanout[T]) -> None:
        self._frames = frames
        self._holders = 0
        self._reader: Reader[T] | None = None

    def hold(self) -> None:
        """Start the source."""
        self._holders += 1
        if self._reader is None:
            self._reader = self._frames.read(1)

    def release(self) -> None:
        """End one ``hold``."""
        self._holders -= 1
        if self._holders == 0 and self._reader is not None:
            self._reader.close()
            self._reader = None

    def newest(self) -> T | None:
        """Take the newest frame that has come while the source was held, or ``None``."""
        return self._reader.get_nowait() if self._reader is not None else None


class VideoStream(Protocol):
    """What a viewer reads: a ``VideoEncoding`` or ``Passthrough``."""

    def read(self) -> Reader[OutgoingFrame]: ...

    def request_key_frame(self) -> None: ...


class SharedVideo:
    """The video of one source for all calls.

    ``size`` is the size of the card until the first frame, in pixels. ``max_bitrate`` is the maximum bitrate for a
    viewer, in bit/s. ``hardware`` allows hardware encoders. ``expected`` returns whether the source is about to
    deliver a frame.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        frames: Fanout[av.VideoFrame],
        *,
        size: tuple[int, int] = (640, 360),
        fps: float | None = None,
        max_bitrate: int | None = None,
        passthrough: Passthrough | None = None,
        hardware: bool = True,
        expected: Callable[[], bool] = lambda: False,
    ) -> None:
        self.passthrough = passthrough
        self._tasks = tasks
        self._frames = frames
        self._size = size
        self._fps = fps or DEFAULT_FPS
        self._max_bitrate = max_bitrate
        self._hardware = hardware
        self._expected = expected
        self._encodings: dict[tuple[str, int, int], VideoEncoding] = {}
        self._warm_up = WarmUp(frames)
        self._ladders: dict[tuple[int, int], tuple[Rung, ...]] = {}

    def hold(self) -> None:
        """Start the source, so that a camera warms up during negotiation. Each call is paired with a ``release``."""
        (self.passthrough or self._warm_up).hold()

    def release(self) -> None:
        """End one ``hold``."""
        (self.passthrough or self._warm_up).release()

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The quality ladder for the newest frame's size."""
        return self._ladder(*self._size)

    def stream(self, codec: str, profile_level_id: str | None, rung: int, packetization_mode: int = 1) -> VideoStream:
        """Return what a viewer on ``rung`` reads: passthrough if it can, otherwise an encoding."""
        if rung == 0 and codec == "h264" and self.passthrough is not None and profile_level_id is not None:
            refusal = self.passthrough.refusal(profile_level_id, packetization_mode)
            self.passthrough.log_decision(profile_level_id, packetization_mode, refusal)
            if refusal is None:
                return self.passthrough
        elif codec != "h264" and self.passthrough is not None:
            self.passthrough.log_other_codec(codec)
        return self.encoding(codec, rung, packetization_mode)

    def encoding(self, codec: str, rung: int, packetization_mode: int = 1) -> VideoEncoding:
        """Return the shared encoding of ``codec`` and ``rung``, in H.264's ``packetization_mode``."""
        key = (codec, rung, packetization_mode)
        if key not in self._encodings:
            self._encodings[key] = VideoEncoding(
                self._tasks,
                self._frames,
                codec,
                self._rung_function(rung),
                size=self._size,
                newest=self._newest,
                expected=self._expected,
                hardware=self._hardware,
                packetization_mode=packetization_mode,
            )
        return self._encodings[key]

    def _rung_function(self, index: int) -> Callable[[int, int], Rung]:
        def rung_for_size(width: int, height: int) -> Rung:
            self._size = (width, height)
            rungs = self._ladder(width, height)
            return rungs[min(index, len(rungs) - 1)]

        return rung_for_size

    def _ladder(self, width: int, height: int) -> tuple[Rung, ...]:
        if (width, height) not in self._ladders:
            self._ladders = {(width, height): ladder(width, height, self._fps, self._max_bitrate)}
        return self._ladders[width, height]

    def _newest(self) -> av.VideoFrame | None:
        """Return the newest frame from the warm-up, unless it is so old that the card has to be shown."""
        newest = self._warm_up.newest()
        is_old = newest is not None and newest.time is not None and media_time() - newest.time > CARD_AFTER
        return None if is_old else newest


class SharedAudio:
    """The audio of one source for all calls."""

    def __init__(self, tasks: asyncio.TaskGroup, frames: Fanout[av.AudioFrame]) -> None:
        self._tasks = tasks
        self._frames = frames
        self._encodings: dict[str, AudioEncoding] = {}
        self._warm_up = WarmUp(frames)

    def hold(self) -> None:
        """Start the source. Each call is paired with a ``release``."""
        self._warm_up.hold()

    def release(self) -> None:
        """End one ``hold``."""
        self._warm_up.release()

    def encoding(self, codec: str) -> AudioEncoding:
        """Return the shared encoding of ``codec``."""
        if codec not in self._encodings:
            self._encodings[codec] = AudioEncoding(self._tasks, self._frames, codec)
        return self._encodings[codec]
