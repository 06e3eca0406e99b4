"""What one call sends of what all calls share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import av
import pytest

from peer.media.fanout import Fanout, Reader
from peer.media.frames import VIDEO_TIME_BASE, EncodedFrame, OutgoingFrame, media_time
from peer.media.outgoing import quality_ladder, shared, track
from peer.media.outgoing.passthrough import PassthroughRelay
from peer.media.outgoing.quality_ladder import ladder
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import OutgoingAudio, OutgoingVideo
from peer.media.outgoing.video_encoding import EncoderCounters
from peer.media.sources.passthrough import PassthroughCheck
from peer.media.test_pattern import Pattern

SIZE = (640, 360)


class Studio:
    """A source, and what is shared of it."""

    def __init__(self, tasks: asyncio.TaskGroup, relay: PassthroughRelay | None = None) -> None:
        self.calls: list[str] = []
        self.pictures: Fanout[av.VideoFrame] = Fanout(
            lambda: self.calls.append("open"), lambda: self.calls.append("close")
        )
        self.shared = SharedVideo(tasks, self.pictures, size=SIZE, relay=relay)
        self._canvas = Pattern(*SIZE, 30)
        self._numbers = itertools.count()
        self._viewers: list[OutgoingVideo] = []

    def draw(self) -> None:
        frame = self._canvas.draw(next(self._numbers))
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.pictures.put(frame)

    def viewer(self, codec: str = "vp8", profile: str | None = None) -> OutgoingVideo:
        made = OutgoingVideo(self.shared)
        made.open()
        made.start(codec, profile)
        self._viewers.append(made)
        return made

    async def show(self, *viewers: OutgoingVideo) -> list[OutgoingFrame]:
        """Draw until each of them has got another picture."""
        waiting = [asyncio.ensure_future(viewer.get()) for viewer in viewers]
        async with asyncio.timeout(20):
            while not all(each.done() for each in waiting):
                self.draw()
                await asyncio.wait(waiting, timeout=0.02)
        return [await each for each in waiting]

    def close(self) -> None:
        for viewer in self._viewers:
            viewer.stop()


@asynccontextmanager
async def studio() -> AsyncIterator[Studio]:
    async with asyncio.TaskGroup() as tasks:
        made = Studio(tasks)
        try:
            yield made
        finally:
            made.close()


async def test_viewers_of_one_codec_get_the_same_packets() -> None:
    async with studio() as made:
        one, other = made.viewer(), made.viewer()
        first = await made.show(one, other)
        then = await made.show(one, other)
        assert first[0] is first[1] and then[0] is then[1]
        assert first[0].key and first[0].size == SIZE


async def test_viewers_of_two_codecs_get_pictures_of_one_source() -> None:
    async with studio() as made:
        vp8, h264 = await made.show(made.viewer("vp8"), made.viewer("h264"))
        assert vp8.key and h264.key and vp8.payloads != h264.payloads
        assert made.calls == ["open"]


async def test_the_source_is_open_from_the_ring_to_the_last_stop() -> None:
    async with studio() as made:
        ringing = OutgoingVideo(made.shared)
        assert made.calls == []
        ringing.open()
        assert made.calls == ["open"]
        viewer = made.viewer()
        ringing.stop()
        await made.show(viewer)
        assert made.calls == ["open"]
        viewer.stop()
        viewer.stop()
        assert made.calls == ["open", "close"]


async def test_a_picture_that_came_while_it_rang_is_sent_at_once() -> None:
    async with studio() as made:
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        made.draw()
        viewer.start("vp8")
        async with asyncio.timeout(5):
            assert (await viewer.get()).key
        assert made.shared.encoding("vp8", 0).counters.frames == 1
        viewer.stop()


async def test_a_picture_from_before_the_source_fell_silent_is_not_shown_to_who_comes_much_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "HOLD", 0.1)
    async with studio() as made:
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        frame = Pattern(*SIZE, 30).draw(0)
        now = media_time()
        frame.pts = round((now - 0.5) / VIDEO_TIME_BASE)
        made.pictures.put(frame)
        viewer.start("vp8")
        async with asyncio.timeout(5):
            card = await viewer.get()
        assert card.timestamp * VIDEO_TIME_BASE >= now
        viewer.stop()


async def test_a_viewer_is_told_of_what_was_encoded_for_it_and_not_before() -> None:
    async with studio() as made:
        first = made.viewer()
        for _ in range(5):
            await made.show(first)
        made.shared.encoding("vp8", 0).counters.dropped = 1000
        second = made.viewer()
        figures = second.figures()
        assert figures is not None and figures.encoder == EncoderCounters()
        while figures is None or not figures.encoder.frames:
            await made.show(second)
            figures = second.figures()
        assert figures.encoder.frames < 5 and figures.encoder.dropped < 100


async def test_stop_ends_a_get_that_waits() -> None:
    async with studio() as made:
        for viewer in (made.viewer(), OutgoingAudio(SharedAudio(asyncio.TaskGroup(), Fanout()))):
            waiting = asyncio.ensure_future(viewer.get())
            asyncio.get_running_loop().call_soon(viewer.stop)
            with pytest.raises(StopAsyncIteration):
                while True:
                    async with asyncio.timeout(5):
                        await waiting
                    waiting = asyncio.ensure_future(viewer.get())


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks at what a viewer has room for at each picture."""
    monkeypatch.setattr(track, "LOOK", 0.01)
    yield


