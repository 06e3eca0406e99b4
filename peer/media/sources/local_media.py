"""The local media: what ``--video`` and ``--audio`` name, opened once and shared by all calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import av

from peer.errors import MediaError
from peer.media.failure import NoAudio
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame
from peer.media.sources import camera, command, devices, files, microphone, rtsp, screen, synthetic, v4l2
from peer.media.sources.camera_locator import CameraLocator
from peer.media.sources.camera_nodes import list_nodes
from peer.media.sources.capture import Read
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.passthrough import PassthroughCheck
from peer.media.sources.source import Input, Source, SourceBack, SourceLost
from peer.media.sources.spec import AudioSpec, VideoSpec
from peer.media.sources.v4l2_controls import CameraControls
from peer.media.threads import in_thread

__all__ = ["LocalMedia", "Source", "SourceBack", "SourceLost", "open_sources"]


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """The media that we send. ``video`` or ``audio`` is ``None`` if that kind is only received.

    ``notices`` holds one line for each kind that could not be opened. ``encoded`` is the video once more, if its
    source may deliver H.264; ``passthrough`` then checks which viewers can be sent it.
    """

    video: Fanout[av.VideoFrame] | None
    audio: Fanout[av.AudioFrame] | None
    notices: tuple[str, ...]
    sources: tuple[Source, ...] = field(default=())
    encoded: Fanout[EncodedFrame] | None = None
    passthrough: PassthroughCheck | None = None

    def frame_expected(self) -> bool:
        """Whether the video source is expected to deliver a frame soon."""
        return any(source.frame_expected for source in self.sources)

    def devices_changed(self) -> None:
        """Check all sources, because a device was plugged in or unplugged."""
        for source in self.sources:
            source.devices_changed()

    async def close(self) -> None:
        """End all readers, close the inputs and join their threads. A thread that is stuck is abandoned."""
        await asyncio.gather(*(source.close() for source in self.sources))


async def open_sources(
    video: VideoSpec,
    audio: AudioSpec,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    controls: Sequence[tuple[str, str]] = (),
    unattended: bool = False,
) -> LocalMedia:
    """Open the sources that ``video`` and ``audio`` name.

    A file, stream or test source named by both is opened once, so that they are in sync. ``auto`` is the first device
    that works. ``same`` is the audio of the video's file, stream or test source, if it has any; for other kinds of
    video it is ``auto``. ``size`` is the maximum frame size in pixels, at the same aspect ratio; ``fps`` the maximum
    frame rate. ``controls`` are names and values of controls that are set whenever a camera is opened.

    With ``unattended``, a device or stream that does not work, or ``auto`` without a device, is no reason to wait or
    to fail: its source is ``lost``, and delivers as soon as it works. Files are still checked.

    Raises:
        MediaError: a source that was named is missing, busy or unreadable.
    """
    audio_optional = audio.kind == "same"
    if audio_optional:
        shared = video.kind in _WITH_BOTH
        audio = AudioSpec(video.kind, video.target, video.loop) if shared else AudioSpec("auto")
    opened: list[Source] = []
    notices: list[str] = []
    wanted = CameraControls(controls)
    constraints = Constraints(video=True, audio=_is_shared(video, audio), size=size, fps=fps, controls=wanted)
    open_one = _start if unattended else _open
    opening_video = open_one(video, constraints, opened, notices, audio_optional=audio_optional)
    if constraints.audio:
        opening_audio = _nothing_to_open()
    else:
        opening_audio = open_one(audio, Constraints(video=False, audio=True), opened, notices)
    try:
        outcomes = await asyncio.gather(opening_video, opening_audio, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    except BaseException:
        await asyncio.gather(*(source.close() for source in opened))
        raise
    with_video = next((source for source in opened if source.video is not None), None)
    return LocalMedia(
        with_video.video if with_video is not None else None,
        next((source.audio for source in opened if source.audio is not None), None),
        tuple(sorted(notices)),
        tuple(opened),
        with_video.encoded if with_video is not None else None,
        with_video.passthrough if with_video is not None else None,
    )


_WITH_BOTH: Final = ("test", "file", "rtsp")
"""Kinds of source that usually deliver both video and audio. A program (``exec``) can, but most are cameras."""


def _is_shared(video: VideoSpec, audio: AudioSpec) -> bool:
    same_kind = video.kind == audio.kind and video.kind in (*_WITH_BOTH, "exec")
    return same_kind and video.target == audio.target and video.loop == audio.loop


def _input(spec: VideoSpec | AudioSpec, constraints: Constraints) -> Input:
    """Return the input that ``spec`` names."""
    make = partial(Input, video=constraints.video, audio=constraints.audio)
    target, flags, check = spec.target, DecodeFlags(), _passthrough_check(constraints)
    match spec.kind:
        case "test":
            return make(name="test", read=partial(synthetic.read, constraints), reopen=False, check=_always_works)
        case "screen":
            return make(name="screen", read=partial(screen.read, target, constraints), stall=5.0)
        case "rtsp":
            read = partial(rtsp.read, target, constraints, flags)
            return make(name=rtsp.name(target), read=read, stall=rtsp.STALL, flags=flags, passthrough=check)
        case "exec":
            read = partial(command.read, target, constraints, flags)
            return make(name=command.name(target), read=read, stall=command.STALL, flags=flags, passthrough=check)
        case "file":
            return make(
                name=target,
                read=partial(files.play, target, constraints, loop=spec.loop, hold=True, flags=flags),
                reopen=spec.loop,
                check=partial(files.check, target, constraints),
                flags=flags,
                passthrough=check,
            )
        case "device" | "auto" if isinstance(spec, VideoSpec):
            return _camera(CameraLocator(target, list_nodes), target, replace(constraints, h264=spec.h264))
        case "auto":
            any_microphone = microphone.AnyMicrophone()
            return _microphone("microphone", any_microphone.read, any_microphone.present)
        case "device":
            return _named_microphone(target)
    raise AssertionError(f"{spec.kind} names no input")


def _always_works() -> None:
    """Do nothing: the test source needs no check."""


def _passthrough_check(constraints: Constraints) -> PassthroughCheck | None:
    return PassthroughCheck(constraints.size, constraints.fps) if constraints.video else None


def _camera(locator: CameraLocator, name: str, constraints: Constraints) -> Input:
    flags = DecodeFlags()
    return Input(
        name=name or "camera",
        read=partial(camera.read_located, locator, constraints, flags),
        video=True,
        audio=False,
        stall=camera.STALL,
        interrupt=lambda: v4l2.interrupt(locator.current),
        present=locator.present,
        flags=flags,
        passthrough=_passthrough_check(constraints),
    )


def _named_microphone(name: str) -> Input:
    return _microphone(name, partial(microphone.read, name), partial(microphone.present, name))


def _microphone(name: str, read: Read, present: Callable[[], bool]) -> Input:
    return Input(name=name, read=read, video=False, audio=True, stall=microphone.STALL, present=present)


def _inputs(kind: str, constraints: Constraints) -> list[Input]:
    """Return the inputs among which ``auto`` chooses."""
    if kind == "microphone":
        return [_named_microphone(found.device) for found in devices.list_microphones()]
    paths = [found.device for found in devices.list_cameras()]
    return [_camera(CameraLocator(path), path, constraints) for path in paths]


async def _nothing_to_open() -> None:
    """Do nothing: the audio comes from the source of the video."""


async def _open(
    spec: VideoSpec | AudioSpec,
    constraints: Constraints,
    opened: list[Source],
    notices: list[str],
    *,
    audio_optional: bool = False,
) -> None:
    """Append the source that ``spec`` names to ``opened``; for ``auto``, the first device that works.

    With ``audio_optional``, a source without audio yields a notice instead of an error.
    """
    if spec.kind == "auto":
        await _open_first("camera" if constraints.video else "microphone", constraints, opened, notices)
    elif spec.kind != "none":
        source = Source(_input(spec, constraints))
        opened.append(source)
        try:
            await source.open()
        except NoAudio as problem:
            if not audio_optional:
                raise
            opened.remove(source)
            notices.append(f"{problem.what}: {problem.why}: sending video only")
            await source.close()
            await _open(spec, replace(constraints, audio=False), opened, notices)


_START_TIMEOUT: Final = 2.0
"""Time for which a node waits for its sources before it joins, in seconds. Most cameras deliver within 1 s."""


async def _start(
    spec: VideoSpec | AudioSpec,
    constraints: Constraints,
    opened: list[Source],
    notices: list[str],
    *,
    audio_optional: bool = False,
) -> None:
    """Append the source that ``spec`` names to ``opened``, whether it works yet or not.

    With ``audio_optional``, a source that works, but without audio, yields a notice. Of one that does not work yet it
    is not known whether it has audio, so silence is sent until it delivers some.
    """
    if spec.kind == "none":
        return
    source = Source(_input(spec, constraints))
    opened.append(source)
    try:
        await source.start(_START_TIMEOUT)
    except NoAudio as problem:
        opened.remove(source)
        await source.close()
        if not audio_optional:
            raise
        notices.append(f"{problem.what}: {problem.why}: sending video only")
        await _start(spec, replace(constraints, audio=False), opened, notices)


_WITHOUT_DEVICE: Final = {
    "camera": "sending no video; --video test sends a test pattern",
    "microphone": "sending no audio; --audio test sends a tone",
}
"""Effect of a missing device, and an alternative. Same wording as ``peer devices``."""


async def _open_first(kind: str, constraints: Constraints, opened: list[Source], notices: list[str]) -> None:
    """Append the first device that works to ``opened``, or a notice: without one, the peer only receives."""
    problems = []
    for candidate in await in_thread(f"list {kind}s", partial(_inputs, kind, constraints)):
        source = Source(candidate)
        try:
            await source.open()
        except MediaError as problem:
            problems.append(str(problem))
            continue
        opened.append(source)
        return
    reason = f"no {kind} works ({'; '.join(problems)})" if problems else f"no {kind} found"
    notices.append(f"{reason}: {_WITHOUT_DEVICE[kind]}")
