"""The speaker on a sound server that dies and returns during a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

from peer.media.frames import AUDIO_RATE
from tests.waiting import on_this_machine

from ..sound_server import SoundServer, running
from .test_speaker import Voice, level, room

pytestmark = pytest.mark.sound


async def record(seconds: float) -> np.ndarray:
    """Return what the server plays, left channel."""
    wanted = int(seconds * AUDIO_RATE) * 4
    recorder = await asyncio.create_subprocess_exec(
        *("parec", "-d", "room.monitor", "--raw", "--format=s16le", "--rate=48000", "--channels=2"),
        "--latency-msec=20",
        stdout=asyncio.subprocess.PIPE,
    )
    assert recorder.stdout is not None
    heard = await recorder.stdout.readexactly(wanted)
    recorder.kill()
    await recorder.communicate()
    return np.frombuffer(heard, np.int16)[::2].astype(float)


async def hear(hertz: int) -> None:
    """Wait until the server plays that tone without gaps for half a second."""
    async with asyncio.timeout(15):
        while level(await record(0.5), hertz) <= 5000:
            pass


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """A sound server whose only sink is silent, in real time."""
    device = "module-null-sink sink_name=room rate=48000"
    with running(tmp_path_factory.mktemp("pulse"), device, monkeypatch) as it:
        yield it


async def test_speaker_survives_restart_of_sound_server(server: SoundServer) -> None:
    door = Voice(440)
    async with room("pulse") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        it.tasks.create_task(door.run(25))
        await hear(440)
        server.kill()
        assert "; calls go on" in await it.notices.get()
        server.start()
        returned = time.monotonic()
        assert await it.notices.get() == "speaker pulse is back"
        assert time.monotonic() - returned < on_this_machine(3.0)  # docs/node.md
        await hear(440)
        assert it.notices.empty() and door.audio.readers == 1
        door.audio.close()
