"""One recording cut into files: placed frames in, file after file out. Blocking: threads only.

A file begins with a key frame, or with sound where there are no pictures. The next one begins at the first such
frame after any of these:

- a segment is full. Boundaries are multiples of its length from the recording's begin, and a key frame is asked for
  shortly before each, so that lengths do not add up to a drift;
- something came that the file cannot go on with: another codec, a first picture after sound alone, another H.264
  parameter set in an MP4.

No frame is lost or doubled by a cut, and a file's time begins with zero. Without segments what fails ends the
recording. With segments it is told, and tried again at the next boundary: a full disk may have room by then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from math import floor, inf
from pathlib import Path
from typing import Final

from ...errors import MediaError
from ..frames import EncodedFrame
from .codec_parameters import VideoHead, read_head
from .file_names import Names
from .interleaver import Kind
from .muxer import RecordingFile

MIN_SEGMENT: Final = 1.0
"""Seconds. Shorter ones would be mostly key frames."""

_AHEAD: Final = 0.3
"""Seconds before a boundary at which a key frame is asked for, and from which on one is taken."""

_STALLED: Final = 2.0
"""Seconds without a picture after which a segment ends without one."""

_SEEKABLE: Final = 10.0
"""Seconds after which a key frame is asked for: a player can jump to key frames only, and WebRTC sends few."""


class Reel:
    """``kinds`` is what the call negotiated, ``codecs`` what each kind comes in now.

    ``on_closed`` gets a file's path and its length in seconds; ``on_failed``, with ``segment`` seconds only, what
    was wrong with one.
    """

    def __init__(
        self,
        names: Names,
        kinds: Collection[Kind],
        codecs: Mapping[Kind, str],
        *,
        segment: float | None,
        on_closed: Callable[[Path, float], None],
        on_failed: Callable[[MediaError], None],
    ) -> None:
        self._names = names
        self._kinds = kinds
        self._codecs = codecs
        self._segment = segment
        self._ahead = _AHEAD if segment is None else min(_AHEAD, segment / 4)
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._file: RecordingFile | None = None
        self._fresh = True  # no file was begun yet
        self._unfit: set[Kind] = set()  # what cannot go on in this file
        self._begins = 0.0
        self._boundary = inf
        self._picture_at = -inf
        self._key_at = -inf
        self._wanted_since = inf
        self.dropped = 0
        """Frames that no file could take."""

    @property
    def wants_key_frame(self) -> bool:
        """Whether a cut, or a player, waits for one."""
        return self._wanted_since < inf

    def open(self) -> None:
        """Make the first file now, so that what is wrong with it shows before there is a frame for it.

        Raises:
            MediaError: it cannot be made.
        """
        self._file = self._names.create()

    def write(self, at: float, frame: EncodedFrame) -> None:
        """Record ``frame``, ``at`` seconds from the recording's begin. In order.

        Raises:
            MediaError: without segments: it cannot be written.
        """
        try:
            self._cut_if_due(at, frame)
            self._put(at, frame)
        except MediaError as exc:
            self._abandon()
            self._fail(exc)
        if frame.kind == "video":
            self._picture_at = at
            self._key_at = at if frame.key else self._key_at
        unseekable = at - self._key_at >= _SEEKABLE and at - self._picture_at < _STALLED
        wanted = self._unfit or self._is_full(at) or unseekable
        self._wanted_since = min(self._wanted_since, at) if wanted else inf

    def close(self) -> None:
        """End the last file. May be called twice.

        Raises:
            MediaError: without segments: the last of it could not be written.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except MediaError as exc:
            self._fail(exc)
            return
        if not self._fresh:
            self._on_closed(file.path, file.seconds)

    def _is_full(self, at: float) -> bool:
        return at >= self._boundary - self._ahead

    def _cut_if_due(self, at: float, frame: EncodedFrame) -> None:
        if self._file is not None and not self._fresh and not self._file.fits(frame):
            self._unfit.add(frame.kind)
        if not (self._fresh or self._unfit or self._is_full(at)):
            return
        if frame.kind == "video":
            if (head := read_head(frame)) is not None:
                self._begin(at, head)
        elif self._may_begin_with_sound(at):
            self._begin(at, None)

    def _may_begin_with_sound(self, at: float) -> bool:
        """Whether there never was a picture, or none came that was waited for."""
        if self._picture_at == -inf:
            return self._fresh or bool(self._unfit) or at >= self._boundary
        return self._wanted_since < inf and at - max(self._picture_at, self._wanted_since) > _STALLED

    def _begin(self, at: float, head: VideoHead | None) -> None:
        if not self._fresh:
            self.close()
        self._begins = at
        if self._segment is not None:
            self._boundary = self._segment * (floor((at + self._ahead) / self._segment) + 1)
        self._fresh = False
        self._unfit.clear()
        if self._file is None:
            self._file = self._names.create()
        sound = self._codecs.get("audio")
        if sound is None and "audio" in self._kinds:
            sound = "opus"  # every WebRTC endpoint has it (RFC 7874)
        self._file.begin(head, sound)

    def _put(self, at: float, frame: EncodedFrame) -> None:
        if self._file is None or frame.kind in self._unfit or at < self._begins:
            self.dropped += 1
        else:
            self._file.write(frame, at - self._begins)

    def _abandon(self) -> None:
        """Leave a file that failed as it is: its end cannot be written either."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(MediaError):
                file.close()

    def _fail(self, exc: MediaError) -> None:
        if self._segment is None:
            raise exc
        self._on_failed(exc)
