"""One input that all calls share: opened once, read while somebody reads.

A ``Source`` reads its input from its first reader on and for a moment after its last one: a call that is made again,
or moved to a new connection, does not switch a camera off and on. What cannot work is found out when the program
starts: ``open()`` checks a file, and takes the first frame of anything else, which then runs on for who comes next.
A file plays in real time from its first reader on, from the beginning each time; who comes later sees the rest.

What comes encoded from an input (H.264 of a file, a stream, a camera) can be read as it is, in ``encoded``; whether a
viewer can decode it, ``fitness`` knows. It is decoded only while somebody reads pictures or sound, or to prove it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import av

from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources.capture import Capture, Read
from peer.media.sources.demand import Demand
from peer.media.sources.handoff import Captured
from peer.media.sources.passthrough import Facts, Fitness
from peer.media.threads import in_thread

LINGER: Final = 2.0
"""Seconds that an input stays open without a reader."""

PACE: Final = 2.0
"""Seconds after a picture for which the next one is expected."""

_FIRST: Final = 15.0
"""Seconds for an input to give its first frame, when the program starts."""


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The input ``source`` is gone; it is tried again by itself. ``error`` says why."""

    source: str
    error: MediaError


@dataclass(frozen=True, slots=True)
class SourceBack:
    """The input ``source`` delivers again."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a Source reads: how, which kinds of media come of it, and what its silence means (see ``Capture``)."""

    name: str
    read: Read
    video: bool
    audio: bool
    check: Callable[[], Facts | None] | None = None
    """Raises if it cannot work; blocks. Without one the first frame is the proof."""
    demand: Demand = field(default_factory=Demand)
    """What ``read`` looks at; the Source sets it."""
    fitness: Fitness | None = None
    """For an input that may deliver H.264: watches it."""
    reopen: bool = True
    stall: float | None = None
    interrupt: Callable[[], None] | None = None


class Source:
    """One input and its fan-outs; ``video``, ``audio`` or ``encoded`` is ``None`` if it has no such thing."""

    def __init__(self, input: Input, *, linger: float = LINGER) -> None:
        self.name = input.name
        self.failures: Fanout[SourceLost | SourceBack] = Fanout()
        self.fitness = input.fitness
        feed = (self._wanted, self._unwanted)
        self.video: Fanout[av.VideoFrame] | None = (
            Fanout(self._pictures_wanted, self._unwanted) if input.video else None
        )
        self.audio: Fanout[av.AudioFrame] | None = Fanout(*feed) if input.audio else None
        self.encoded: Fanout[EncodedFrame] | None = Fanout(*feed) if input.fitness is not None else None
        self._input = input
        self._linger = linger
        self._leaving: asyncio.TimerHandle | None = None
        self._first: asyncio.Future[MediaError | None] | None = None
        self._headless = True
        """Whether no key frame came yet of what was opened last."""
        self._picture_at: float | None = None
        """When the last picture came, of ``media_time()``; ``None`` since pictures were wanted again."""
        self._closed = False
        self._capture = Capture(
            input.name,
            input.read,
            self._deliver,
            self._report,
            reopen=input.reopen,
            stall=input.stall,
            interrupt=input.interrupt,
        )

    @property
    def dropped(self) -> int:
        """Frames that a busy event loop took too late."""
        return self._capture.dropped

    @property
    def decoded(self) -> int:
        """Pictures that were decoded for somebody."""
        return self._input.demand.decoded

    @property
    def picture_expected(self) -> bool:
        """Whether a picture is about to come: they began to be wanted, or one came lately, and nothing failed."""
        if self.video is None or not self.video.readers or not self._capture.healthy:
            return False
        return self._picture_at is None or media_time() - self._picture_at < PACE

    async def open(self) -> None:
        """Make sure that the input works.

        Raises:
            MediaError: it is missing, busy, unreadable, or gives nothing.
        """
        if self._input.check is not None:
            facts = await in_thread(self.name, self._input.check)
            if facts is not None:
                self._learn(facts)
            return
        self._first = asyncio.get_running_loop().create_future()
        self._set_demand()
        self._capture.start()
        try:
            error = await self._prove(self._first)
            if error is not None:
                raise error
        except BaseException:
            await self.close()
            raise
        finally:
            self._first = None
        self._unwanted()

    async def _prove(self, first: asyncio.Future[MediaError | None]) -> MediaError | None:
        try:
            async with asyncio.timeout(_FIRST):
                return await first
        except TimeoutError:
            return MediaError(self.name, f"gives nothing within {_FIRST:g} s", "does another program show it?")

    async def close(self) -> None:
        """End all readers, stop the thread and wait a little for it. May be called twice."""
        self._closed = True
        for fanout in (self.video, self.audio, self.encoded, self.failures):
            if fanout is not None:
                fanout.close()
        self._stay()
        await self._capture.close()

    def _pictures_wanted(self) -> None:
        self._picture_at = None
        self._wanted()

    def _wanted(self) -> None:
        self._stay()
        self._set_demand()
        if not self._closed:
            self._capture.start()

    def _unwanted(self) -> None:
        """Close the input in a while, unless somebody reads it, or comes to read it."""
        self._stay()
        self._set_demand()
        fanouts = (self.video, self.audio, self.encoded)
        if not self._closed and not any(fanout.readers for fanout in fanouts if fanout is not None):
            self._leaving = asyncio.get_running_loop().call_later(self._linger, self._capture.stop)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _set_demand(self) -> None:
        proving = self._first is not None
        self._input.demand.pictures = proving or (self.video is not None and self.video.readers > 0)
        self._input.demand.sound = proving or (self.audio is not None and self.audio.readers > 0)

    def _deliver(self, frame: Captured) -> None:
        match frame:
            case Facts():
                self._learn(frame)
                return
            case EncodedFrame():
                self._pass_on(frame)
                return
            case av.VideoFrame() if self.video is not None:
                self._picture_at = media_time()
                self.video.put(frame)
            case av.AudioFrame() if self.audio is not None:
                self.audio.put(frame)
        self._settle(None)

    def _learn(self, facts: Facts) -> None:
        self._headless = True
        if self.fitness is not None:
            self.fitness.learn(facts)

    def _pass_on(self, frame: EncodedFrame) -> None:
        if self.fitness is not None and self.encoded is not None:
            self.fitness.observe(frame)
            self._headless = self._headless and not frame.key
            if not self._headless:  # else it refers to pictures that nobody has
                self.encoded.put(frame)

    def _report(self, error: MediaError | None) -> None:
        self._settle(error)
        self.failures.put(SourceBack(self.name) if error is None else SourceLost(self.name, error))

    def _settle(self, error: MediaError | None) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_result(error)
