"""Segmenter: placed frames of one recording into one file after another. Blocking: threads only.

A file starts with a key frame, or with audio if there is no video. The next file starts at the first such frame after
one of these events:

- A segment is full. Segments end at multiples of their length, counted from the start of the recording. A key frame
  is requested shortly before each end, so that the lengths do not drift.
- A frame arrives that the file cannot hold: in another codec, the first video after audio alone, or, in an MP4, with
  other H.264 parameter sets.

A cut loses no frame and duplicates none. The time of each file starts at zero. Without segments, an error ends the
recording. With segments, it is reported and the next segment is tried, because a full disk may have space by then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from math import floor, inf
from pathlib import Path
from typing import Final

from ...errors import MediaError
from ..frames import EncodedFrame
from .codec_parameters import VideoParameters, read_video_parameters
from .file_names import FileNames
from .interleaver import Kind
from .muxer import Muxer

MIN_SEGMENT: Final = 1.0
"""Minimum length of a segment, in seconds. Shorter ones would consist mostly of key frames."""

_LEAD_TIME: Final = 0.3
"""Time before the end of a segment from which a key frame is requested, and accepted as the cut, in seconds."""

_VIDEO_TIMEOUT: Final = 2.0
"""Time without video after which it counts as stopped, in seconds. A segment then ends without a key frame, and none
is requested for seeking."""

_MAX_KEY_FRAME_INTERVAL: Final = 10.0
"""Time after which a key frame is requested, in seconds. Players seek to key frames only, and WebRTC sends few."""


class Segmenter:
    """The segmenter of one recording.

    ``kinds`` are the negotiated kinds of media, ``codecs`` the current codec of each. ``segment`` is the length of a
    segment in seconds, or ``None``. ``on_closed`` receives the path and the length in seconds of each file.
    ``on_failed`` receives the error of each failed segment.
    """

    def __init__(
        self,
        names: FileNames,
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
        self._lead_time = _LEAD_TIME if segment is None else min(_LEAD_TIME, segment / 4)
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._muxer: Muxer | None = None
        self._started = False
        """Whether the first file has begun."""
        self._rejected: set[Kind] = set()
        """Kinds that the current file cannot hold any more."""
        self._file_start = 0.0
        self._segment_end = inf
        self._last_video = -inf
        self._last_key_frame = -inf
        self._key_frame_needed_since = inf
        self.dropped = 0
        """Frames that no file could hold."""

    @property
    def needs_key_frame(self) -> bool:
        """Whether a key frame is needed, for a cut or for seeking."""
        return self._key_frame_needed_since < inf

    def open(self) -> None:
        """Create the first file now, so that an error is reported before the first frame.

        Raises:
            MediaError: it cannot be created.
        """
        self._muxer = self._names.create()

    def write(self, time: float, frame: EncodedFrame) -> None:
        """Record ``frame`` at ``time``, in seconds from the start of the recording. Frames come in order.

        Raises:
            MediaError: it cannot be written, and there are no segments.
        """
        try:
            self._cut_if_due(time, frame)
            self._write(time, frame)
        except MediaError as exc:
            self._abandon_file()
            self._handle_error(exc)
        if frame.kind == "video":
            self._last_video = time
            self._last_key_frame = time if frame.key else self._last_key_frame
        has_video = time - self._last_video < _VIDEO_TIMEOUT
        is_hard_to_seek = has_video and time - self._last_key_frame >= _MAX_KEY_FRAME_INTERVAL
        if self._rejected or self._is_full(time) or is_hard_to_seek:
            self._key_frame_needed_since = min(self._key_frame_needed_since, time)
        else:
            self._key_frame_needed_since = inf

    def close(self) -> None:
        """Finish the last file. May be called twice.

        Raises:
            MediaError: its end cannot be written, and there are no segments.
        """
        muxer, self._muxer = self._muxer, None
        if muxer is None:
            return
        try:
            muxer.close()
        except MediaError as exc:
            self._handle_error(exc)
            return
        if self._started:
            self._on_closed(muxer.path, muxer.seconds)

    def _is_full(self, time: float) -> bool:
        return time >= self._segment_end - self._lead_time

    def _cut_if_due(self, time: float, frame: EncodedFrame) -> None:
        if self._muxer is not None and self._started and not self._muxer.accepts(frame):
            self._rejected.add(frame.kind)
        if self._started and not self._rejected and not self._is_full(time):
            return
        if frame.kind == "video":
            if (video := read_video_parameters(frame)) is not None:
                self._begin_file(time, video)
        elif self._may_begin_with_audio(time):
            self._begin_file(time, None)

    def _may_begin_with_audio(self, time: float) -> bool:
        """Whether there has been no video so far, or none while a key frame was needed."""
        if self._last_video == -inf:
            return not self._started or bool(self._rejected) or time >= self._segment_end
        waiting_since = max(self._last_video, self._key_frame_needed_since)
        return self.needs_key_frame and time - waiting_since > _VIDEO_TIMEOUT

    def _begin_file(self, time: float, video: VideoParameters | None) -> None:
        if self._started:
            self.close()
        self._file_start = time
        if self._segment is not None:
            self._segment_end = self._segment * (floor((time + self._lead_time) / self._segment) + 1)
        self._started = True
        self._rejected.clear()
        if self._muxer is None:
            self._muxer = self._names.create()
        audio = self._codecs.get("audio")
        if audio is None and "audio" in self._kinds:
            audio = "opus"  # every WebRTC endpoint implements it (RFC 7874)
        self._muxer.begin(video, audio)

    def _write(self, time: float, frame: EncodedFrame) -> None:
        if self._muxer is None or frame.kind in self._rejected or time < self._file_start:
            self.dropped += 1
        else:
            self._muxer.write(frame, time - self._file_start)

    def _abandon_file(self) -> None:
        """Close a failed file as it is, because its end cannot be written either."""
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            with contextlib.suppress(MediaError):
                muxer.close()

    def _handle_error(self, exc: MediaError) -> None:
        if self._segment is None:
            raise exc
        self._on_failed(exc)
