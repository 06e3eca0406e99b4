"""The policy around a capture thread: bounds, restarts, watchdog, abandonment."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Generator, Iterator

import av
import pytest

from peer.errors import MediaError
from peer.media.sources import capture
from peer.media.sources.capture import Capture
from peer.media.sources.handoff import Media
from peer.media.test_pattern import Pattern, tone_frame
from tests.waiting import until

_PICTURE = Pattern(64, 64, 30).draw(0)


class Log:
    """What a capture delivered and reported; tests can wait for it."""

    def __init__(self) -> None:
        self.frames: list[Media] = []
        self.reports: list[MediaError | None] = []
        self._changed = asyncio.Event()

    def deliver(self, frame: Media) -> None:
        self.frames.append(frame)
        self._changed.set()

    def report(self, error: MediaError | None) -> None:
        self.reports.append(error)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_BACKOFF", (0.01, 0.04))
    monkeypatch.setattr(capture, "_STOP_TIMEOUT", 0.2)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """The event that a stuck read waits for. Set at the end of the test, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("capture "):
            thread.join(5)


def _endless(stop: threading.Event) -> Generator[Media, None, None]:
    while not stop.wait(0.001):
        yield _PICTURE


async def test_capture_delivers_in_the_loop_until_stopped(log: Log) -> None:
    where: list[int] = []
    source = Capture(
        "x", _endless, lambda f: (where.append(threading.get_ident()), log.deliver(f))[1], log.report, reopen=True
    )
    source.start()
    await log.until(lambda: len(log.frames) > 3)
    assert set(where) == {threading.get_ident()}
    await source.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "capture x"]
    assert not source.running


async def test_capture_of_file_ends_until_started_again(log: Log) -> None:
    def once(stop: threading.Event) -> Generator[Media, None, None]:
        yield _PICTURE

    source = Capture("clip", once, log.deliver, log.report, reopen=False)
    source.start()
    await log.until(lambda: len(log.frames) == 1)
    for thread in threading.enumerate():
        if thread.name == "capture clip":
            await asyncio.to_thread(thread.join, 5)
    await asyncio.sleep(0)  # for the thread's last call into the loop
    assert source.finished
    assert (log.reports, source.running) == ([], False)
    source.start()
    await log.until(lambda: len(log.frames) == 2)
    await source.close()


