"""Outgoing audio: it does not end, has no gaps, and is encoded once."""

from __future__ import annotations

import asyncio
import itertools

import av
import numpy as np
import pytest

from peer.media.fanout import Fanout, Reader
from peer.media.frames import AUDIO_RATE, AUDIO_TIME_BASE, OutgoingFrame, media_time
from peer.media.outgoing import audio_encoding
from peer.media.outgoing.audio_encoding import AudioEncoding, GapFiller
from peer.media.outgoing.encoder import AudioEncoder, EncodedPacket
from peer.media.test_pattern import TONE, dominant_frequency, tone_frame


def _fill_gaps(source: Fanout[av.AudioFrame]) -> GapFiller:
    return GapFiller(source.read(10))


def _now_pts() -> int:
    return round(media_time() * AUDIO_RATE)


def _is_silent(frame: av.AudioFrame) -> bool:
    return not np.any(frame.to_ndarray())


async def test_closed_source_yields_silence_in_real_time() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _fill_gaps(source)
    await stream.get()
    source.close()
    started = media_time()
    for _ in range(4):
        await stream.get()
    assert media_time() - started > 0.06


async def test_audio_keeps_its_capture_times() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _fill_gaps(source)
    start = _now_pts()
    for n in range(5):
        source.put(tone_frame(start // 960 * 960 + 960 * n))
    sent = [await stream.get() for _ in range(5)]
    assert [frame.pts for frame in sent] == [start // 960 * 960 + 960 * n for n in range(5)]
    assert {(frame.samples, frame.format.name, frame.layout.name) for frame in sent} == {(960, "s16", "stereo")}
    assert not any(_is_silent(frame) for frame in sent)


async def test_silence_is_in_real_time_and_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_encoding, "QUEUE_SIZE", 1000)  # tolerates a busy machine
    stream = _fill_gaps(Fanout())
    started = media_time()
    sent = [await stream.get() for _ in range(20)]
    assert media_time() - started > 0.35
    assert all(_is_silent(frame) for frame in sent)
    assert np.diff([frame.pts or 0 for frame in sent]).tolist() == [960] * 19


async def test_late_audio_replaced_by_silence_is_dropped() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _fill_gaps(source)
    last = [(await stream.get()).pts or 0 for _ in range(8)][-1] // 960 * 960
    source.put(tone_frame(last - 960))
    source.put(tone_frame(last + 1920))
    frame = await stream.get()
    assert frame.pts == last + 1920
    assert not _is_silent(frame)


async def test_source_with_unexpected_latency_is_delayed_not_dropped() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    stream = _fill_gaps(source)
    loud = 0
    timestamps = [(await stream.get()).pts or 0]
    for _ in range(60):
        source.put(tone_frame(_now_pts() // 960 * 960 - 24_000))
        frame = await stream.get()
        timestamps.append(frame.pts or 0)
        loud += not _is_silent(frame)
    assert timestamps == sorted(set(timestamps))
    assert loud > 10


class SimulatedSource:
    """A source on a simulated clock with steps of 20 ms, and the audio sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audio_encoding, "media_time", lambda: self.now)
        self.now = 1000.0
        self.source: Fanout[av.AudioFrame] = Fanout()
        self.stream = GapFiller(self.source.read(100))
        self.ahead: list[float] = []
        """Time by which the end of each frame, by its timestamp, is later than its sending, in seconds."""

    async def run(self, seconds: float, age: float | None) -> None:
        """Deliver audio ``age`` seconds after its capture, or not at all if ``age`` is ``None``."""
        for _ in range(round(seconds * 50)):
            self.now += 0.02
            if age is not None:
                self.put(self.now - age)
            await self.send()

    def put(self, captured: float) -> None:
        self.source.put(tone_frame(round(captured * 50) * 960 - 960))

    async def send(self) -> None:
        try:
            async with asyncio.timeout(0.03):
                self.ahead.append(((await self.stream.get()).pts or 0) / AUDIO_RATE + 0.02 - self.now)
        except TimeoutError:
            pass


async def test_burst_of_late_audio_does_not_delay_later_audio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = SimulatedSource(monkeypatch)
    await source.run(1, age=0.0)
    stalled_at = source.now
    await source.run(0.8, age=None)
    for n in range(40):
        source.put(stalled_at + 0.02 * n)
    await source.run(1, age=0.0)
    assert max(source.ahead) < 0.03
    assert -0.1 < source.ahead[-1]


async def test_delay_is_removed_when_audio_is_early_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SimulatedSource(monkeypatch)
    await source.run(1, age=0.0)
    await source.run(2, age=0.6)
    await source.run(2, age=0.0)
    assert source.ahead[-1] > 0.3
    await source.run(9, age=0.0)
    assert source.ahead[-1] == pytest.approx(0, abs=0.06)


async def test_silence_is_skipped_after_a_long_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _fill_gaps(Fanout())
    first = await stream.get()
    started = media_time()
    monkeypatch.setattr(audio_encoding, "media_time", lambda: media_time() + 10)
    frame = await stream.get()
    assert (frame.pts or 0) - (first.pts or 0) > 9 * AUDIO_RATE
    assert media_time() - started < 1


def tone(pts: int) -> av.AudioFrame:
    """Return 20 ms of ``TONE`` on both channels."""
    wave = np.sin(2 * np.pi * TONE * (pts + np.arange(960)) / AUDIO_RATE) * 8000
    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16).repeat(2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
    return frame


async def _play(source: Fanout[av.AudioFrame], reader: Reader[OutgoingFrame], packets: int) -> list[OutgoingFrame]:
    """Put the tone of the test source into ``source`` and return ``packets`` packets."""
    start, got = _now_pts() // 960 * 960, []
    source.put(tone(start))  # one frame ahead, because resampling delays each frame
    for n in itertools.count(1):
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
async def test_codec_carries_the_tone_in_packets_of_20_ms(
    monkeypatch: pytest.MonkeyPatch, codec: str, rate: int, step: int
) -> None:
    monkeypatch.setattr(audio_encoding, "MAX_LATENESS", 60.0)  # no silence, even on a busy machine
    source: Fanout[av.AudioFrame] = Fanout()
    async with asyncio.TaskGroup() as tasks:
        with AudioEncoding(tasks, source, codec).read() as reader:
            got = await _play(source, reader, 30)
    assert np.diff([frame.timestamp for frame in got]).tolist() == [step] * 29
    assert all(len(frame.payloads) == 1 and frame.key for frame in got)
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = rate, "stereo" if codec == "opus" else "mono"
    decoded = [part for frame in got for part in decoder.decode(av.Packet(frame.payloads[0]))]
    to_mono = av.AudioResampler(format="s16", layout="mono")
    mono = [same.to_ndarray()[0].astype(float) for part in decoded for same in to_mono.resample(part)]
    samples = np.concatenate(mono)
    assert abs(dominant_frequency(samples[rate // 10 :], rate) - TONE) < 10


async def test_readers_share_packets_and_the_last_one_stops_encoding() -> None:
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


async def test_failed_encoder_is_restarted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    encode, left = AudioEncoder.encode, [1]

    def failing(self: AudioEncoder, frame: av.AudioFrame) -> list[EncodedPacket]:
        if left:
            left.pop()
            raise ZeroDivisionError
        return encode(self, frame)

    monkeypatch.setattr(AudioEncoder, "encode", failing)
    source: Fanout[av.AudioFrame] = Fanout()
    async with asyncio.TaskGroup() as tasks:
        with AudioEncoding(tasks, source, "opus").read() as reader:
            assert len(await _play(source, reader, 5)) == 5
    assert "is restarted" in caplog.text


async def test_encoder_that_cannot_be_created_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a pause, and without ending the calls."""
    monkeypatch.setattr(audio_encoding, "RESTART_DELAY", 0.2)
    create, created = AudioEncoder.__init__, []

    def failing(self: AudioEncoder, codec: str) -> None:
        created.append(media_time())
        if len(created) < 3:
            raise OSError("no such encoder")
        create(self, codec)

    monkeypatch.setattr(AudioEncoder, "__init__", failing)
    source: Fanout[av.AudioFrame] = Fanout()
    async with asyncio.TaskGroup() as tasks:
        with AudioEncoding(tasks, source, "opus").read() as reader:
            assert len(await _play(source, reader, 5)) == 5
    assert len(created) == 3 and created[2] - created[0] >= 0.4
    assert caplog.text.count("is restarted") == 2
