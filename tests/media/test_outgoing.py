"""Outgoing tracks: they never end, and what they send is always in time."""

from __future__ import annotations

import asyncio

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from av.video.frame import PictureType

from peer.media import outgoing
from peer.media.fanout import Fanout
from peer.media.frames import AUDIO_RATE, VIDEO_TIME_BASE, media_time
from peer.media.outgoing import OutgoingAudio, OutgoingVideo
from peer.media.pattern import Pattern, read_pattern, sound

_CANVAS = Pattern(320, 180, 30)


def _picture(number: int, moment: float | None = None) -> av.VideoFrame:
    frame = _CANVAS.picture(number)
    frame.pts = round((media_time() if moment is None else moment) / VIDEO_TIME_BASE)
    return frame


def _number(frame: av.VideoFrame) -> int | None:
    reading = read_pattern(frame.to_ndarray(format="gray"))
    return reading.frame if reading is not None else None


def _now_pts() -> int:
    return round(media_time() * AUDIO_RATE)


def _is_silent(frame: av.AudioFrame) -> bool:
    return not np.any(frame.to_ndarray())


async def test_a_waiting_picture_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "FIRST_PICTURE", 60.0)
    source: Fanout[av.VideoFrame] = Fanout()
    track = OutgoingVideo(source)
    track.open()
    source.put(_picture(1))
    async with asyncio.timeout(5):
        assert _number(await track.recv()) == 1


async def test_the_newest_picture_wins_and_the_others_are_counted() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    track = OutgoingVideo(source)
    track.open()
    for number in range(5):
        source.put(_picture(number))
    assert _number(await track.recv()) == 4
    assert track.dropped == 4


async def test_a_card_is_sent_soon_when_the_source_gives_nothing() -> None:
    track = OutgoingVideo(Fanout(), size=(640, 480))
    async with asyncio.timeout(5):
        card = await track.recv()
    assert (card.width, card.height, _number(card)) == (640, 480, None)


async def test_the_last_picture_is_repeated_then_a_card_of_its_size_then_the_source_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "REPEAT", 0.02)
    monkeypatch.setattr(outgoing, "HOLD", 0.1)
    source: Fanout[av.VideoFrame] = Fanout()
    track = OutgoingVideo(source)
    track.open()
    source.put(_picture(3))
    sent = [await track.recv() for _ in range(8)]
    numbers = [_number(frame) for frame in sent]
    assert numbers[:2] == [3, 3]
    assert numbers[-1] is None
    assert {(frame.width, frame.height) for frame in sent} == {(320, 180)}
    source.put(_picture(4))
    assert _number(await track.recv()) == 4


async def test_stamps_are_those_of_the_capture_and_strictly_increase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "REPEAT", 0.01)
    source: Fanout[av.VideoFrame] = Fanout()
    track = OutgoingVideo(source)
    track.open()
    captured = _picture(1, media_time() - 0.05)
    source.put(captured)
    first = await track.recv()
    repeated = await track.recv()
    source.put(_picture(2, media_time() - 0.5))
    late = await track.recv()
    assert first.pts == captured.pts
    assert first.pts < repeated.pts < late.pts


async def test_an_encoder_may_write_to_what_it_gets() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    one, other = OutgoingVideo(source), OutgoingVideo(source)
    one.open()
    other.open()
    source.put(_picture(1))
    (await one.recv()).pict_type = PictureType.I
    assert (await other.recv()).pict_type == PictureType.NONE


async def test_the_first_reader_opens_and_stop_closes_the_source() -> None:
    calls: list[str] = []
    source: Fanout[av.VideoFrame] = Fanout(lambda: calls.append("open"), lambda: calls.append("close"))
    one, other = OutgoingVideo(source), OutgoingVideo(source)
    assert calls == []
    await asyncio.gather(one.recv(), other.recv())
    one.stop()
    assert calls == ["open"]
    other.stop()
    assert calls == ["open", "close"]


@pytest.mark.parametrize("make", [OutgoingVideo, OutgoingAudio])
async def test_stop_ends_a_recv_that_waits(make: type[OutgoingVideo] | type[OutgoingAudio]) -> None:
    track = make(Fanout())  # type: ignore[arg-type]
    await track.recv()
    waiting = asyncio.ensure_future(track.recv())
    asyncio.get_running_loop().call_soon(track.stop)
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(MediaStreamError):
        await track.recv()


@pytest.mark.parametrize("make", [OutgoingVideo, OutgoingAudio])
async def test_a_source_that_is_closed_for_good_ends_nothing_and_spins_nothing(
    make: type[OutgoingVideo] | type[OutgoingAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "REPEAT", 0.05)
    source: Fanout[object] = Fanout()
    track = make(source)  # type: ignore[arg-type]
    await track.recv()
    source.close()
    started = media_time()
    for _ in range(4):
        await track.recv()
    assert media_time() - started > 0.06


async def test_sound_passes_as_it_was_captured() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    track = OutgoingAudio(source)
    track.open()
    start = _now_pts()
    for n in range(5):
        source.put(sound(start // 960 * 960 + 960 * n))
    sent = [await track.recv() for _ in range(5)]
    assert [frame.pts for frame in sent] == [start // 960 * 960 + 960 * n for n in range(5)]
    assert {(frame.samples, frame.format.name, frame.layout.name) for frame in sent} == {(960, "s16", "stereo")}
    assert not any(_is_silent(frame) for frame in sent)


async def test_silence_fills_in_real_time_and_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "AUDIO_QUEUE", 1000)  # this machine may be busy with other tests
    track = OutgoingAudio(Fanout())
    started = media_time()
    sent = [await track.recv() for _ in range(20)]
    assert media_time() - started > 0.35
    assert all(_is_silent(frame) for frame in sent)
    assert np.diff([frame.pts for frame in sent]).tolist() == [960] * 19


async def test_sound_for_which_silence_was_sent_is_dropped() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    track = OutgoingAudio(source)
    last = [await track.recv() for _ in range(8)][-1]
    source.put(sound(last.pts // 960 * 960 - 960))
    source.put(sound(last.pts // 960 * 960 + 1920))
    frame = await track.recv()
    assert frame.pts == last.pts // 960 * 960 + 1920
    assert not _is_silent(frame)


async def test_a_source_with_an_unexpected_latency_is_heard_all_the_same() -> None:
    source: Fanout[av.AudioFrame] = Fanout()
    track = OutgoingAudio(source)
    loud = 0
    stamps = [(await track.recv()).pts]
    for _ in range(60):
        source.put(sound(_now_pts() // 960 * 960 - 24_000))
        frame = await track.recv()
        stamps.append(frame.pts)
        loud += not _is_silent(frame)
    assert stamps == sorted(set(stamps))
    assert loud > 10


async def test_after_a_long_stall_silence_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    track = OutgoingAudio(Fanout())
    first = await track.recv()
    started = media_time()
    monkeypatch.setattr(outgoing, "media_time", lambda: media_time() + 10)
    frame = await track.recv()
    assert frame.pts - first.pts > 9 * AUDIO_RATE
    assert media_time() - started < 1
