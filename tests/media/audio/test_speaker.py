"""The speaker on ALSA's ``file`` plugin, measured in the file it writes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from peer.errors import MediaError
from peer.media.audio import speaker as speaker_module
from peer.media.audio.alsa import prepare_environment
from peer.media.audio.mixer import Mixer
from peer.media.audio.pcm import PlaybackDevice
from peer.media.audio.speaker import Speaker, SpeakerBack, SpeakerLost
from peer.media.fanout import Fanout
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE

pytestmark = pytest.mark.sound


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of what ALSA device ``tape`` has played: s16 stereo at 48 kHz. There are ``null`` and ``default``, too."""
    tape = tmp_path / "played.raw"
    (tmp_path / "asound.conf").write_text(
        f"""
        pcm.null {{ type null }}
        pcm.tape {{ type file slave.pcm null file "{tape}" format raw }}
        pcm.default {{ type plug slave.pcm tape }}
        """
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    prepare_environment()
    return tape


class Voice:
    """A tone of ``hertz`` in frames of 20 ms, produced in real time."""

    def __init__(self, hertz: int, level: int = 8000) -> None:
        self.audio: Fanout[av.AudioFrame] = Fanout()
        self._hertz, self._level = hertz, level

    async def run(self, seconds: float) -> None:
        begin, n = time.monotonic(), 0
        while n * AUDIO_FRAME_SAMPLES < seconds * AUDIO_RATE and not self.audio.closed:
            at = (np.arange(AUDIO_FRAME_SAMPLES) + n * AUDIO_FRAME_SAMPLES) / AUDIO_RATE
            wave = (np.sin(2 * np.pi * self._hertz * at) * self._level).astype(np.int16).repeat(2)
            frame = av.AudioFrame.from_ndarray(wave[None], "s16", "stereo")
            frame.sample_rate = AUDIO_RATE
            self.audio.put(frame)
            n += 1
            await asyncio.sleep(begin + n * AUDIO_FRAME_SAMPLES / AUDIO_RATE - time.monotonic())


class Room:
    def __init__(self, tasks: asyncio.TaskGroup, device: str) -> None:
        self.tasks = tasks
        self.notices: asyncio.Queue[str] = asyncio.Queue()
        self.speaker = Speaker(tasks, device, self.notices.put_nowait)


@asynccontextmanager
async def room(device: str) -> AsyncIterator[Room]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        it = Room(tasks, device)
        try:
            yield it
        finally:
            await it.speaker.close()
    assert not any(thread.name == "speaker" for thread in threading.enumerate())


def _heard(tape: Path) -> np.ndarray:
    return np.fromfile(tape, np.int16).reshape(-1, 2)[:, 0].astype(float)


def level(samples: np.ndarray, hertz: int) -> float:
    """Return the amplitude of ``hertz``, a multiple of 20, in most of ``samples``: the median of pieces of 50 ms.

    A busy machine loses some audio, after which the tone goes on in another phase.
    """
    piece = AUDIO_RATE // 20
    wave = samples * np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / AUDIO_RATE)
    pieces = wave[: len(wave) // piece * piece].reshape(-1, piece)
    return float(2 * np.median(np.abs(pieces.mean(axis=1))))


def plays(tape: Path, hertz: int) -> bool:
    """Whether ``hertz`` was played in the last quarter of a second, after at least another one."""
    heard = _heard(tape)
    return len(heard) > AUDIO_RATE // 2 and level(heard[-AUDIO_RATE // 4 :], hertz) > 5000


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def test_speaker_plays_two_calls_in_real_time(played: Path) -> None:
    door, yard = Voice(440), Voice(1000, 4000)
    async with room("tape") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        it.speaker.add("yard", yard.audio)
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(door.run(1.5))
            tasks.create_task(yard.run(1.5))
        seconds = time.monotonic() - begin
    heard = _heard(played)
    assert len(heard) / AUDIO_RATE == pytest.approx(seconds, abs=0.4)
    middle = heard[AUDIO_RATE // 2 : AUDIO_RATE]
    assert 5000 < level(middle, 440) < 8500
    assert 2500 < level(middle, 1000) < 4500
    assert level(middle, 2500) < 200
    assert door.audio.readers == 0


async def test_speaker_auto_uses_the_default_device(played: Path) -> None:
    door = Voice(440)
    async with room("auto") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        await door.run(0.5)
        assert it.notices.empty()
    assert level(_heard(played), 440) > 3000


async def test_speaker_removed_call_is_not_read_others_play_on(played: Path) -> None:
    door, yard = Voice(440), Voice(1000)
    async with room("tape") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        it.speaker.add("yard", yard.audio)
        it.speaker.remove("door")
        assert (door.audio.readers, yard.audio.readers) == (0, 1)
        await yard.run(0.5)
        yard.audio.close()
        await asyncio.sleep(0)
    heard = _heard(played)
    assert level(heard, 1000) > 3000 and level(heard, 440) < 300


async def test_speaker_without_call_plays_nothing(played: Path) -> None:
    async with room("tape") as it:
        assert await it.speaker.open()
        await Voice(440).run(0.3)
    assert len(_heard(played)) == 0


async def test_speaker_named_missing_device_raises(played: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with room("hw:99") as it:
        with pytest.raises(MediaError, match=r"speaker hw:99: there is no such audio device; `peer devices`"):
            await it.speaker.open()
    assert capfd.readouterr().err == ""


async def test_speaker_auto_without_device_gives_one_notice(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.conf").write_text("")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "empty.conf"))
    door = Voice(440)
    async with room("auto") as it:
        assert not await it.speaker.open()
        it.speaker.add("door", door.audio)
        assert door.audio.readers == 0
        assert (
            it.notices.get_nowait().startswith("no speaker: there is no such audio device; ") and it.notices.empty()
        )


async def test_speaker_lost_device_ends_no_call_and_is_reported_once(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Voice(440)
    (tmp_path / "empty.conf").write_text("")
    async with room("tape") as it:
        assert await it.speaker.open()
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "empty.conf"))  # read at each open
        it.speaker.add("door", door.audio)
        it.tasks.create_task(door.run(20))
        assert "; calls go on" in await it.notices.get()
        assert door.audio.readers == 1
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
        assert await it.notices.get() == "speaker tape is back"
        await _until(lambda: plays(played, 440))
        door.audio.close()
        assert it.notices.empty()


@pytest.fixture
def mute_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ALSA's ``default`` is a sound server that accepts connections and never answers."""
    (tmp_path / "asound.conf").write_text(f'pcm.default {{ type pulse server "unix:{tmp_path}/native" }}')
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    monkeypatch.setattr(speaker_module, "_TEST_TIMEOUT", 0.5)
    monkeypatch.setattr(speaker_module, "_TEST_TIMEOUT_UNATTENDED", 0.5)
    before = set(threading.enumerate())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "native"))
        server.listen()
        yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # the server is gone, so abandoned threads wake up and end
        assert not thread.is_alive()


async def test_speaker_auto_silent_server_times_out_with_notice(mute_server: None) -> None:
    notices: list[str] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        speaker = Speaker(tasks, "auto", notices.append)
        assert not await speaker.open()
        await speaker.close()
    assert notices == [
        "no speaker: it does not answer within 0.5 s; calls are not played; --speaker none turns this notice off"
    ]


async def test_speaker_named_silent_device_raises(mute_server: None) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        speaker = Speaker(tasks, "default", lambda line: None)
        with pytest.raises(MediaError, match=r"speaker default: it does not answer within 0\.5 s"):
            await speaker.open()
        await speaker.close()


async def test_speaker_thread_exception_is_reported_and_retried(
    played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix, failing = Mixer.mix, [True]

    def poisoned(self: Mixer, samples: int) -> NDArray[np.int16]:
        if failing:
            failing.clear()
            raise ValueError("a frame of 13 channels")
        return mix(self, samples)

    monkeypatch.setattr(Mixer, "mix", poisoned)
    door = Voice(440)
    async with room("tape") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        it.tasks.create_task(door.run(20))
        notice = await it.notices.get()
        assert notice == "speaker tape: a frame of 13 channels; calls go on, the speaker is retried"
        assert await it.notices.get() == "speaker tape is back"
        await _until(lambda: plays(played, 440))
        door.audio.close()


async def test_unattended_speaker_plays_once_its_device_appears(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.conf").write_text("")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "empty.conf"))
    door, states = Voice(440), asyncio.Queue[SpeakerLost | SpeakerBack]()
    notices: list[str] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        speaker = Speaker(tasks, "tape", notices.append, states.put_nowait, unattended=True)
        assert not await speaker.open()
        assert await states.get() == SpeakerLost("tape", "there is no such audio device")
        speaker.add("door", door.audio)
        tasks.create_task(door.run(20))
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
        speaker.retry_now()
        back = await states.get()
        assert isinstance(back, SpeakerBack) and back.seconds < 10
        await _until(lambda: plays(played, 440))
        door.audio.close()
        await speaker.close()
    assert [notice.split(";")[0] for notice in notices] == [
        "speaker tape: there is no such audio device",
        "speaker tape is back",
    ]


async def test_unattended_silent_speaker_does_not_delay_the_start(mute_server: None) -> None:
    states: list[SpeakerLost | SpeakerBack] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        speaker = Speaker(tasks, "default", lambda line: None, states.append, unattended=True)
        assert not await speaker.open()
        await speaker.close()
    assert states == [SpeakerLost("default", "it does not answer within 0.5 s")]


async def test_speaker_stuck_in_its_device_is_replaced(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, hangs, released = PlaybackDevice.write, [True], threading.Event()

    def stuck(self: PlaybackDevice, samples: NDArray[np.int16]) -> None:
        if hangs:
            hangs.clear()
            released.wait(30)
            return
        write(self, samples)

    monkeypatch.setattr(PlaybackDevice, "write", stuck)
    monkeypatch.setattr(speaker_module, "_STALL", 0.3)
    door = Voice(440)
    async with room("tape") as it:
        assert await it.speaker.open()
        it.speaker.add("door", door.audio)
        it.tasks.create_task(door.run(20))
        assert (await it.notices.get()).startswith("speaker tape: it has not played for 0.3 s; calls go on")
        assert await it.notices.get() == "speaker tape is back"
        await _until(lambda: plays(played, 440))
        released.set()
        door.audio.close()
        await _until(lambda: [thread.name for thread in threading.enumerate()].count("speaker") == 1)