async def test_a_slow_viewer_moves_to_a_smaller_picture_and_the_other_keeps_its_own(often: None) -> None:
    async with studio() as made:
        slow, fast = made.viewer(), made.viewer()
        frames = await made.show(slow, fast)
        sizes, changes = {SIZE}, []
        while len(sizes) < 2:
            slow.estimate(20_000)
            slow.report(0.5, 0.02)
            frame, theirs = await made.show(slow, fast)
            assert theirs.size == SIZE
            if frame.size not in sizes and frame.size is not None:
                sizes.add(frame.size)
                changes.append(frame)
            assert frame.timestamp > frames[0].timestamp
            frames = [frame]
        assert changes[0].key, "the first of the new size can be decoded"
        figures, other = slow.figures(), fast.figures()
        assert figures is not None and other is not None
        assert (figures.width, figures.height) == changes[0].size and figures.rung > 0 == other.rung
        smallest = ladder(*SIZE, 30)[-1]
        assert changes[0].size in {(rung.width, rung.height) for rung in ladder(*SIZE, 30)[1:]}, smallest


class Lane:
    """A coding whose frames the test makes: how far two encoders are apart is up to it."""

    def __init__(self) -> None:
        self.frames: Fanout[OutgoingFrame] = Fanout()
        self.asked = 0

    def read(self) -> Reader[OutgoingFrame]:
        return self.frames.read(60)

    def request_key_frame(self) -> None:
        self.asked += 1

    def put(self, timestamp: int, *, key: bool = False) -> None:
        self.frames.put(OutgoingFrame((bytes(1000),) * 30, timestamp, key, SIZE))


@asynccontextmanager
async def lanes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[OutgoingVideo, list[Lane]]]:
    """A viewer on the first of four lanes, one a rung."""
    made = [Lane() for _ in range(4)]
    async with asyncio.TaskGroup() as tasks:
        shared = SharedVideo(tasks, Fanout(), size=(1280, 720))
        monkeypatch.setattr(shared, "coding", lambda codec, profile, rung: made[rung])
        viewer = OutgoingVideo(shared)
        viewer.open()
        viewer.start("vp8", can_probe=True)
        yield viewer, made
        viewer.stop()


