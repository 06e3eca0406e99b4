"""What all calls share of one source: its codings, each made when somebody first reads it.

``SharedVideo`` and ``SharedAudio`` belong to the agent. Which coding a call reads is its own business (``outgoing``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import av

from ..fanout import Fanout, Reader
from ..frames import OutgoingFrame, media_time
from .audio_encoding import AudioEncoding
from .passthrough import PassthroughRelay
from .quality_ladder import Rung, ladder
from .video_encoding import HOLD, VideoEncoding

FPS: Final = 30.0
"""Pictures a second that bitrates are reckoned with when nobody said another figure."""


class Coding(Protocol):
    """An encoding, or the relay that stands in for one."""

    def read(self) -> Reader[OutgoingFrame]: ...

    def request_key_frame(self) -> None: ...


class SharedVideo:
    """One source's pictures for all calls. ``size`` in pixels is that of the card until a picture came.

    ``max_bitrate``: bit/s that a viewer gets at most. ``hardware``: whether the machine's own encoders may be used.
    ``expected``: whether a picture is about to come.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        pictures: Fanout[av.VideoFrame],
        *,
        size: tuple[int, int] = (640, 360),
        fps: float | None = None,
        max_bitrate: int | None = None,
        relay: PassthroughRelay | None = None,
        hardware: bool = True,
        expected: Callable[[], bool] = lambda: False,
    ) -> None:
        self.relay = relay
        self._tasks = tasks
        self._pictures = pictures
        self._size = size
        self._fps = fps or FPS
        self._max_bitrate = max_bitrate
        self._hardware = hardware
        self._expected = expected
        self._encodings: dict[tuple[str, int], VideoEncoding] = {}
        self._warm: Reader[av.VideoFrame] | None = None
        self._holders = 0
        self._ladders: dict[tuple[int, int], tuple[Rung, ...]] = {}

    def hold(self) -> None:
        """Start the source before anything is asked for, so that a camera warms up while it rings."""
        self._holders += 1
        if self.relay is not None:
            self.relay.hold()
        elif self._warm is None:
            self._warm = self._pictures.read(1)

    def release(self) -> None:
        """What ``hold`` began is not needed any more."""
        self._holders -= 1
        if self.relay is not None:
            self.relay.release()
        elif self._holders == 0 and self._warm is not None:
            self._warm.close()
            self._warm = None

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Those of the newest picture."""
        return self._ladder(*self._size)

    def coding(self, codec: str, profile_level_id: str | None, rung: int) -> Coding:
        """What a viewer on ``rung`` reads."""
        if rung == 0 and codec == "h264" and self.relay is not None and profile_level_id is not None:
            why = self.relay.refusal(profile_level_id)
            self.relay.tell(profile_level_id, why)
            if why is None:
                return self.relay
        elif codec != "h264" and self.relay is not None:
            self.relay.tell_other(codec)
        return self.encoding(codec, rung)

    def encoding(self, codec: str, rung: int) -> VideoEncoding:
        """The one encoding of ``codec`` and ``rung``."""
        if (codec, rung) not in self._encodings:
            self._encodings[codec, rung] = VideoEncoding(
                self._tasks,
                self._pictures,
                codec,
                self._choose(rung),
                size=self._size,
                newest=self._newest,
                expected=self._expected,
                hardware=self._hardware,
            )
        return self._encodings[codec, rung]

    def _choose(self, rung: int) -> Callable[[int, int], Rung]:
        def choose(width: int, height: int) -> Rung:
            self._size = (width, height)
            rungs = self._ladder(width, height)
            return rungs[min(rung, len(rungs) - 1)]

        return choose

    def _ladder(self, width: int, height: int) -> tuple[Rung, ...]:
        if (width, height) not in self._ladders:
            self._ladders = {(width, height): ladder(width, height, self._fps, self._max_bitrate)}
        return self._ladders[width, height]

    def _newest(self) -> av.VideoFrame | None:
        """What came while it rang, unless the source has been silent since for so long that it gets a card."""
        newest = self._warm.get_nowait() if self._warm is not None else None
        old = newest is not None and newest.time is not None and media_time() - newest.time > HOLD
        return None if old else newest


class SharedAudio:
    """One source's sound for all calls."""

    def __init__(self, tasks: asyncio.TaskGroup, sound: Fanout[av.AudioFrame]) -> None:
        self._tasks = tasks
        self._sound = sound
        self._encodings: dict[str, AudioEncoding] = {}
        self._holders = 0
        self._warm: Reader[av.AudioFrame] | None = None

    def hold(self) -> None:
        """As for pictures."""
        self._holders += 1
        if self._warm is None:
            self._warm = self._sound.read(1)

    def release(self) -> None:
        self._holders -= 1
        if self._holders == 0 and self._warm is not None:
            self._warm.close()
            self._warm = None

    def encoding(self, codec: str) -> AudioEncoding:
        """The one encoding of ``codec``."""
        if codec not in self._encodings:
            self._encodings[codec] = AudioEncoding(self._tasks, self._sound, codec)
        return self._encodings[codec]
