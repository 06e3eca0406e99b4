"""Outgoing sound: it never ends, has no holes, and is coded once."""

from __future__ import annotations

import asyncio
import itertools

import av
import numpy as np
import pytest

from peer.media.fanout import Fanout, Reader
from peer.media.frames import AUDIO_RATE, AUDIO_TIME_BASE, OutgoingFrame, media_time
from peer.media.outgoing import audio_encoding as sound_encoding
from peer.media.outgoing.audio_encoding import AudioEncoding, Continuous
from peer.media.outgoing.encoder import AudioEncoder, Coded
from peer.media.test_pattern import TONE, dominant_frequency, tone_frame


def _continuous(source: Fanout[av.AudioFrame]) -> Continuous:
    return Continuous(source.read(10))


def _now_pts() -> int:
    return round(media_time() * AUDIO_RATE)


def _is_silent(frame: av.AudioFrame) -> bool:
    return not np.any(frame.to_ndarray())


async def test_a_source_that_is_closed_for_good_ends_nothing_and_spins_nothing() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _continuous(source)
    await stream.get()
    source.close()
    started = media_time()
    for _ in range(4):
        await stream.get()
    assert media_time() - started > 0.06


async def test_sound_passes_as_it_was_captured() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _continuous(source)
    start = _now_pts()
    for n in range(5):
        source.put(tone_frame(start // 960 * 960 + 960 * n))
    sent = [await stream.get() for _ in range(5)]
    assert [frame.pts for frame in sent] == [start // 960 * 960 + 960 * n for n in range(5)]
    assert {(frame.samples, frame.format.name, frame.layout.name) for frame in sent} == {(960, "s16", "stereo")}
    assert not any(_is_silent(frame) for frame in sent)


async def test_silence_fills_in_real_time_and_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_encoding, "QUEUE", 1000)  # this machine may be busy with other tests
    stream = _continuous(Fanout())
    started = media_time()
    sent = [await stream.get() for _ in range(20)]
    assert media_time() - started > 0.35
    assert all(_is_silent(frame) for frame in sent)
    assert np.diff([frame.pts or 0 for frame in sent]).tolist() == [960] * 19


async def test_sound_for_which_silence_was_sent_is_dropped() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _continuous(source)
    last = [(await stream.get()).pts or 0 for _ in range(8)][-1] // 960 * 960
    source.put(tone_frame(last - 960))
    source.put(tone_frame(last + 1920))
    frame = await stream.get()
    assert frame.pts == last + 1920
    assert not _is_silent(frame)


async def test_a_source_with_an_unexpected_latency_is_heard_all_the_same() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _continuous(source)
    loud = 0
    stamps = [(await stream.get()).pts or 0]
    for _ in range(60):
        source.put(tone_frame(_now_pts() // 960 * 960 - 24_000))
        frame = await stream.get()
        stamps.append(frame.pts or 0)
        loud += not _is_silent(frame)
    assert stamps == sorted(set(stamps))
    assert loud > 10


class Clock:
    """Sound of a source on a clock of its own: 20 ms a step, and what is sent meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sound_encoding, "media_time", lambda: self.now)
        self.now = 1000.0
        self.source: Fanout[av.AudioFrame] = Fanout()
        self.stream = Continuous(self.source.read(100))
        self.ahead: list[float] = []
        """Seconds by which sound, with its end, was stamped later than the time at which it was sent."""

    async def run(self, seconds: float, age: float | None) -> None:
        """Sound comes ``age`` seconds after it was spoken; ``None``: it does not come."""
        for _ in range(round(seconds * 50)):
            self.now += 0.02
            if age is not None:
                self.put(self.now - age)
            await self.send()

    def put(self, spoken: float) -> None:
        self.source.put(tone_frame(round(spoken * 50) * 960 - 960))

    async def send(self) -> None:
        try:
            async with asyncio.timeout(0.03):
                self.ahead.append(((await self.stream.get()).pts or 0) / AUDIO_RATE + 0.02 - self.now)
        except TimeoutError:
            pass


async def test_sound_that_was_held_up_and_comes_in_one_rush_leaves_the_rest_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    await clock.run(1, age=0.0)
    held_up = clock.now
    await clock.run(0.8, age=None)
    for n in range(40):
        clock.put(held_up + 0.02 * n)
    await clock.run(1, age=0.0)
    assert max(clock.ahead) < 0.03
    assert -0.1 < clock.ahead[-1]


async def test_sound_that_comes_early_again_is_in_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    await clock.run(1, age=0.0)
    await clock.run(2, age=0.6)
    await clock.run(2, age=0.0)
    assert clock.ahead[-1] > 0.3
    await clock.run(9, age=0.0)
    assert clock.ahead[-1] == pytest.approx(0, abs=0.06)


async def test_after_a_long_stall_silence_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _continuous(Fanout())
    first = await stream.get()
    started = media_time()
    monkeypatch.setattr(sound_encoding, "media_time", lambda: media_time() + 10)
    frame = await stream.get()
    assert (frame.pts or 0) - (first.pts or 0) > 9 * AUDIO_RATE
    assert media_time() - started < 1


def tone(pts: int) -> av.AudioFrame:
    """20 ms of ``TONE`` on both channels."""
    wave = np.sin(2 * np.pi * TONE * (pts + np.arange(960)) / AUDIO_RATE) * 8000
    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16).repeat(2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
    return frame


async def _play(source: Fanout[av.AudioFrame], reader: Reader[OutgoingFrame], packets: int) -> list[OutgoingFrame]:
    """What comes out while the tone of the test source goes in."""
    start, got = _now_pts() // 960 * 960, []
    for n in itertools.count():
        source.put(tone(start + 960 * n))
        async with asyncio.timeout(5):
            got.append(await reader.get())
        if len(got) == packets:
            return got
    raise AssertionError


@pytest.mark.parametrize(
    ("codec", "rate", "step"),
    [("opus", 48_000, 960), ("pcm_mulaw", 8_000, 160), ("pcm_alaw", 8_000, 160), ("g722", 16_000, 160)],
)
async def test_each_codec_carries_the_tone_in_packets_of_20_ms(codec: str, rate: int, step: int) -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    async with asyncio.TaskGroup() as tasks:
        with AudioEncoding(tasks, source, codec).read() as reader:
            got = await _play(source, reader, 30)
    assert np.diff([frame.timestamp for frame in got]).tolist() == [step] * 29
    assert all(len(frame.payloads) == 1 and frame.key for frame in got)
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = rate, "stereo" if codec == "opus" else "mono"
    heard = [part for frame in got for part in decoder.decode(av.Packet(frame.payloads[0]))]
    to_mono = av.AudioResampler(format="s16", layout="mono")
    mono = [same.to_ndarray()[0].astype(float) for part in heard for same in to_mono.resample(part)]
    samples = np.concatenate(mono)
    assert abs(dominant_frequency(samples[rate // 10 :], rate) - TONE) < 10


async def test_all_listeners_get_the_same_packets_and_the_last_one_ends_the_work() -> None:
    calls: list[str] = []
    source: Fanout[av.AudioFrame] = Fanout(lambda: calls.append("open"), lambda: calls.append("close"))
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        encoding = AudioEncoding(tasks, source, "opus")
        one, other = encoding.read(), encoding.read()
        assert (await one.get()) is (await other.get())
        one.close()
        assert calls == ["open"]
        other.close()
    assert calls == ["open", "close"]


async def test_an_encoder_that_fails_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode, left = AudioEncoder.encode, [1]

    def failing(self: AudioEncoder, frame: av.AudioFrame) -> list[Coded]:
        if left:
            left.pop()
            raise ZeroDivisionError
        return encode(self, frame)

    monkeypatch.setattr(AudioEncoder, "encode", failing)
    source: Fanout[av.AudioFrame] = Fanout()
    async with asyncio.TaskGroup() as tasks:
        with AudioEncoding(tasks, source, "opus").read() as reader:
            assert len(await _play(source, reader, 5)) == 5
    assert "made anew" in caplog.text
