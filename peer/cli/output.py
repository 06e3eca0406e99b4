"""Standard output: results, one line each. With ``--json`` one JSON object a line and nothing else."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .. import events
from .stdout_writer import Writer, write_all

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, line breaks, marks without a width and those that turn the direction of writing."""

_log = logging.getLogger(__name__)


class ReaderGone(Exception):
    """Whoever read our standard output has closed it: ``peer list --watch | head -1``."""


class Output:
    """Where a command writes its results. ``detail`` adds the once-a-second statistics to the text.

    Outside of ``aside`` a line is written at once.
    """

    def __init__(self, *, as_json: bool, detail: bool = False) -> None:
        self.as_json = as_json
        self._detail = detail
        self._writer: Writer | None = None
        self._when_gone: Callable[[], None] = lambda: None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, lines are written by a thread, so that a reader who does not read holds up nothing.

        Raises:
            ReaderGone: at the end, when not all could be written because the reader has gone.
        """
        self._writer = writer = Writer(_to_stdout(), lambda: self._when_gone())
        try:
            yield
        finally:
            self._writer = None
            writer.close()
            if writer.gone:
                _silence()
        if writer.gone:
            raise ReaderGone

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, in another thread, when the reader has gone; at once if it has."""
        self._when_gone = tell
        if self._writer is not None and self._writer.gone:
            tell()

    def event(self, event: events.Event) -> None:
        """Write ``event``: all of it as JSON, or, as text, what a person wants to know of it."""
        if self.as_json:
            self._write(_as_json(event.to_json()), expendable=isinstance(event, events.Stats))
            return
        line = text_of(event)
        if line is not None and (self._detail or not isinstance(event, events.Stats)):
            self._write(_plain(line), expendable=isinstance(event, events.Stats))

    def object(self, body: dict[str, Any]) -> None:
        """Write one JSON object, only with ``--json``."""
        if self.as_json:
            self._write(_as_json(body))

    def text(self, line: str) -> None:
        """Write one line for people, only without ``--json``."""
        if not self.as_json:
            self._write(_plain(line))

    def _write(self, line: str, *, expendable: bool = False) -> None:
        if self._writer is not None:
            self._writer.put(_encoded(line + "\n"), expendable=expendable)
            return
        try:
            _to_stdout()(_encoded(line + "\n"))
        except BrokenPipeError:
            _silence()
            raise ReaderGone from None
        except OSError as error:
            _silence()
            _log.error("standard output: %s; going on without it", error.strerror or error)


def _as_json(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(", ", ": "))


def _plain(line: str) -> str:
    """``line`` without what moves a cursor, breaks a line or hides: an old relay lets anybody have any id."""
    return line if line.isprintable() else _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], line)


def _encoded(line: str) -> bytes:
    return line.encode(getattr(sys.stdout, "encoding", None) or "utf-8", "backslashreplace")


def _to_stdout() -> Callable[[bytes], None]:
    """What writes to standard output as it is now; it may be closed, or something of Python's own."""
    stream = sys.stdout
    if stream is None:  # closed before we started: descriptor 1 may be anything
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


def _silence() -> None:
    """Nobody reads: what else in this process writes there, the interpreter at its exit too, writes to nowhere."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def text_of(event: events.Event) -> str | None:
    """``event`` in words, or ``None`` when there is nothing to say."""
    match event:
        case events.Joined(id=own, peers=peers):
            return f"joined as {own}; here: {', '.join(peers) or 'nobody else'}"
        case events.PeerJoined(peer=peer):
            return f"{peer} joined"
        case events.PeerLeft(peer=peer):
            return f"{peer} left"
        case events.Calling(peer=peer):
            return f"{peer}: calling"
        case events.Incoming(peer=peer):
            return f"{peer}: calls us"
        case events.Connected(peer=peer, setup_ms=setup_ms):
            return f"{peer}: connected in {setup_ms} ms"
        case events.FirstFrame(peer=peer, width=width, height=height, codec=codec):
            return f"{peer}: first picture, {width}x{height} {codec}"
        case events.Stats():
            return _stats(event)
        case events.Snapshot(peer=peer, path=path):
            return f"{peer}: snapshot in {path}"
        case events.Recorded(peer=peer, path=path, seconds=seconds, dropped=dropped):
            missing = f", {dropped} pictures or packets of sound missing" if dropped else ""
            return f"{peer}: {seconds:.1f} s recorded in {path}{missing}"
        case events.Ended(peer=peer, reason=reason):
            return f"{peer}: ended ({reason})"
        case events.ServerLost():
            return "the relay is away; calls go on, trying again"
        case events.ServerBack():
            return "the relay is back"
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
        parts.append(f"sound {_number(audio, 'kbps')} kbit/s")
    if event.rtt_ms is not None:
        parts.append(f"round trip {event.rtt_ms:.0f} ms")
    if event.loss is not None:
        parts.append(f"loss {event.loss:.1%}")
    return f"{event.peer}: {', '.join(parts) or 'no media'}"


def _number(values: Any, key: str) -> str:
    value = values.get(key)
    return f"{value:.0f}" if isinstance(value, int | float) else "?"
