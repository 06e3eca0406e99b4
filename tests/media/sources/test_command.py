"""A program as a source: its formats, its end, and the end of its process group."""

from __future__ import annotations

import asyncio
import shlex
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from peer.errors import MediaError
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources import command
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.local_media import SourceBack, SourceLost, open_sources
from peer.media.sources.passthrough import PassthroughCheck, StreamInfo
from peer.media.sources.spec import parse_audio, parse_video
from tests.media.clips import write_clip, write_h264
from tests.waiting import until

DEADLINE = 20.0
"""Time limit in seconds, ample on a busy machine."""

VIDEO = Constraints(video=True, audio=False)

CAMERA = """
import sys, time
data = open(sys.argv[1], "rb").read()
while True:
    for at in range(0, len(data), 4096):
        sys.stdout.buffer.write(data[at : at + 4096])
        sys.stdout.buffer.flush()
        time.sleep(0.01)
    if "once" in sys.argv:
        sys.exit("out of film")
"""
"""A program that writes a file in a loop, slowly, like a camera."""


def camera(clip: Path, *more: str) -> str:
    return shlex.join([sys.executable, "-c", CAMERA, str(clip), *more])


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def group_is_gone(group: int) -> bool:
    """Whether no process of the group runs. Orphans that have ended may wait for process 1 to reap them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, own = (process / "stat").read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(own) == group and state != "Z":
            return False
    return True


def test_raw_h264_is_stamped_on_arrival_and_passed_through(tmp_path: Path) -> None:
    clip, flags, start = write_h264(tmp_path / "clip.h264"), DecodeFlags(video=False), media_time()
    passthrough, stop, frames = PassthroughCheck(), threading.Event(), []
    for item in command.read(camera(clip), VIDEO, flags, stop):
        if isinstance(item, StreamInfo):
            passthrough.restart(item)
        elif isinstance(item, EncodedFrame):
            passthrough.observe(item)
            frames.append(item)
            if len(frames) == 60:
                stop.set()
    assert len(frames) == 60 and flags.decoded_packets == 0
    times = [frame.timestamp / frame.clock_rate for frame in frames]
    assert start < times[0] <= times[-1] <= media_time() + 0.001 and times == sorted(times)
    assert passthrough.profile_level_id is not None


@pytest.mark.parametrize(("name", "codec"), [("clip.ts", "libx264"), ("clip.mjpeg", "mjpeg")])
def test_stream_of_a_program_is_decoded(tmp_path: Path, name: str, codec: str) -> None:
    if codec == "libx264":
        clip = write_clip(tmp_path / name, audio=False)
    else:
        clip = write_h264(tmp_path / name, codec=codec, strict="unofficial")
    stop = threading.Event()
    for item in command.read(camera(clip), VIDEO, DecodeFlags(), stop):
        if isinstance(item, av.VideoFrame):
            assert (item.width, item.height) == (320, 180)
            stop.set()
    assert stop.is_set()


async def test_audio_of_a_program_is_used_if_it_is_named(tmp_path: Path) -> None:
    both = f"exec:{camera(write_clip(tmp_path / 'clip.ts'))}"
    media = await open_sources(parse_video(both), parse_audio(both))
    (source,) = media.sources
    assert source.kinds == ("video", "audio") and media.audio is not None
    with media.audio.read() as audio:
        await asyncio.wait_for(audio.get(), DEADLINE)
    await media.close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/nowhere/camera --password secret", "exec:camera: there is no such program; check the path"),
        (python("import sys; sys.exit('no camera\\nplease plug one in')"), "its last words: please plug one in"),
        (python("print('hello')"), "exec:"),
        (python("print('\\x1b[31m' * 9000, flush=True)"), "exec:"),
    ],
)
def test_program_that_delivers_nothing_raises_with_its_name(line: str, why: str) -> None:
    with pytest.raises(MediaError) as raised:
        list(command.read(line, VIDEO, DecodeFlags(), threading.Event()))
    assert why in str(raised.value) and "secret" not in str(raised.value)


def test_program_that_ends_raises_with_its_last_words(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.h264", seconds=1)
    with pytest.raises(MediaError, match="it has ended; its last words: out of film") as raised:
        list(command.read(camera(clip, "once"), VIDEO, DecodeFlags(), threading.Event()))
    assert raised.value.cause == "ended"


def test_chatty_program_does_not_block(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.h264", seconds=1)
    chatty = CAMERA.replace("        time.sleep", "        sys.stderr.write('x' * 65536)\n        time.sleep")
    stop, count = threading.Event(), 0
    for _ in command.read(shlex.join([sys.executable, "-c", chatty, str(clip)]), VIDEO, DecodeFlags(), stop):
        count += 1
        if count == 50:
            stop.set()
    assert count >= 50


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ignore = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", ignore])
open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""
"""A program that ignores SIGTERM, with a child that does too, and then runs as CAMERA."""


async def test_process_group_is_gone_within_2_s_of_the_end(tmp_path: Path) -> None:
    clip, pid = write_h264(tmp_path / "clip.h264"), tmp_path / "pid"
    line = shlex.join([sys.executable, "-c", STUBBORN, str(pid), CAMERA, str(clip)])
    media = await open_sources(parse_video(f"exec:{line}"), parse_audio("none"))
    group = int(pid.read_text())
    assert not group_is_gone(group)
    began = time.monotonic()
    await media.close()
    await until(lambda: group_is_gone(group))
    assert time.monotonic() - began < 2.0


async def test_program_is_started_again_after_its_end(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.h264", seconds=1)
    media = await open_sources(parse_video(f"exec:{camera(clip, 'once')}"), parse_audio("none"))
    assert media.video is not None
    with media.sources[0].failures.read(8) as failures, media.video.read() as video:
        lost = await asyncio.wait_for(failures.get(), DEADLINE)
        assert isinstance(lost, SourceLost) and lost.error.cause == "ended"
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
        await asyncio.wait_for(video.get(), DEADLINE)
    await media.close()


def test_name_has_the_program_only() -> None:
    assert command.name("/usr/bin/ffmpeg -i rtsp://me:secret@cam -f mpegts -") == "exec:ffmpeg"
