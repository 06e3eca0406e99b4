"""The video that one call sends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from peer.media.fanout import Fanout, Reader
from peer.media.frames import VIDEO_TIME_BASE, OutgoingFrame, media_time
from peer.media.outgoing import rung_selector, track
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.quality_ladder import ladder
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import KEY_FRAME_BURST, OutgoingVideo
from peer.media.outgoing.video_encoding import EncoderCounters
from peer.request_budget import RequestBudget
from peer.rtp.packetizer import fits

from .studio import SIZE, Camera, Studio, h264_stream, studio


@pytest.fixture
def frequent_selection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Select the rung at each frame."""
    monkeypatch.setattr(track, "SELECT_INTERVAL", 0.01)
    yield


async def test_encoder_counters_start_when_the_viewer_comes() -> None:
    async with studio() as made:
        first = made.viewer()
        for _ in range(5):
            await made.show(first)
        made.shared.encoding("vp8", 0).counters.dropped = 1000
        second = made.viewer()
        stats = second.stats()
        assert stats is not None and stats.encoder == EncoderCounters()
        while stats is None or not stats.encoder.frames:
            await made.show(second)
            stats = second.stats()
        assert stats.encoder.frames < 5 and stats.encoder.dropped < 100


async def test_stop_ends_a_pending_get() -> None:
    async with studio() as made:
        for viewer in (made.viewer(), OutgoingAudio(SharedAudio(asyncio.TaskGroup(), Fanout()))):
            waiting = asyncio.ensure_future(viewer.get())
            asyncio.get_running_loop().call_soon(viewer.stop)
            with pytest.raises(StopAsyncIteration):
                while True:
                    async with asyncio.timeout(5):
                        await waiting
                    waiting = asyncio.ensure_future(viewer.get())


async def test_slow_viewer_moves_down_and_the_other_keeps_its_rung(frequent_selection: None) -> None:
    async with studio() as made:
        slow, fast = made.viewer(), made.viewer()
        frames = await made.show(slow, fast)
        sizes, changes = {SIZE}, []
        while len(sizes) < 2:
            slow.set_estimate(20_000)
            slow.add_report(0.5, 0.02)
            frame, theirs = await made.show(slow, fast)
            assert theirs.size == SIZE
            if frame.size not in sizes and frame.size is not None:
                sizes.add(frame.size)
                changes.append(frame)
            assert frame.timestamp > frames[0].timestamp
            frames = [frame]
        assert changes[0].key, "the first frame of the new size is decodable"
        stats, other = slow.stats(), fast.stats()
        assert stats is not None and other is not None
        assert (stats.width, stats.height) == changes[0].size and stats.rung > 0 == other.rung
        smallest = ladder(*SIZE, 30)[-1]
        assert changes[0].size in {(rung.width, rung.height) for rung in ladder(*SIZE, 30)[1:]}, smallest


class ScriptedStream:
    """A stream whose frames the test makes, so that it controls the lag between two encoders."""

    def __init__(self) -> None:
        self.frames: Fanout[OutgoingFrame] = Fanout()
        self.requests = 0

    def read(self) -> Reader[OutgoingFrame]:
        return self.frames.read(60)

    def request_key_frame(self) -> None:
        self.requests += 1

    def put(self, timestamp: int, *, key: bool = False) -> None:
        self.frames.put(OutgoingFrame((bytes(1000),) * 30, timestamp, key, SIZE))


@asynccontextmanager
async def scripted_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[OutgoingVideo, list[ScriptedStream]]]:
    """Yield a viewer and four streams, one per rung. The viewer starts with the first one."""
    made = [ScriptedStream() for _ in range(4)]
    async with asyncio.TaskGroup() as tasks:
        shared_video = SharedVideo(tasks, Fanout(), size=(1280, 720))
        monkeypatch.setattr(shared_video, "stream", lambda codec, profile, rung, mode: made[rung])
        viewer = OutgoingVideo(shared_video)
        viewer.open()
        viewer.start("vp8", can_probe=True)
        yield viewer, made
        viewer.stop()


