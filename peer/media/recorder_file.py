"""One media file of packets that somebody else encoded: Matroska, WebM or fragmented MP4. Blocking: threads only.

Made so that a power cut or ``kill -9`` costs about a second: clusters and fragments of one second, flushed as they
are whole, and on the disk (fdatasync) every two.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from ..errors import MediaError
from .frames import AUDIO_RATE, AUDIO_TIME_BASE, VIDEO_TIME_BASE, EncodedFrame

_SYNC_EVERY: Final = 2.0
"""Seconds of a recording that a power cut may cost."""

_ALWAYS: Final = {"max_interleave_delta": "500000", "flush_packets": "1"}
"""Microseconds that one track waits for a packet of the other: FFmpeg's own 10 s would be lost with the process."""

_FORMATS: Final = {
    ".mkv": ("matroska", {"cluster_time_limit": "1000"}),
    ".webm": ("webm", {"cluster_time_limit": "1000"}),
    ".mp4": ("mp4", {"movflags": "empty_moov+default_base_moof", "frag_duration": "1000000"}),
}

_TELEPHONE: Final = {"pcm_mulaw": 8000, "pcm_alaw": 8000, "g722": 16_000}
"""Sound that PyAV lets into no container of ours, with its rate: unpacked to plain PCM, which Matroska has."""

_NAL_UNIT: Final = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_SLICES: Final = frozenset({1, 2, 3, 4, 5})
_SPS, _PPS = 7, 8


def suffixes() -> str:
    """What a recording may end in, for people."""
    return ", ".join(_FORMATS)


@dataclass(frozen=True, slots=True)
class VideoHead:
    """What a container wants to know of the picture before the first packet. Sizes in pixels."""

    codec: str
    width: int
    height: int


