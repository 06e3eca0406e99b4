"""Results on standard output: one line of text each, or with ``--json`` one JSON object per line."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .. import events
from .stdout_writer import StdoutWriter, log_write_error, write_all

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, line breaks, zero-width characters and those that change the text direction."""


class OutputClosed(Exception):
    """The reader of standard output has closed the pipe: ``peer list --watch | head -1``."""


class Output:
    """Output of a command. ``detail`` adds the statistics of each second to the text.

    Lines are written immediately, and within ``in_background`` by a thread.
    """

    def __init__(self, *, as_json: bool, detail: bool = False) -> None:
        self.as_json = as_json
        self._detail = detail
        self._writer: StdoutWriter | None = None
        self._on_closed: Callable[[], None] = lambda: None

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Write lines in a thread, so that a blocked reader does not block the command.

        Raises:
            OutputClosed: on leaving, if the reader has closed standard output.
        """
        self._writer = writer = StdoutWriter(_stdout_write(), lambda: self._on_closed())
        try:
            yield
        finally:
            self._writer = None
            writer.close()
            if writer.reader_closed:
                _redirect_to_null()
        if writer.reader_closed:
            raise OutputClosed

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in another thread when the reader closes standard output; now if it already has."""
        self._on_closed = callback
        if self._writer is not None and self._writer.reader_closed:
            callback()

    def event(self, event: events.Event) -> None:
        """Write ``event``: as JSON, or as a line of text if ``describe`` has one."""
        if self.as_json:
            self._write(_as_json(event.to_json()), droppable=isinstance(event, events.Stats))
            return
        line = describe(event)
        if line is not None and (self._detail or not isinstance(event, events.Stats)):
            self._write(escaped(line), droppable=isinstance(event, events.Stats))

    def object(self, body: dict[str, Any]) -> None:
        """Write one JSON object, only with ``--json``."""
        if self.as_json:
            self._write(_as_json(body))

    def text(self, line: str) -> None:
        """Write one line for people, only without ``--json``."""
        if not self.as_json:
            self._write(escaped(line))

    def _write(self, line: str, *, droppable: bool = False) -> None:
        if self._writer is not None:
            self._writer.put(_encoded(line + "\n"), droppable=droppable)
            return
        try:
            _stdout_write()(_encoded(line + "\n"))
        except BrokenPipeError:
            _redirect_to_null()
            raise OutputClosed from None
        except OSError as error:
            _redirect_to_null()
            log_write_error(error)


def _as_json(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(", ", ": "))


def escaped(line: str) -> str:
    """``line`` with unprintable characters escaped. An old relay accepts any text as an id."""
    return line if line.isprintable() else _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], line)


def _encoded(line: str) -> bytes:
    return line.encode(getattr(sys.stdout, "encoding", None) or "utf-8", "backslashreplace")


def _stdout_write() -> Callable[[bytes], None]:
    """A function that writes to the current ``sys.stdout``, which may be closed or have no file descriptor."""
    stream = sys.stdout
    if stream is None:  # closed before the program started; descriptor 1 may be another file
        return lambda _: None
    stream.flush()
    try:
        descriptor = stream.fileno()
    except OSError:

        def write(data: bytes) -> None:
            stream.write(data.decode(stream.encoding or "utf-8"))
            stream.flush()

        return write
    return lambda data: write_all(descriptor, data)


def pipe_descriptor() -> int | None:
    """The file descriptor of standard output if it is a pipe."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, AttributeError):
        return None


def _redirect_to_null() -> None:
    """Discard all further output to the descriptor, including what the interpreter flushes when it exits."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def describe(event: events.Event) -> str | None:
    """``event`` as a line of text, or ``None`` if it has none."""
    match event:
        case events.Joined(id=own, peers=peers):
            return f"joined as {own}; other peers: {', '.join(peers) or 'none'}"
        case events.PeerJoined(peer=peer):
            return f"{peer} joined"
        case events.PeerLeft(peer=peer):
            return f"{peer} left"
        case events.Calling(peer=peer):
            return f"{peer}: calling"
        case events.Incoming(peer=peer):
            return f"{peer}: incoming call"
        case events.Connected(peer=peer, setup_ms=setup_ms):
            return f"{peer}: connected in {setup_ms} ms"
        case events.FirstFrame(peer=peer, width=width, height=height, codec=codec):
            return f"{peer}: first video frame, {width}x{height} {codec}"
        case events.Stats():
            return _stats(event)
        case events.Snapshot(peer=peer, path=path):
            return f"{peer}: snapshot saved as {path}"
        case events.Recorded(peer=peer, path=path, seconds=seconds, dropped=dropped):
            missing = f", {dropped} video frames or audio packets missing" if dropped else ""
            return f"{peer}: {seconds:.1f} s recorded as {path}{missing}"
        case events.Ended(peer=peer, reason=reason, detail=detail):
            return f"{peer}: ended ({reason}{f': {detail}' if detail else ''})"
        case events.ServerLost(detail=detail):
            return f"connection to the relay lost{f' ({detail})' if detail else ''}; calls continue, reconnecting"
        case events.ServerBack():
            return "connected to the relay again"
        case events.SourceLost(source=source, peer=peer, kinds=kinds, cause=cause):
            ours = f"no {' and '.join(kinds)} from {source} ({cause}); trying again until it works"
            return f"{peer}: has no live {' and '.join(kinds)} ({cause})" if peer else ours
        case events.SourceBack(source=source, peer=peer, kinds=kinds, seconds=seconds):
            back = f"{' and '.join(kinds)} again after {seconds:.1f} s"
            return f"{peer}: live {back}" if peer else f"{source}: {back}"
        case events.SinkLost(sink=sink, message=message):
            return f"speaker {sink} lost ({message}); trying again until it works"
        case events.SinkBack(sink=sink, seconds=seconds):
            return f"speaker {sink} plays again after {seconds:.1f} s"
        case events.Error(message=message, peer=peer):
            return f"{peer}: {message}" if peer else message
        case _:
            return None


def _stats(event: events.Stats) -> str:
    video, audio = event.video, event.audio
    parts = []
    if video:
        size = f"{video.get('width', '?')}x{video.get('height', '?')}"
        parts.append(f"{size} {_number(video, 'fps')} fps {_number(video, 'kbps')} kbit/s")
    if audio:
        parts.append(f"audio {_number(audio, 'kbps')} kbit/s")
    if event.rtt_ms is not None:
        parts.append(f"RTT {event.rtt_ms:.0f} ms")
    if event.loss is not None:
        parts.append(f"loss {event.loss:.1%}")
    return f"{event.peer}: {', '.join(parts) or 'no media'}"


def _number(values: Any, key: str) -> str:
    value = values.get(key)
    return f"{value:.0f}" if isinstance(value, int | float) else "?"
