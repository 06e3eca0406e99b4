"""The local media of this program: what ``--video`` and ``--audio`` name, opened once and shared by all calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import av

from peer.errors import MediaError
from peer.media.failure import NoSound
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame
from peer.media.sources import camera, devices, files, microphone, rtsp, screen, synthetic, v4l2
from peer.media.sources.constraints import Wish
from peer.media.sources.demand import Demand
from peer.media.sources.passthrough import Fitness
from peer.media.sources.source import Input, Source, SourceBack, SourceLost
from peer.media.sources.spec import AudioSpec, VideoSpec
from peer.media.threads import in_thread

__all__ = ["LocalMedia", "Source", "SourceBack", "SourceLost", "open_sources"]


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What we send. A missing fan-out is a kind of media that we only receive; ``notices`` says so, a line each.

    ``encoded`` is the picture once more, where it may come as H.264; ``fitness`` tells to whom that can be sent.
    """

    video: Fanout[av.VideoFrame] | None
    audio: Fanout[av.AudioFrame] | None
    notices: tuple[str, ...]
    sources: tuple[Source, ...] = field(default=())
    encoded: Fanout[EncodedFrame] | None = None
    fitness: Fitness | None = None

    def picture_expected(self) -> bool:
        """Whether the source of pictures is about to give one."""
        return any(source.picture_expected for source in self.sources)

    async def close(self) -> None:
        """End all readers, close the inputs and join their threads; one that is stuck is abandoned."""
        await asyncio.gather(*(source.close() for source in self.sources))


async def open_sources(
    video: VideoSpec, audio: AudioSpec, *, size: tuple[int, int] | None = None, fps: float | None = None
) -> LocalMedia:
    """Open what the two name. One file, stream or test source for both is opened once, so that they are in sync.

    ``auto`` is the first device that works; ``same`` the sound of the file, stream or test source that the picture
    comes from, if there is any in it, and else ``auto``. ``size`` bounds the pictures, their shape kept, and ``fps``
    their rate.

    Raises:
        MediaError: something that was named is missing, busy or unreadable.
    """
    any_sound = audio.kind == "same"
    if any_sound:
        brings = video.kind in _BOTH
        audio = AudioSpec(video.kind, video.target, video.loop) if brings else AudioSpec("auto")
    opened: list[Source] = []
    notices: list[str] = []
    wish = Wish(video=True, audio=_same(video, audio), size=size, fps=fps)
    pictures = _open(video, wish, partial(_cameras, wish), opened, notices, any_sound=any_sound)
    if wish.audio:
        sound = _none()
    else:
        sound = _open(audio, Wish(video=False, audio=True), _microphones, opened, notices)
    try:
        outcomes = await asyncio.gather(pictures, sound, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    except BaseException:
        await asyncio.gather(*(source.close() for source in opened))
        raise
    seen = next((source for source in opened if source.video is not None), None)
    return LocalMedia(
        seen.video if seen is not None else None,
        next((source.audio for source in opened if source.audio is not None), None),
        tuple(sorted(notices)),
        tuple(opened),
        seen.encoded if seen is not None else None,
        seen.fitness if seen is not None else None,
    )


_BOTH: Final = ("test", "file", "rtsp")
"""What pictures and sound can both come from."""


def _same(video: VideoSpec, audio: AudioSpec) -> bool:
    shared = video.kind == audio.kind and video.kind in _BOTH
    return shared and video.target == audio.target and video.loop == audio.loop


def _named(spec: VideoSpec | AudioSpec, wish: Wish) -> Input:
    """The input that ``spec`` names."""
    make = partial(Input, video=wish.video, audio=wish.audio)
    match spec.kind:
        case "test":
            return make(name="test", read=partial(synthetic.read, wish), reopen=False, check=_nothing)
        case "screen":
            return make(name="screen", read=partial(screen.read, spec.target, wish), stall=5.0)
        case "rtsp":
            demand = Demand()
            read = partial(rtsp.read, spec.target, wish, demand)
            return make(name=rtsp.name(spec.target), read=read, stall=10.0, demand=demand, fitness=_fitness(wish))
        case "file":
            demand = Demand()
            play = partial(files.play, spec.target, wish, loop=spec.loop, demand=demand)
            check = partial(files.check, spec.target, wish)
            return make(name=spec.target, read=play, reopen=False, check=check, demand=demand, fitness=_fitness(wish))
        case "device" if isinstance(spec, VideoSpec):
            return _camera(spec.target, replace(wish, h264=spec.h264))
        case "device":
            return _microphone(spec.target)
    raise AssertionError(f"{spec.kind} names no input")


def _nothing() -> None:
    """The test source needs no check."""


def _fitness(wish: Wish) -> Fitness | None:
    return Fitness(wish.size, wish.fps) if wish.video else None


def _camera(path: str, wish: Wish) -> Input:
    demand = Demand()
    return Input(
        name=path,
        read=partial(camera.read, path, wish, demand),
        video=True,
        audio=False,
        stall=camera.STALL,
        interrupt=partial(v4l2.interrupt, path),
        demand=demand,
        fitness=_fitness(wish),
    )


def _microphone(name: str) -> Input:
    return Input(name=name, read=partial(microphone.read, name), video=False, audio=True, stall=microphone.STALL)


def _cameras(wish: Wish) -> list[Input]:
    return [_camera(found.device, wish) for found in devices.list_cameras()]


def _microphones() -> list[Input]:
    return [_microphone(found.device) for found in devices.list_microphones()]


async def _none() -> None:
    """Nothing to open."""


async def _open(
    spec: VideoSpec | AudioSpec,
    wish: Wish,
    devices: Callable[[], list[Input]],
    opened: list[Source],
    notices: list[str],
    *,
    any_sound: bool = False,
) -> None:
    """Open what ``spec`` names into ``opened``, or, for ``auto``, the first of ``devices`` that works.

    ``any_sound``: that it has none is a notice, and no error.
    """
    if spec.kind == "auto":
        await _first(devices, "camera" if wish.video else "microphone", opened, notices)
    elif spec.kind != "none":
        source = Source(_named(spec, wish))
        opened.append(source)
        try:
            await source.open()
        except NoSound as problem:
            if not any_sound:
                raise
            opened.remove(source)
            notices.append(f"{problem.what}: {problem.why}: only the picture is sent")
            await source.close()
            await _open(spec, replace(wish, audio=False), devices, opened, notices)


async def _first(devices: Callable[[], list[Input]], what: str, opened: list[Source], notices: list[str]) -> None:
    """The first device that works, or a notice: without one the peer only receives."""
    problems = []
    for input in await in_thread(f"list {what}s", devices):
        source = Source(input)
        try:
            await source.open()
        except MediaError as problem:
            problems.append(str(problem))
            continue
        opened.append(source)
        return
    reason = f"no {what} works ({'; '.join(problems)})" if problems else f"no {what} found"
    notices.append(f"{reason}: receiving only")