def read_head(frame: EncodedFrame) -> VideoHead | None:
    """The head of a stream that begins with ``frame``, or ``None`` if none can begin there.

    The decoder itself says the size: one picture costs some 10 ms, once a file.
    """
    if not frame.key:
        return None
    if frame.codec == "h264" and not {_SPS, _PPS} <= _units(frame.data):
        return None
    decoder = av.CodecContext.create(frame.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    try:
        pictures = [*decoder.decode(av.Packet(frame.data)), *decoder.decode(None)]
    except av.FFmpegError:
        return None
    return VideoHead(frame.codec, pictures[0].width, pictures[0].height) if pictures else None


def _is_media(frame: EncodedFrame) -> bool:
    """Whether ``frame`` could be what it says. An H.264 packet without a slice makes an MP4 unreadable."""
    return not _units(frame.data).isdisjoint(_SLICES) if frame.codec == "h264" else bool(frame.data)


def _units(data: bytes) -> set[int]:
    """The NAL unit types in an access unit (H.264 7.4.1)."""
    return {match[0] & 0x1F for match in _NAL_UNIT.findall(data)}


class RecordingFile:
    """A new file at ``path``: its suffix says the container. Folders that are missing are made.

    Raises:
        MediaError: an unknown suffix, a file that is there already, a place that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        suffix = path.suffix.lower()
        if suffix not in _FORMATS:
            raise MediaError(str(path), f"no recording ends in {suffix or 'nothing'}", f"there are {suffixes()}")
        self._format, self._options = _FORMATS[suffix]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._disk = _Disk(path)
        except OSError as exc:
            if path.exists():
                hint = "name another file, or put {time} or {peer} into the name"
                raise MediaError(str(path), "exists already", hint) from None
            raise MediaError(str(path), exc.strerror or str(exc)) from None
        self._container: OutputContainer | None = None
        self._tracks: dict[str, _Track] = {}

    @property
    def seconds(self) -> float:
        """Where its last packet ends."""
        return max((track.end for track in self._tracks.values()), default=0.0)

    def begin(self, video: VideoHead | None, audio: str | None) -> None:
        """Write the header for a picture and for sound of codec ``audio``, one of which may be missing.

        Raises:
            MediaError: the container cannot take a codec; it names one that can.
        """
        container = av.open(self._disk, "w", format=self._format, container_options=self._options | _ALWAYS)
        self._container = container
        codec = ""
        try:
            if video is not None:
                codec = video.codec
                stream = container.add_mux_stream(codec, width=video.width, height=video.height)
                stream.time_base = VIDEO_TIME_BASE
                self._tracks["video"] = _Track(stream, codec, VIDEO_TIME_BASE)
            if audio is not None:
                codec = audio
                self._tracks["audio"] = _sound_track(container, audio)
        except ValueError:
            raise MediaError(str(self.path), f"{self.path.suffix} cannot hold {codec}", "record to .mkv") from None
        # The header is written with the first packets: for H.264 it holds what the first one says (SPS, PPS).

    def write(self, frame: EncodedFrame, seconds: float) -> None:
        """Add ``frame`` at ``seconds`` from the file's begin. What is of another codec than was declared, or is no
        such frame at all, is passed over: a remote must not be able to end a recording.

        Raises:
            MediaError: the disk is full, or gone.
        """
        track = self._tracks.get(frame.kind)
        if track is None or track.codec != frame.codec or not _is_media(frame) or self._container is None:
            return
        try:
            self._container.mux(track.packet(frame, seconds))
            self._disk.sync(_SYNC_EVERY)
        except av.error.InvalidDataError:
            return
        except (OSError, av.FFmpegError) as exc:
            raise self._failed(exc) from None

    def close(self) -> None:
        """End the file; an empty one is removed. May be called twice.

        Raises:
            MediaError: the last of it could not be written.
        """
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
            self._disk.sync(0)
        except (OSError, av.FFmpegError) as exc:
            raise self._failed(exc) from None
        finally:
            self._disk.close()

    def _failed(self, exc: OSError | av.FFmpegError) -> MediaError:
        saved = f"the first {self.seconds:.0f} s are there" if self.seconds >= 1 else None
        cause = self._disk.error or exc  # PyAV says "Error in PyAV callback" for what the disk said
        return MediaError(str(self.path), cause.strerror or str(cause), saved)


@dataclass(slots=True)
class _Track:
    stream: Stream
    codec: str
    time_base: Fraction
    decoder: AudioCodecContext | None = None
    last: int | None = None
    end: float = 0.0

    def packet(self, frame: EncodedFrame, seconds: float) -> av.Packet[Any]:
        """``frame`` as FFmpeg wants it: strictly later than the one before, whatever the network did."""
        pts = round(seconds / self.time_base)
        if self.last is not None:
            step = max(pts - self.last, 1)
            pts = self.last + step
            self.end = float((pts + step) * self.time_base)
        self.end = max(self.end, float(pts * self.time_base))
        self.last = pts
        data = frame.data
        if self.decoder is not None:
            data = b"".join(part.to_ndarray().tobytes() for part in self.decoder.decode(av.Packet(data)))
        packet: av.Packet[Any] = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.time_base = self.time_base
        packet.is_keyframe = frame.key
        packet.stream = self.stream
        return packet


def _sound_track(container: OutputContainer, codec: str) -> _Track:
    """A track for ``codec``. The encoder it opens is never used but for the header it writes (OpusHead)."""
    if codec == "opus":
        stream = container.add_stream("libopus", rate=AUDIO_RATE, layout="stereo")
        stream.time_base = AUDIO_TIME_BASE
        return _Track(stream, codec, AUDIO_TIME_BASE)
    if codec not in _TELEPHONE:
        raise ValueError(codec)
    rate = _TELEPHONE[codec]
    stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
    stream.time_base = AUDIO_TIME_BASE
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = rate, "mono"
    return _Track(stream, codec, AUDIO_TIME_BASE, decoder)


class _Disk:
    """The file beneath the container: unbuffered, written whole, made durable on a schedule."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "xb", buffering=0)
        self._synced = time.monotonic()
        self.error: OSError | None = None
        """Why it could not be written."""
        self.seek = self._file.seek
        self.tell = self._file.tell

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while view:  # a raw file may take less than it was given; FFmpeg would not notice
                view = view[self._file.write(view) or 0 :]
        except OSError as exc:
            self.error = exc
            raise
        return len(data)

    def sync(self, every: float) -> None:
        """Onto the disk, unless that was less than ``every`` seconds ago."""
        now = time.monotonic()
        if not self._file.closed and now - self._synced >= every:
            os.fdatasync(self._file.fileno())
            self._synced = now

    def close(self) -> None:
        if self._file.closed:
            return
        empty = self._file.seek(0, os.SEEK_END) == 0
        self._file.close()
        if empty:
            self._path.unlink(missing_ok=True)
