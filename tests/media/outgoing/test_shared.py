"""What all calls share of one source."""

from __future__ import annotations

import asyncio

import pytest

from peer.media.frames import VIDEO_TIME_BASE, media_time
from peer.media.outgoing import shared
from peer.media.outgoing.track import OutgoingVideo
from peer.media.test_pattern import Pattern

from .studio import SIZE, Camera, Studio, studio


async def test_viewers_of_one_codec_receive_the_same_packets() -> None:
    async with studio() as made:
        one, other = made.viewer(), made.viewer()
        first = await made.show(one, other)
        second = await made.show(one, other)
        assert first[0] is first[1] and second[0] is second[1]
        assert first[0].key and first[0].size == SIZE


async def test_viewers_of_two_codecs_share_one_source() -> None:
    async with studio() as made:
        vp8, h264 = await made.show(made.viewer("vp8"), made.viewer("h264"))
        assert vp8.key and h264.key and vp8.payloads != h264.payloads
        assert made.calls == ["open"]


async def test_h264_is_encoded_once_per_packetization_mode() -> None:
    async with studio() as made:
        viewers = [made.viewer("h264", "42e01f", mode) for mode in (0, 1, 0, 1)]
        for _ in range(3):
            frames = await made.show(*viewers)
            assert frames[0] is frames[2] and frames[1] is frames[3] and frames[0] is not frames[1]
            assert [frame.packetization_mode for frame in frames] == [0, 1, 0, 1]
        assert made.calls == ["open"]


async def test_source_is_open_from_the_first_open_to_the_last_stop() -> None:
    async with studio() as made:
        early = OutgoingVideo(made.shared)
        assert made.calls == []
        early.open()
        assert made.calls == ["open"]
        viewer = made.viewer()
        early.stop()
        await made.show(viewer)
        assert made.calls == ["open"]
        viewer.stop()
        viewer.stop()
        assert made.calls == ["open", "close"]


async def test_frame_from_the_warm_up_is_sent_at_once() -> None:
    async with studio() as made:
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        made.draw()
        viewer.start("vp8")
        async with asyncio.timeout(5):
            assert (await viewer.get()).key
        assert made.shared.encoding("vp8", 0).counters.frames == 1
        viewer.stop()


async def test_old_frame_from_the_warm_up_is_replaced_by_the_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "CARD_AFTER", 0.1)
    async with studio() as made:
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        frame = Pattern(*SIZE, 30).draw(0)
        now = media_time()
        frame.pts = round((now - 0.5) / VIDEO_TIME_BASE)
        made.frames.put(frame)
        viewer.start("vp8")
        async with asyncio.timeout(5):
            card = await viewer.get()
        assert card.timestamp * VIDEO_TIME_BASE >= now
        viewer.stop()


async def test_viewer_with_another_codec_gets_an_encoding() -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.passthrough)
        viewer = made.viewer("vp8")
        await camera.deliver(2)
        [frame] = await made.show(viewer)
        stats = viewer.stats()
        assert frame.key and stats is not None and not stats.passthrough
        made.close()


async def test_refusal_for_another_codec_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        monkeypatch.setattr(camera.check, "refusal", lambda profile: "its key frames are 3.0 s apart")
        made = Studio(tasks, camera.passthrough)
        for _ in range(3):
            made.shared.stream("vp8", None, 0)
        assert caplog.messages == ["the source's H.264 is transcoded: its key frames are 3.0 s apart"]
        monkeypatch.setattr(camera.check, "refusal", lambda profile: None)
        made.shared.stream("vp8", None, 0)
        assert caplog.messages[1:] == ["the source's H.264 is transcoded: the viewer has negotiated VP8"]
        made.close()