async def test_a_coding_that_lags_behind_takes_over_with_its_first_key_frame(
    often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a larger picture is always slower: it has no key frame that was not sent already, small."""
    monkeypatch.setattr(quality_ladder, "_DOWN_AFTER", 0.05)
    async with lanes(monkeypatch) as (viewer, [whole, less, *_]):
        whole.put(0, key=True)
        sent = [await viewer.get()]
        while viewer.figures().rung == 0:  # type: ignore[union-attr]
            viewer.report(0.5, 0.02)
            whole.put(sent[-1].timestamp + 3000)
            sent.append(await viewer.get())
            await asyncio.sleep(0)
        late = sent[-1].timestamp - 3000
        less.put(late, key=True)
        for behind in (1, 2, 3):
            less.put(late + behind * 3000)
        whole.put(sent[-1].timestamp + 3000)
        sent += [await viewer.get() for _ in range(4)]
        assert [frame.key for frame in sent[-4:]] == [True, False, False, False]
        assert all(one.timestamp < other.timestamp for one, other in itertools.pairwise(sent))
        assert sent[-1].timestamp == late + 3 * 3000, "it has caught up"
        assert less.asked == 0


async def test_who_gets_hardly_anything_is_sent_no_more_of_it(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_ladder, "_DOWN_AFTER", 0.0)
    async with lanes(monkeypatch) as (viewer, [whole, *_, least]):
        whole.put(0, key=True)
        await viewer.get()
        waiting = asyncio.ensure_future(viewer.get())
        async with asyncio.timeout(10):
            for n in itertools.count(1):
                viewer.estimate(10_000)
                viewer.report(0.5, 0.02)
                whole.put(n * 3000)
                await asyncio.wait([waiting], timeout=0.01)
                if viewer.figures().rung == 3:  # type: ignore[union-attr]
                    break
                if waiting.done():
                    waiting = asyncio.ensure_future(viewer.get())
        assert not viewer.missed(7), "what is lost of it stays so"
        viewer.request_key_frame()
        assert (whole.asked, least.asked) == (0, 1)
        least.put(n * 3000, key=True)
        while not (frame := await waiting).key:
            waiting = asyncio.ensure_future(viewer.get())
        assert frame.timestamp >= n * 3000
        assert viewer.missed(8)


async def test_nobody_on_a_rung_means_no_encoding_of_it(often: None) -> None:
    async with studio() as made:
        viewer = made.viewer()
        await made.show(viewer)
        while (figures := viewer.figures()) is not None and figures.width == SIZE[0]:
            viewer.estimate(20_000)
            viewer.report(0.5, 0.02)
            await made.show(viewer)
        full = made.shared.encoding("vp8", 0).counters.frames
        for _ in range(5):
            await made.show(viewer)
        assert made.shared.encoding("vp8", 0).counters.frames <= full + 1


async def test_a_viewer_that_was_too_slow_goes_on_at_a_key_frame() -> None:
    async with studio() as made:
        slow, fast = made.viewer(), made.viewer()
        await made.show(slow, fast)
        for _ in range(70):  # more than waits for anybody
            await made.show(fast)
        [frame] = await made.show(slow)
        assert frame.key
        figures = slow.figures()
        assert figures is not None and figures.skipped > 0


# --- H.264 of the source ---


def stream(count: int) -> list[EncodedFrame]:
    """Pictures of a Constrained Baseline stream, each tenth a key frame."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
    context.time_base, context.profile = VIDEO_TIME_BASE, "Baseline"
    context.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "10", "x264-params": "keyint=10:scenecut=0"}
    canvas, coded = Pattern(*SIZE, 30), []
    for n in range(count):
        frame = canvas.draw(n)
        frame.pts = n * 3000
        [packet] = context.encode(frame)
        coded.append(
            EncodedFrame(
                kind="video",
                codec="h264",
                data=bytes(packet),
                timestamp=n * 3000,
                clock_rate=90_000,
                key=packet.is_keyframe,
                arrival=0.0,
                ntp=None,
            )
        )
    return coded


class Camera:
    """H.264 that a source delivers."""

    def __init__(self, tasks: asyncio.TaskGroup, max_bitrate: int | None = None) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.passthrough = PassthroughCheck()
        self.relay = PassthroughRelay(tasks, self.encoded, self.passthrough, max_bitrate)
        self.coming = stream(200)

    async def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            now = round(media_time() / VIDEO_TIME_BASE)
            frame = replace(self.coming.pop(0), timestamp=now)
            self.passthrough.observe(frame)
            self.encoded.put(frame)
            await asyncio.sleep(0)
            await asyncio.sleep(0)


async def test_h264_of_the_source_is_sent_as_it_came_and_who_comes_later_begins_at_its_key_frame() -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.relay)
        ringing = OutgoingVideo(made.shared)
        ringing.open()
        await camera.deliver(3)
        one = made.viewer("h264", "42e01f")
        async with asyncio.timeout(5):
            assert [(await one.get()).key for _ in range(3)] == [True, False, False]
            other = made.viewer("h264", "42e01f")
            await camera.deliver()
            assert [(await other.get()).key for _ in range(4)] == [True, False, False, False]
        figures = one.figures()
        assert figures is not None and figures.passthrough
        assert made.calls == [], "no picture was decoded, none encoded"
        ringing.stop()
        made.close()
        assert camera.encoded.readers == 0


