"""``peer demo``"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ...options import MediaOptions, RelayOptions
from .. import exit_codes as exits
from ..command import Command, option
from ..options import media_options, output_options, sink_options
from ..param_types import duration_or_zero
from ..settings import Settings

if TYPE_CHECKING:
    from ...call import Call
    from ...events import Event
    from ..output import Output
    from .demo_check import Witness

_NODE, _CALLER = "camera", "you"


@click.command("demo", cls=Command)
@option(
    "--duration",
    type=duration_or_zero,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How long to talk; 0 until Ctrl-C.",
)
@media_options(video="test", audio="test")
@sink_options(speaker="none")
@output_options
def command(**params: Any) -> int:
    """See it work: a relay, a node and a call, with no hardware.

    All in this one process and on this machine only. It ends well only if pictures and sound really arrived. While it
    runs, its page can be opened in a browser, to call the node from there.

    \b
    peer demo
    peer demo --duration 0                for as long as you like
    peer demo --video clip.mp4            the node shows a film, with its sound
    """
    from ..entry import run
    from ..output import Output

    given = click.get_current_context().get_parameter_source("audio") != click.core.ParameterSource.DEFAULT
    settings = Settings.read(params, quieter=1)  # it tells what happens by itself
    out = Output(as_json=settings.as_json)
    media = settings.media
    video, audio = _film(media.video)
    media = replace(media, video=video, audio=media.audio if given and media.audio != "same" else audio)
    if (media.video, media.audio) == ("none", "none"):
        raise click.UsageError("--video none and --audio none leave nothing to see or hear: use one of them")
    return run(lambda: _demo(media, settings.duration or None, out), out)


def _film(video: str) -> tuple[str, str]:
    """``video`` and the sound that belongs to it: a film goes round and brings its own, if it has any."""
    from ...media.sources.spec import parse_video

    spec = parse_video(video)
    if spec.kind != "file":
        return video, "test"
    import av

    from ...errors import MediaError

    try:
        with av.open(spec.target) as film:
            looped = f"{spec.target}?loop"
            return looped, looped if film.streams.audio else "none"
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(spec.target, getattr(error, "strerror", None) or str(error)) from None


async def _demo(media: MediaOptions, duration: float | None, out: Output) -> int:
    from server.relay import Relay, RelayConfig

    from ...agent import Agent
    from .demo_check import Witness

    relay = Relay(RelayConfig(port=0))
    await relay.start()
    try:
        out.text(f"relay    {relay.url}")
        out.text(f'page     {relay.page}   open it in a browser to call "{_NODE}" from there')
        node = Agent.from_options(
            RelayOptions(_NODE, server=relay.url, join_timeout=5), replace(media, speaker="none", show=False)
        )
        caller = Agent(_CALLER, server=relay.url, speaker=media.speaker, show=media.show, join_timeout=5)
        out.text(f'node     "{_NODE}" sends {_in_words(media.video, media.audio)}')
        witness = Witness(
            test_picture=media.video == "test", test_tone=media.audio == "test", sound=media.audio != "none"
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(_print(caller.events(), out), name="events")
            async with node, caller:
                began = time.monotonic()
                await caller.wait_for(_NODE, 5)
                async with caller.call(_NODE) as call:
                    out.text(f'call     "{_CALLER}" called it: connected in {_ms(began)} ms')
                    ok = await _watch(call, witness, began, duration, out)
    finally:
        await relay.stop()
    out.object({"event": "demo", "time": round(time.time(), 3), "ok": ok} | witness.summary())
    out.text("It works." if ok else f"FAILED   {witness.complaint()}")
    return exits.DONE if ok else exits.FAILED


def _in_words(video: str, audio: str) -> str:
    from ...errors import redacted

    pictures = (
        "a test picture"
        if video == "test"
        else "no pictures"
        if video == "none"
        else redacted(video.removesuffix("?loop"))
    )
    sound = (
        "a 440 Hz tone"
        if audio == "test"
        else "no sound"
        if audio == "none"
        else "its sound"
        if audio == video
        else redacted(audio)
    )
    return f"{pictures} and {sound}"


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


async def _print(stream: AsyncIterator[Event], out: Output) -> None:
    async for event in stream:
        if out.as_json:
            out.event(event)


async def _watch(call: Call, witness: Witness, began: float, duration: float | None, out: Output) -> bool:
    """Look and listen for ``duration`` seconds, one line a second; whether what was sent has come."""
    async with asyncio.TaskGroup() as group:
        readers: list[asyncio.Task[Any]] = [
            group.create_task(_look(call, witness), name="look"),
            group.create_task(_listen(call, witness), name="listen"),
        ]
        try:
            first = await call.first_frame(min(5.0, duration or 5.0))
            shape = f"{first.width}x{first.height} {first.codec}"
            out.text(f"picture  the first one came {_ms(began)} ms after calling: {shape}")
            ending = group.create_task(call.ended(), name="ended")
            readers.append(ending)
            start = time.monotonic()
            while duration is None or time.monotonic() - start < duration:
                left = 1.0 if duration is None else min(1.0, max(0.0, start + duration - time.monotonic()))
                done, _ = await asyncio.wait([ending], timeout=left)
                out.text(f"{time.monotonic() - start:5.0f} s  {witness.line()}")
                if done:
                    break
        finally:
            for reader in readers:
                reader.cancel()
    return witness.complaint() is None


async def _look(call: Call, witness: Witness) -> None:
    with call.frames() as frames:
        async for frame in frames:
            witness.see(frame)


async def _listen(call: Call, witness: Witness) -> None:
    with call.sound() as sound:
        async for frame in sound:
            witness.hear(frame)