async def test_stream_that_lags_takes_over_at_its_first_key_frame(
    frequent_selection: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder of a larger size is slower. Its key frame shows a moment already sent at a smaller size."""
    monkeypatch.setattr(rung_selector, "_DOWN_AFTER", 0.05)
    async with scripted_streams(monkeypatch) as (viewer, [best, lower, *_]):
        best.put(0, key=True)
        sent = [await viewer.get()]
        while viewer.stats().rung == 0:  # type: ignore[union-attr]
            viewer.add_report(0.5, 0.02)
            best.put(sent[-1].timestamp + 3000)
            sent.append(await viewer.get())
            await asyncio.sleep(0)
        late = sent[-1].timestamp - 3000
        lower.put(late, key=True)
        for number in (1, 2, 3):
            lower.put(late + number * 3000)
        best.put(sent[-1].timestamp + 3000)
        sent += [await viewer.get() for _ in range(4)]
        assert [frame.key for frame in sent[-4:]] == [True, False, False, False]
        assert all(one.timestamp < other.timestamp for one, other in itertools.pairwise(sent))
        assert sent[-1].timestamp == late + 3 * 3000, "the stream has caught up"
        assert lower.requests == 0


async def test_stalled_viewer_is_sent_no_more_of_its_stream(
    frequent_selection: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rung_selector, "_DOWN_AFTER", 0.0)
    async with scripted_streams(monkeypatch) as (viewer, [best, *_, lowest]):
        best.put(0, key=True)
        await viewer.get()
        waiting = asyncio.ensure_future(viewer.get())
        async with asyncio.timeout(10):
            for n in itertools.count(1):
                viewer.set_estimate(10_000)
                viewer.add_report(0.5, 0.02)
                best.put(n * 3000)
                await asyncio.wait([waiting], timeout=0.01)
                if viewer.stats().rung == 3:  # type: ignore[union-attr]
                    break
                if waiting.done():
                    waiting = asyncio.ensure_future(viewer.get())
        assert not viewer.allow_retransmission(7), "no retransmissions of the abandoned stream"
        viewer.request_key_frame()
        assert (best.requests, lowest.requests) == (0, 1)
        lowest.put(n * 3000, key=True)
        while not (frame := await waiting).key:
            waiting = asyncio.ensure_future(viewer.get())
        assert frame.timestamp >= n * 3000
        assert viewer.allow_retransmission(8)


async def test_started_again_it_continues_with_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_streams(monkeypatch) as (viewer, (best, *_)):
        best.put(0, key=True)
        assert (await viewer.get()).key
        best.put(3000)
        viewer.stop()
        with pytest.raises(StopAsyncIteration):
            await viewer.get()
        viewer.open()
        viewer.start("vp8")
        best.put(6000)
        best.put(9000, key=True)
        frame = await viewer.get()
        assert (frame.timestamp, frame.key) == (9000, True)
        stats = viewer.stats()
        assert stats is not None and stats.frames == 2


async def test_start_while_sending_changes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_streams(monkeypatch) as (viewer, (best, other, *_)):
        best.put(0, key=True)
        await viewer.get()
        waiting = asyncio.ensure_future(viewer.get())
        await asyncio.sleep(0)
        monkeypatch.setattr(viewer._shared, "stream", lambda codec, profile, rung, mode: other)
        viewer.start("h264")
        best.put(3000)
        other.put(6000, key=True)
        async with asyncio.timeout(5):
            assert (await waiting).timestamp == 6000


async def test_flood_of_key_frame_requests_is_limited_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "KEY_FRAME_INTERVAL", 0.2)
    async with scripted_streams(monkeypatch) as (viewer, (best, *_)):
        for _ in range(1000):
            viewer.request_key_frame()
        assert best.requests == KEY_FRAME_BURST
        async with asyncio.timeout(5):
            while best.requests == KEY_FRAME_BURST:
                await asyncio.sleep(0.01)  # the last request is not lost, but waits
        assert best.requests == KEY_FRAME_BURST + 1
        for _ in range(1000):
            viewer.request_key_frame()
        timer = viewer._key_frame_timer
        viewer.stop()
        assert timer is not None and timer.cancelled()


async def test_frames_before_the_first_key_frame_spend_no_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_streams(monkeypatch) as (viewer, (best, *_)):
        for n in range(2 * KEY_FRAME_BURST):  # the encoding runs for others; its next key frame comes within 0.5 s
            best.put(n * 3000)
        best.put(2 * KEY_FRAME_BURST * 3000, key=True)
        assert (await viewer.get()).key and best.requests > 0
        before = best.requests
        viewer.request_key_frame()
        assert best.requests == before + 1


async def test_viewer_that_was_too_slow_continues_at_a_key_frame() -> None:
    async with studio() as made:
        slow, fast = made.viewer(), made.viewer()
        await made.show(slow, fast)
        for _ in range(70):  # more than a reader's queue holds
            await made.show(fast)
        [frame] = await made.show(slow)
        assert frame.key
        stats = slow.stats()
        assert stats is not None and stats.skipped > 0


async def test_passthrough_starts_each_viewer_at_the_last_key_frame() -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.passthrough)
        early = OutgoingVideo(made.shared)
        early.open()
        await camera.deliver(3)
        one = made.viewer("h264", "42e01f")
        async with asyncio.timeout(5):
            assert [(await one.get()).key for _ in range(3)] == [True, False, False]
            other = made.viewer("h264", "42e01f")
            await camera.deliver()
            assert [(await other.get()).key for _ in range(4)] == [True, False, False, False]
        stats = one.stats()
        assert stats is not None and stats.passthrough
        assert made.calls == [], "no frame was decoded or encoded"
        early.stop()
        made.close()
        assert camera.encoded.readers == 0


async def test_frames_after_one_with_a_late_timestamp_are_skipped() -> None:
    """A camera sets its clock back by more than half a second."""
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.passthrough)
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        begin = media_time() / VIDEO_TIME_BASE
        await camera.deliver(1)
        viewer.start("h264", "42e01f")
        for n, frame in enumerate(h264_stream(13)[1:], 1):
            timestamp = begin + n * 3000 + 90_000 - (50_000 if n > 5 else 0)
            camera.encoded.put(replace(frame, timestamp=round(timestamp)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        got = []
        async with asyncio.timeout(10):
            while len(got) < 9:
                got.append(await viewer.get())
        assert [frame.key for frame in got] == [True] + [False] * 5 + [True] + [False] * 2
        viewer.stop()


async def test_passthrough_takes_over_at_the_next_key_frame(frequent_selection: None) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.passthrough)
        viewer = made.viewer("h264", "42e01f")
        [first] = await made.show(viewer)
        assert first.key
        frames = [first]
        while not ((stats := viewer.stats()) and stats.passthrough):
            await camera.deliver()
            frames += await made.show(viewer)
        assert frames[-1].key
        timestamps = [frame.timestamp for frame in frames]
        assert timestamps == sorted(set(timestamps))
        made.close()


async def test_viewer_in_mode_0_gets_no_fragments(frequent_selection: None) -> None:
    """A camera's NAL units become larger than a packet, and later small again."""
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, params=":slice-max-size=1000")
        made = Studio(tasks, camera.passthrough)
        viewer = made.viewer("h264", "42e01f", 0)
        frames: list[OutgoingFrame] = []

        async def show_until(passthrough: bool) -> None:
            async with asyncio.timeout(10):
                while (stats := viewer.stats()) is None or stats.passthrough is not passthrough:
                    await camera.deliver()
                    frames.extend(await made.show(viewer))

        await show_until(passthrough=True)
        camera.upcoming = h264_stream(200)
        await show_until(passthrough=False)
        assert all(frame.packetization_mode == 0 and fits(frame.payloads) for frame in frames)
        made.close()