async def test_pictures_that_refer_to_one_that_came_too_late_to_be_sent_are_not_sent_either() -> None:
    """A camera that sets its clock back by more than half a second."""
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.relay)
        viewer = OutgoingVideo(made.shared)
        viewer.open()
        begin = media_time() / VIDEO_TIME_BASE
        await camera.deliver(1)
        viewer.start("h264", "42e01f")
        for n, frame in enumerate(stream(13)[1:], 1):
            moment = begin + n * 3000 + 90_000 - (50_000 if n > 5 else 0)
            camera.encoded.put(replace(frame, timestamp=round(moment)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        got = []
        async with asyncio.timeout(10):
            while len(got) < 9:
                got.append(await viewer.get())
        assert [frame.key for frame in got] == [True] + [False] * 5 + [True] + [False] * 2
        viewer.stop()


async def test_who_cannot_take_it_gets_it_encoded_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.relay)
        viewer = made.viewer("vp8")
        await camera.deliver(2)
        [frame] = await made.show(viewer)
        figures = viewer.figures()
        assert frame.key and figures is not None and not figures.passthrough
        made.close()


async def test_what_was_not_seen_yet_is_taken_over_at_its_next_key_frame(often: None) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.relay)
        viewer = made.viewer("h264", "42e01f")
        [first] = await made.show(viewer)
        assert first.key
        frames = [first]
        while not ((figures := viewer.figures()) and figures.passthrough):
            await camera.deliver()
            frames += await made.show(viewer)
        assert frames[-1].key
        stamps = [frame.timestamp for frame in frames]
        assert stamps == sorted(set(stamps))
        made.close()


async def test_who_comes_to_a_stream_long_after_its_key_frame_sees_the_encoded_picture_until_the_next(
    often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "LAG", 4500)
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        made = Studio(tasks, camera.relay)
        camera.relay.hold()
        await camera.deliver(4)
        with monkeypatch.context() as patch:
            patch.setattr(camera.relay, "refusal", lambda profile: "it is silent")
            viewer = made.viewer("h264", "42e01f")
            await made.show(viewer)
            await asyncio.sleep(0.1)
            await made.show(viewer)
        came: list[OutgoingFrame] = []
        while not ((figures := viewer.figures()) and figures.passthrough):
            encoding = made.shared.encoding("h264", 0)
            encoding._key_wanted = False
            viewer.request_key_frame()
            assert encoding._key_wanted, "it may lose a picture meanwhile"
            await camera.deliver()
            came += await made.show(viewer)
        assert came[-1].key and came[-1].payloads == camera.relay._since_key[0].payloads
        assert figures.skipped == 0
        camera.relay.release()
        made.close()


async def test_more_bitrate_than_was_allowed_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, max_bitrate=10_000)
        camera.relay.hold()
        clock = itertools.count(1000, 1)
        monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: next(clock) * 0.5)
        await camera.deliver(20)
        why = camera.relay.refusal("42e01f")
        assert why is not None and "kbit/s" in why
        camera.relay.release()


async def test_a_bitrate_that_swings_around_what_is_allowed_changes_nothing_to_and_fro(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: now[0])
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, max_bitrate=1_000_000)
        camera.relay.hold()
        [frame] = stream(1)
        said = []
        for step in range(100):
            now[0] += 0.5
            size = 80_000 if step < 50 and step // 10 % 2 else 50_000
            coded = replace(
                frame, data=frame.data + bytes([1]) * size, arrival=now[0], timestamp=round(now[0] * 90_000)
            )
            camera.passthrough.observe(coded)
            camera.encoded.put(coded)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            said.append(camera.relay.refusal("42e01f") is None)
        assert [fits for fits, _ in itertools.groupby(said)] == [True, False]
        now[0] += 30
        camera.relay._at = now[0]
        assert camera.relay.refusal("42e01f") is None
        camera.relay.release()


async def test_what_becomes_of_it_is_said_once_a_profile_whatever_the_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with asyncio.TaskGroup() as tasks:
        relay = Camera(tasks).relay
        for n in range(100):
            relay.tell("64001f", None)
            relay.tell("42e01f", f"a key frame only each {n / 10:.1f} s")
        assert len(caplog.records) == 2
        relay.tell("42e01f", "it has B-frames")
        assert caplog.messages[-1] == "H.264 of the source is encoded anew: it has B-frames"


async def test_who_takes_another_codec_than_an_unfit_source_has_is_told_why_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        monkeypatch.setattr(camera.passthrough, "refusal", lambda profile: "a key frame only each 3.0 s")
        made = Studio(tasks, camera.relay)
        for _ in range(3):
            made.shared.coding("vp8", None, 0)
        assert caplog.messages == ["H.264 of the source is encoded anew: a key frame only each 3.0 s"]
        monkeypatch.setattr(camera.passthrough, "refusal", lambda profile: None)
        made.shared.coding("vp8", None, 0)
        assert caplog.messages[1:] == ["H.264 of the source is encoded anew: the viewer takes VP8"]
        made.close()


async def test_a_silent_source_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        camera.relay.hold()
        await camera.deliver(3)
        assert camera.relay.refusal("42e01f") is None
        later = media_time() + 2
        monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: later)
        assert camera.relay.refusal("42e01f") == "it is silent"
        camera.relay.release()
