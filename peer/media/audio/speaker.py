"""The speaker: plays the audio of all calls on one ALSA device, in a thread named ``speaker``.

The device is open while at least one call is played. If it fails (unplugged, sound server gone) or hangs, calls go
on. The failure is reported once, the device is opened again until it plays, and its return is reported. Audio is
dropped in the meantime. A thread that hangs in the device is replaced; it ends when the device returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import av

from ...errors import MediaError
from ..fanout import Fanout, Reader
from ..frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE
from ..threads import in_thread
from .mixer import Mixer
from .pcm import PlaybackDevice

log = logging.getLogger(__name__)

AUTO: Final = "auto"

_DEFAULT_DEVICE: Final = "default"

LATENCY: Final = 0.08
"""Audio buffered in the device, in seconds."""

_MIN_BLOCK: Final = AUDIO_FRAME_SAMPLES / AUDIO_RATE * 0.999
"""Duration of one block on the fastest device, in seconds. Device clocks are at most 0.1% faster than ours."""

_RETRY_DELAYS: Final = (0.5, 1.0, 1.5)
"""Delays before the device is opened again, in seconds. The last one repeats: its return is heard within 3 s."""

_STALL: Final = 2.5
"""Time without progress after which the thread counts as stuck in the device, in seconds. ALSA waits 10 s for a sound
card that was unplugged, and a sound server that hangs never returns."""

_MAX_ABANDONED: Final = 3
"""Maximum number of stuck threads. Beyond it the device is not opened again until one of them returns."""

_TEST_TIMEOUT_UNATTENDED: Final = 2.0
"""As ``_TEST_TIMEOUT``, for a node that joins in any case, in seconds."""

_TEST_TIMEOUT: Final = 8.0
"""Maximum time for a device to open, in seconds. A sound server started on demand takes 2 s; some hang forever."""

_JOIN_TIMEOUT: Final = 2.0
"""Maximum time for the thread to end, in seconds. If the device hangs, the thread is abandoned: it is a daemon."""


@dataclass(frozen=True, slots=True)
class SpeakerLost:
    """The device cannot play; it is opened again until it can."""

    device: str
    why: str


@dataclass(frozen=True, slots=True)
class SpeakerBack:
    """The device plays again, ``seconds`` after it was lost."""

    device: str
    seconds: float


class Speaker:
    """Playback on ALSA device ``device``; ``auto`` is the default device, if there is one.

    Tasks run in ``tasks``. All public methods must be called in the event loop. ``on_notice(line)`` and
    ``on_state(state)`` are called when the device fails and when it is back. An ``unattended`` speaker that cannot
    play at first is used once it can.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        device: str,
        on_notice: Callable[[str], None],
        on_state: Callable[[SpeakerLost | SpeakerBack], None] = lambda state: None,
        *,
        unattended: bool = False,
    ) -> None:
        self._tasks = tasks
        self._auto = device == AUTO
        self._device = _DEFAULT_DEVICE if self._auto else device
        self._on_notice = on_notice
        self._on_state = on_state
        self._unattended = unattended
        self._mixer = Mixer()
        self._readers: dict[str, Reader[av.AudioFrame]] = {}
        self._wake = threading.Event()
        self._closing = False
        self._open = False
        self._failures = 0
        """Failures since the device last played. Used by the current thread only."""
        self._lost_at: float | None = None
        """When the device was lost; ``None`` while it works."""
        self._busy_since: float | None = None
        """When the current thread entered the device; ``None`` while it is outside. Set by that thread."""
        self._stuck: list[threading.Thread] = []
        self._watch_timer: asyncio.TimerHandle | None = None
        self._thread = self._new_thread(test=True)

    async def open(self) -> bool:
        """Test whether the device can play. For ``auto`` without a device, give a notice and return False.

        ``add`` does nothing after that, unless the speaker is unattended.

        Raises:
            MediaError: the named device cannot play, and the speaker is not unattended.
        """
        self._loop = asyncio.get_running_loop()
        self._tested: asyncio.Future[Exception | None] = self._loop.create_future()
        self._thread.start()
        timeout = _TEST_TIMEOUT_UNATTENDED if self._unattended else _TEST_TIMEOUT
        try:
            async with asyncio.timeout(timeout):
                error = await self._tested
        except TimeoutError:
            error = TimeoutError(f"it does not answer within {timeout:g} s")
            self._stuck.append(self._thread)
        if error is None or self._unattended:
            self._open = True
            self._watch()
            if error is None:
                return True
            why = _reason(error)
            notice = f"no speaker: {why}; it is tried again; --speaker none turns this notice off"
            self._report_loss(why, notice if self._auto else None)
            if self._thread in self._stuck:
                self._thread = self._new_thread()
                self._thread.start()
            return False
        self._closing = True
        if self._thread not in self._stuck:
            self._thread.join()
        why = _reason(error)
        if not self._auto:
            hint = "`peer devices` lists the devices; --speaker none plays nothing"
            raise MediaError(f"speaker {self._device}", why, hint)
        self._on_notice(f"no speaker: {why}; calls are not played; --speaker none turns this notice off")
        return False

    def retry_now(self) -> None:
        """Open a lost device now instead of after the rest of its delay."""
        if self._lost_at is not None:
            self._wake.set()

    def add(self, key: str, audio: Fanout[av.AudioFrame]) -> None:
        """Play ``audio`` until it closes or ``remove`` is called. It replaces the previous one of ``key``."""
        if not self._open:
            return
        self.remove(key)
        reader = self._readers[key] = audio.read(8)
        self._mixer.add(key)
        self._wake.set()
        self._tasks.create_task(self._feed(key, reader), name=f"speaker {key}")

    def remove(self, key: str) -> None:
        """Stop playing ``key``."""
        reader = self._readers.pop(key, None)
        if reader is not None:
            reader.close()
            self._mixer.remove(key)

    async def close(self) -> None:
        """Stop playing and close the device. May be called twice."""
        for key in list(self._readers):
            self.remove(key)
        self._open = False
        self._closing = True
        self._wake.set()
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._thread.ident is not None and self._thread not in self._stuck:
            await in_thread("speaker close", lambda: self._thread.join(_JOIN_TIMEOUT))

    async def _feed(self, key: str, reader: Reader[av.AudioFrame]) -> None:
        async for frame in reader:
            if reader.closed and self._readers.get(key) is not reader:
                return
            self._mixer.push(key, frame)
        if self._readers.get(key) is reader:
            self.remove(key)

    def _report_loss(self, why: str, notice: str | None = None) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._on_notice(notice or f"speaker {self._device}: {why}; calls go on, the speaker is retried")
            self._on_state(SpeakerLost(self._device, why))

    def _report_playing(self) -> None:
        if self._lost_at is not None:
            lost_at, self._lost_at = self._lost_at, None
            self._on_notice(f"speaker {self._device} is back")
            self._on_state(SpeakerBack(self._device, time.monotonic() - lost_at))

    def _watch(self) -> None:
        """Replace the thread if it is stuck in the device."""
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > _STALL:
            self._stuck = [thread for thread in self._stuck if thread.is_alive()]
            if len(self._stuck) < _MAX_ABANDONED:
                self._stuck.append(self._thread)
                self._busy_since = None
                self._report_loss(f"it has not played for {_STALL:g} s")
                self._thread = self._new_thread()
                self._thread.start()
        self._watch_timer = self._loop.call_later(_STALL / 5, self._watch)

    def _new_thread(self, *, test: bool = False) -> threading.Thread:
        return threading.Thread(target=self._run, args=(test,), name="speaker", daemon=True)

    # --- the thread ---

    def _is_current(self) -> bool:
        """Whether this thread has not been replaced."""
        return threading.current_thread() is self._thread

    def _run(self, test: bool) -> None:
        error = self._test() if test else None
        self._call(self._report_test, error)
        if error is not None and not self._unattended:
            return
        while self._wait_for_calls():
            try:
                self._busy_since = time.monotonic()
                with contextlib.closing(PlaybackDevice(self._device, AUDIO_RATE, LATENCY)) as playback:
                    self._play(playback)
            except Exception as exc:  # a bug in one block of audio must not silence all calls for good
                if not self._is_current():
                    return
                self._busy_since = None
                log.debug("speaker %s", self._device, exc_info=exc)
                self._call(self._report_loss, _reason(exc))
                self._wait(_RETRY_DELAYS[min(self._failures, len(_RETRY_DELAYS) - 1)])
                self._failures += 1

    def _test(self) -> Exception | None:
        try:
            PlaybackDevice(self._device, AUDIO_RATE, LATENCY).close()
        except Exception as exc:  # raised by ``open``
            return exc
        return None

    def _wait_for_calls(self) -> bool:
        """Block until there is a call to play. Return False if the speaker is closed or this thread replaced."""
        while self._is_current() and not self._closing and not len(self._mixer):
            self._busy_since = None
            self._wake.wait()
            self._wake.clear()
        return self._is_current() and not self._closing

    def _play(self, playback: PlaybackDevice) -> None:
        """Play until no call remains. A real device blocks ``write`` in real time; others are paced here."""
        until = 0.0
        while len(self._mixer) and not self._closing and self._is_current():
            self._busy_since = time.monotonic()
            playback.write(self._mixer.mix(AUDIO_FRAME_SAMPLES))
            if not self._is_current():
                return
            self._failures = 0
            if self._lost_at is not None:
                self._call(self._report_playing)
            now = time.monotonic()
            until = max(until, now) + _MIN_BLOCK
            if until - now > 2 * LATENCY:  # more than a device buffers: ALSA's null and file plugins never block
                time.sleep(until - now - 2 * LATENCY)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            if self._wake.wait(left):
                self._wake.clear()
                return

    def _report_test(self, error: Exception | None) -> None:
        if not self._tested.done():  # not after a time-out
            self._tested.set_result(error)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):  # raised for an ALSA device, which is no file
        return "there is no such audio device"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