async def test_capture_lost_device_is_reopened_and_reported_once(log: Log) -> None:
    tries = 0

    def plugged_out_for_a_while(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal tries
        tries += 1
        if 1 < tries < 5:
            raise OSError(errno.ENODEV, "No such device")
        yield _PICTURE
        if tries == 1:
            raise OSError(errno.ENODEV, "No such device")
        yield _PICTURE
        stop.wait(5)

    source = Capture("/dev/video0", plugged_out_for_a_while, log.deliver, log.report, reopen=True)
    source.start()
    await log.until(lambda: len(log.reports) == 2)
    error, back = log.reports
    assert error is not None
    assert "unplugged" in str(error)
    assert back is None
    assert (tries, len(log.frames)) == (5, 2)
    await source.close()


async def test_capture_single_old_frame_is_not_a_recovery(log: Log) -> None:
    tries = 0

    def freezes_as_v4l2loopback_does(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal tries
        tries += 1
        yield _PICTURE
        if tries == 4:
            yield _PICTURE
            stop.wait(5)
        raise OSError(errno.EIO, "I/O error")

    source = Capture("cam", freezes_as_v4l2loopback_does, log.deliver, log.report, reopen=True)
    source.start()
    await log.until(lambda: None in log.reports)
    assert (tries, len(log.reports), len(log.frames)) == (4, 2, 2)
    await source.close()


async def test_capture_device_end_without_error_is_a_loss(log: Log) -> None:
    def ends(stop: threading.Event) -> Generator[Media, None, None]:
        yield _PICTURE
        yield _PICTURE

    source = Capture("x", ends, log.deliver, log.report, reopen=True)
    source.start()
    await log.until(lambda: len(log.frames) >= 2 and log.reports)
    assert log.reports[0] is not None
    await source.close()


async def test_capture_stalled_camera_is_abandoned_and_reopened(log: Log, stuck: threading.Event) -> None:
    tries = 0
    woken = threading.Event()

    def freezes(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal tries
        tries += 1
        yield _PICTURE
        if tries == 1:
            stuck.wait(30)
        yield _PICTURE
        stop.wait(5)

    source = Capture("cam", freezes, log.deliver, log.report, reopen=True, stall=0.1, interrupt=woken.set)
    source.start()
    await log.until(lambda: None in log.reports)
    assert "delivered nothing" in str(log.reports[0])
    assert woken.wait(5)
    assert len(log.frames) == 2
    stuck.set()  # the abandoned thread returns, and its frame must be ignored
    await source.close()
    assert len(log.frames) == 2


async def test_capture_stall_right_after_opening_is_noticed(
    log: Log, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_OPEN_TIMEOUT", 600.0)

    def freezes(stop: threading.Event) -> Generator[Media, None, None]:
        yield _PICTURE
        stuck.wait(30)

    source = Capture("cam", freezes, log.deliver, log.report, reopen=True, stall=0.1)
    source.start()
    await log.until(lambda: log.reports)
    assert "delivered nothing" in str(log.reports[0])
    stuck.set()
    await source.close()


async def test_capture_abandons_at_most_three_threads(log: Log, stuck: threading.Event) -> None:
    tries = 0

    def always_freezes(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal tries
        tries += 1
        yield _PICTURE
        yield _PICTURE
        stuck.wait(30)

    source = Capture("cam", always_freezes, log.deliver, log.report, reopen=True, stall=0.02)
    source.start()
    await until(lambda: tries == 3)
    with pytest.raises(TimeoutError):
        await until(lambda: tries > 3, 0.4)
    source.stop()


async def test_capture_waits_for_previous_thread_before_opening(
    log: Log, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_STOP_TIMEOUT", 10.0)
    open_now = 0
    at_once: list[int] = []

    def exclusive(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal open_now
        open_now += 1
        at_once.append(open_now)
        try:
            yield _PICTURE
            stop.wait(5)
            stuck.wait(0.1)  # closing a camera takes a while
        finally:
            open_now -= 1

    source = Capture("cam", exclusive, log.deliver, log.report, reopen=True)
    source.start()
    await log.until(lambda: len(log.frames) == 1)
    source.stop()
    source.start()
    await log.until(lambda: len(log.frames) == 2)
    await source.close()
    assert at_once == [1, 1]


async def test_capture_close_abandons_a_stuck_thread(
    log: Log, stuck: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    in_read = threading.Event()

    def freezes(stop: threading.Event) -> Generator[Media, None, None]:
        yield _PICTURE
        in_read.set()
        stuck.wait(30)

    source = Capture("cam", freezes, log.deliver, log.report, reopen=True)
    source.start()
    assert await asyncio.to_thread(in_read.wait, 5)
    async with asyncio.timeout(10):
        await source.close()
    assert "abandoned" in caplog.text


async def test_capture_busy_loop_gets_newest_and_counts_drops(log: Log) -> None:
    posted = threading.Event()

    def flood(stop: threading.Event) -> Generator[Media, None, None]:
        for n in range(100):
            yield Pattern(64, 64, 1).draw(n)
            yield tone_frame(n * 960)
        posted.set()
        stop.wait(5)

    source = Capture("flood", flood, log.deliver, log.report, reopen=True)
    source.start()
    assert posted.wait(5)  # blocks the loop on purpose
    await log.until(lambda: len(log.frames) >= 52)
    pictures = [frame.time for frame in log.frames if isinstance(frame, av.VideoFrame)]
    assert pictures[-1] == 99
    assert source.dropped == 200 - len(log.frames)
    await source.close()


async def test_capture_reader_bug_is_logged_and_retried(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    def buggy(stop: threading.Event) -> Generator[Media, None, None]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("oops")
        yield _PICTURE
        yield _PICTURE
        stop.wait(5)

    source = Capture("x", buggy, log.deliver, log.report, reopen=True)
    source.start()
    await log.until(lambda: len(log.frames) == 1)
    assert "internal error" in str(log.reports[0])
    assert "internal error in its reader" in caplog.text
    await source.close()


def test_capture_thread_ends_with_a_closed_loop() -> None:
    threads: list[threading.Thread] = []

    async def main() -> None:
        first = asyncio.Event()
        source = Capture("orphan", _endless, lambda frame: first.set(), lambda error: None, reopen=True)
        source.start()
        await first.wait()
        threads.extend(thread for thread in threading.enumerate() if thread.name == "capture orphan")

    asyncio.run(main())
    threads[0].join(5)
    assert not threads[0].is_alive()
