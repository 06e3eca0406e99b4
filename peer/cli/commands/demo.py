"""``peer demo``: a relay, a node and a call in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ...options import MediaOptions, RelayOptions
from .. import exit_codes as exits
from ..command import Command, option
from ..options import media_options, output_options, sink_options
from ..param_types import duration_or_zero
from ..settings import Settings, is_default

if TYPE_CHECKING:
    from ...call import Call
    from ...events import Event
    from ..output import Output
    from .demo_check import MediaCheck

_NODE, _CALLER = "camera", "you"


@click.command("demo", cls=Command)
@option(
    "--duration",
    type=duration_or_zero,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="Duration of the call; 0: until Ctrl-C.",
)
@media_options(video="test", audio="test")
@sink_options(speaker="none")
@output_options
def command(**params: Any) -> int:
    """Run a relay, a node and a call here, without any hardware.

    Everything runs in one process, on this machine only. The exit code is 0 only if video and audio really arrived.
    Meanwhile, you can open the relay's page in a browser and call the node from there.

    \b
    peer demo
    peer demo --duration 0                until Ctrl-C
    peer demo --video clip.mp4            the node sends a video file, with its audio
    """
    from ..entry import run
    from ..output import Output

    settings = Settings.read(params, quieter=1)  # the output already says what happens
    out = Output(as_json=settings.as_json)
    media = _looped(settings.media, keep_audio=not is_default("audio"))
    if (media.video, media.audio) == ("none", "none"):
        raise click.UsageError("--video none and --audio none leave no media to send: drop one of them")
    return run(lambda: _demo(media, settings.duration or None, out), out)


def _looped(media: MediaOptions, *, keep_audio: bool) -> MediaOptions:
    """``media`` with a video file in a loop and with its own audio, if any; another source gets the test tone.

    ``keep_audio`` keeps the audio source, unless it is ``same``.
    """
    from ...media.sources.spec import parse_video

    spec = parse_video(media.video)
    video, audio = media.video, "test"
    if spec.kind == "file":
        video = f"{spec.target}?loop"
        audio = video if _has_audio(spec.target) else "none"
    if keep_audio and media.audio != "same":
        audio = media.audio
    return replace(media, video=video, audio=audio)


def _has_audio(path: str) -> bool:
    import av

    from ...errors import MediaError
    from ...media.sources.encoded import open_file

    try:
        with open_file(path) as container:
            return bool(container.streams.audio)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(path, getattr(error, "strerror", None) or str(error)) from None


async def _demo(media: MediaOptions, duration: float | None, out: Output) -> int:
    from server.relay import Relay, RelayConfig

    from ...agent import Agent
    from .demo_check import MediaCheck

    relay = Relay(RelayConfig(port=0))
    await relay.start()
    try:
        out.text(f"relay    {relay.url}")
        out.text(f'page     {relay.page}   open it in a browser to call "{_NODE}" from there')
        node = Agent.from_options(
            RelayOptions(_NODE, server=relay.url, join_timeout=5), replace(media, speaker="none", show=False)
        )
        caller = Agent(_CALLER, server=relay.url, speaker=media.speaker, show=media.show, join_timeout=5)
        out.text(f'node     "{_NODE}" sends {_describe(media.video, media.audio)}')
        check = MediaCheck(pattern=media.video == "test", tone=media.audio == "test", audio=media.audio != "none")
        async with asyncio.TaskGroup() as group:
            group.create_task(_print(caller.events(), out), name="events")
            async with node, caller:
                began = time.monotonic()
                await caller.wait_for(_NODE, 5)
                async with caller.call(_NODE) as call:
                    out.text(f'call     "{_CALLER}" called "{_NODE}": connected in {_ms_since(began)} ms')
                    ok = await _receive(call, check, began, duration, out)
    finally:
        await relay.stop()
    out.object({"event": "demo", "time": round(time.time(), 3), "ok": ok} | check.summary())
    out.text("It works." if ok else f"FAILED   {check.failure()}")
    return exits.DONE if ok else exits.FAILED


def _describe(video: str, audio: str) -> str:
    from ...errors import redacted

    if video == "none":
        video_text = "no video"
    else:
        video_text = "a test pattern" if video == "test" else redacted(video.removesuffix("?loop"))
    if audio == "none":
        audio_text = "no audio"
    elif audio == "test":
        audio_text = "a 440 Hz tone with a beep every second"
    else:
        audio_text = "its audio" if audio == video else redacted(audio)
    return f"{video_text} and {audio_text}"


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


async def _print(stream: AsyncIterator[Event], out: Output) -> None:
    async for event in stream:
        if out.as_json:
            out.event(event)


async def _receive(call: Call, check: MediaCheck, began: float, duration: float | None, out: Output) -> bool:
    """Feed ``check`` for ``duration`` seconds, print its status every second, and return whether it is satisfied."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Any]] = [
            group.create_task(_check_video(call, check), name="check video"),
            group.create_task(_check_audio(call, check), name="check audio"),
        ]
        try:
            first = await call.first_frame(min(5.0, duration or 5.0))
            size = f"{first.width}x{first.height}"
            out.text(f"video    first frame {_ms_since(began)} ms after calling: {size} {first.codec}")
            ending = group.create_task(call.ended(), name="ended")
            tasks.append(ending)
            start = time.monotonic()
            for status_at in _status_times(duration):
                done, _ = await asyncio.wait([ending], timeout=max(0.0, start + status_at - time.monotonic()))
                out.text(f"{time.monotonic() - start:5.0f} s  {check.status_line()}")
                if done:
                    break
        finally:
            for task in tasks:
                task.cancel()
    return check.failure() is None


def _status_times(duration: float | None) -> Iterator[float]:
    """Times of the status lines, in seconds since the first frame: every second, and at the end of ``duration``.

    They are fixed in advance. A timer that fires late therefore adds no line shortly before the end.
    """
    elapsed = 0.0
    while duration is None or elapsed < duration:
        elapsed = elapsed + 1 if duration is None else min(elapsed + 1, duration)
        yield elapsed


async def _check_video(call: Call, check: MediaCheck) -> None:
    with call.frames() as frames:
        async for frame in frames:
            check.add_video(frame)


async def _check_audio(call: Call, check: MediaCheck) -> None:
    with call.sound() as frames:
        async for frame in frames:
            check.add_audio(frame)
