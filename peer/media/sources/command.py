"""A program as a source (``exec:COMMAND``): H.264, MPEG-TS, MJPEG or any other live stream on its standard output.

The program runs while the source has a viewer, in a process group of its own, which is gone within 2 s of the end.
It is started without a shell. A program that ends is started again, like a camera that was unplugged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from typing import IO, Final

import av

from peer.errors import MediaError
from peer.media.failure import NoAudio, media_error
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.handoff import Captured
from peer.media.sources.live_stream import live_frames

log = logging.getLogger(__name__)

STALL: Final = 10.0
"""Time without a frame after which the program is started again, in seconds."""

_OPTIONS: Final = {"analyzeduration": "500000", "probesize": "500000", "fpsprobesize": "0"}
"""Find the streams within half a second, or 500 kB. These packets are not discarded (as with ``nobuffer``): the first
one is a key frame, and the next one may be seconds away."""

_POLL_INTERVAL: Final = 0.1
"""Maximum time for which a read does not notice that it has to stop, in seconds."""

_TERM_TIMEOUT: Final = 1.0
"""Time between SIGTERM and SIGKILL, in seconds. Programs release a camera in less than half a second."""

_MAX_LINE: Final = 200
"""Maximum length of the program's last error line in a message, in characters."""


def name(command: str) -> str:
    """Return the command for messages, logs and events: the program only, because arguments may hold a password."""
    return f"exec:{os.path.basename(shlex.split(command)[0])}"


def read(
    command: str, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """Yield the media that the program writes until it ends or ``stop`` is set. ``flags`` decide what is decoded.

    Raises:
        MediaError: the program cannot be started, has ended, or writes no video or audio although the constraints
            require it.
        av.error.FFmpegError: its output is no media that FFmpeg knows.
    """
    with _running(command) as program:
        errors = _LastLine(program.stderr)
        try:
            with av.open(_Output(program, stop), "r", options=_OPTIONS) as container:
                if constraints.video and not container.streams.video:
                    raise MediaError(name(command), "it writes no video", "it has to write to standard output")
                if constraints.audio and not flags.audio_optional and not container.streams.audio:
                    raise NoAudio(name(command), "it writes no audio", "try --audio auto")
                yield from live_frames(container, constraints, flags, stop)
        except av.error.FFmpegError as problem:
            if not stop.is_set():
                raise _explained(media_error(name(command), problem), errors) from None
        if not stop.is_set():
            raise _explained(MediaError(name(command), "it has ended", cause="ended"), errors)


def _explained(error: MediaError, errors: _LastLine) -> MediaError:
    last = errors.text()
    why = f"{error.why}; its last words: {last}" if last else error.why
    return MediaError(error.what, why, error.hint, cause=error.cause)


class _Output:
    """The program's standard output as a file that ends when ``stop`` is set."""

    def __init__(self, program: subprocess.Popen[bytes], stop: threading.Event) -> None:
        assert program.stdout is not None
        self._descriptor = program.stdout.fileno()
        self._stop = stop

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes once there are any, or nothing at the end."""
        while not self._stop.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], _POLL_INTERVAL)
            if ready:
                return os.read(self._descriptor, size)
        return b""


class _LastLine:
    """The last line that a program has written to ``stream``, read in a thread so that the program never blocks."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._tail = b""
        self._thread = threading.Thread(target=self._read, name="exec stderr", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the line, with unprintable characters replaced."""
        self._thread.join(_POLL_INTERVAL)  # a program that has ended has closed the stream
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return "".join(c if c.isprintable() else " " for c in lines[-1].strip())[-_MAX_LINE:] if lines else ""

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed by ``_running``
            while data := os.read(self._stream.fileno(), 4096):
                self._tail = (self._tail + data)[-4096:]


@contextlib.contextmanager
def _running(command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` and end its process group when the block ends."""
    try:
        program = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MediaError(name(command), "there is no such program", "check the path", cause="missing") from None
    try:
        yield program
    finally:
        _end(program)


def _end(program: subprocess.Popen[bytes]) -> None:
    """End the process group of ``program``: SIGTERM, then SIGKILL for those that are left.

    The program is reaped last. Until then its process group cannot become that of others.
    """
    _signal_group(program.pid, signal.SIGTERM)
    deadline = time.monotonic() + _TERM_TIMEOUT
    while _runs(program.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal_group(program.pid, signal.SIGKILL)
    program.wait()
    for stream in (program.stdout, program.stderr):
        if stream is not None:
            stream.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # one of another user (sudo) ends by its pipe
        os.killpg(group, number)


def _runs(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
