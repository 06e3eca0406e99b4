"""The speaker: plays the audio of all calls on one ALSA device, in a thread named ``speaker``.

The device is open while at least one call is played. If it fails (unplugged, sound server gone), calls go on.
The failure is reported once, the device is opened again after growing delays, and its return is reported. Audio is
dropped in the meantime.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
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

_RETRY_DELAYS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Delays before the device is opened again, in seconds. The last one repeats."""

_TEST_TIMEOUT: Final = 8.0
"""Maximum time for a device to open, in seconds. A sound server started on demand takes 2 s; some hang forever."""

_JOIN_TIMEOUT: Final = 2.0
"""Maximum time for the thread to end, in seconds. If the device hangs, the thread is abandoned: it is a daemon."""


class Speaker:
    """Playback on ALSA device ``device``; ``auto`` is the default device, if there is one.

    Tasks run in ``tasks``. All public methods must be called in the event loop. ``on_notice(line)`` is called when
    the device fails and when it is back.
    """

    def __init__(self, tasks: asyncio.TaskGroup, device: str, on_notice: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._auto = device == AUTO
        self._device = _DEFAULT_DEVICE if self._auto else device
        self._on_notice = on_notice
        self._mixer = Mixer()
        self._readers: dict[str, Reader[av.AudioFrame]] = {}
        self._wake = threading.Event()
        self._closing = False
        self._abandoned = False
        self._failures = 0  # since the device last played; used by the thread only
        self._open = False
        self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)

    async def open(self) -> bool:
        """Test whether the device can play. For ``auto`` without a device, give a notice and return False.

        ``add`` does nothing after that.

        Raises:
            MediaError: the named device cannot play.
        """
        self._loop = asyncio.get_running_loop()
        self._tested: asyncio.Future[Exception | None] = self._loop.create_future()
        self._thread.start()
        try:
            async with asyncio.timeout(_TEST_TIMEOUT):
                error = await self._tested
        except TimeoutError:
            why = f"it does not answer within {_TEST_TIMEOUT:g} s"
            self._closing = self._abandoned = True  # the thread hangs in the device, and ends if that returns
        else:
            if error is None:
                self._open = True
                return True
            why = _reason(error)
            self._thread.join()
        if not self._auto:
            hint = "`peer devices` lists the devices; --speaker none plays nothing"
            raise MediaError(f"speaker {self._device}", why, hint)
        self._on_notice(f"no speaker: {why}; calls are not played; --speaker none turns this notice off")
        return False

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
        if self._thread.ident is not None and not self._abandoned:
            await in_thread("speaker close", lambda: self._thread.join(_JOIN_TIMEOUT))

    async def _feed(self, key: str, reader: Reader[av.AudioFrame]) -> None:
        async for frame in reader:
            if reader.closed and self._readers.get(key) is not reader:
                return
            self._mixer.push(key, frame)
        if self._readers.get(key) is reader:
            self.remove(key)

    # --- the thread ---

    def _run(self) -> None:
        error = self._test()
        self._call(self._report_test, error)
        if error is not None:
            return
        while self._wait_for_calls():
            try:
                playback = PlaybackDevice(self._device, AUDIO_RATE, LATENCY)
                with contextlib.closing(playback):
                    self._play(playback)
            except Exception as exc:  # a bug in one block of audio must not silence all calls for good
                log.debug("speaker %s", self._device, exc_info=exc)
                if not self._failures:
                    line = f"speaker {self._device}: {_reason(exc)}; calls go on, the speaker is retried"
                    self._call(self._on_notice, line)
                self._wait(_RETRY_DELAYS[min(self._failures, len(_RETRY_DELAYS) - 1)])
                self._failures += 1

    def _test(self) -> Exception | None:
        try:
            PlaybackDevice(self._device, AUDIO_RATE, LATENCY).close()
        except Exception as exc:  # raised by ``open``
            return exc
        return None

    def _wait_for_calls(self) -> bool:
        """Block until there is a call to play. Return False if the speaker is closed."""
        while not self._closing and not len(self._mixer):
            self._wake.wait()
            self._wake.clear()
        return not self._closing

    def _play(self, playback: PlaybackDevice) -> None:
        """Play until no call remains. A real device blocks ``write`` in real time; others are paced here."""
        until = 0.0
        while len(self._mixer) and not self._closing:
            playback.write(self._mixer.mix(AUDIO_FRAME_SAMPLES))
            if self._failures:
                self._failures = 0
                self._call(self._on_notice, f"speaker {self._device} is back")
            now = time.monotonic()
            until = max(until, now) + _MIN_BLOCK
            if until - now > 2 * LATENCY:  # more than a device buffers: ALSA's null and file plugins never block
                time.sleep(until - now - 2 * LATENCY)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _report_test(self, error: Exception | None) -> None:
        if not self._tested.done():
            self._tested.set_result(error)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):  # raised for an ALSA device, which is no file
        return "there is no such audio device"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