async def test_viewer_sees_an_encoding_until_the_next_key_frame(
    frequent_selection: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "MAX_LAG", 4500)
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.passthrough)
        camera.passthrough.hold()
        await camera.deliver(4)
        with monkeypatch.context() as patch:
            patch.setattr(camera.passthrough, "refusal", lambda profile, mode: "it is silent")
            viewer = made.viewer("h264", "42e01f")
            await made.show(viewer)
            await asyncio.sleep(0.1)
            await made.show(viewer)
        came: list[OutgoingFrame] = []
        while not ((stats := viewer.stats()) and stats.passthrough):
            encoding = made.shared.encoding("h264", 0)
            encoding._key_requested = False
            viewer._key_frame_budget = RequestBudget(track.KEY_FRAME_INTERVAL, KEY_FRAME_BURST)  # of another viewer
            viewer.request_key_frame()
            assert encoding._key_requested, "the current encoder answers key frame requests"
            await camera.deliver()
            came += await made.show(viewer)
        assert came[-1].key and came[-1].payloads == camera.passthrough._since_key[0].payloads
        assert stats.skipped == 0
        camera.passthrough.release()
        made.close()


async def test_rung_without_viewers_is_not_encoded(frequent_selection: None) -> None:
    async with studio() as made:
        viewer = made.viewer()
        await made.show(viewer)
        while (stats := viewer.stats()) is not None and stats.width == SIZE[0]:
            viewer.set_estimate(20_000)
            viewer.add_report(0.5, 0.02)
            await made.show(viewer)
        full = made.shared.encoding("vp8", 0).counters.frames
        for _ in range(5):
            await made.show(viewer)
        assert made.shared.encoding("vp8", 0).counters.frames <= full + 1
