"""One media file of packets that somebody else encoded: Matroska, WebM or fragmented MP4. Blocking: threads only.

Made so that ``kill -9`` or a full disk costs about a second: clusters and fragments of half a second, handed to the
system as they are whole, and put on the disk (fdatasync, for the power cut) every two.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.stream import Stream

from ...errors import MediaError
from ..frames import AUDIO_RATE, AUDIO_TIME_BASE, VIDEO_TIME_BASE, EncodedFrame
from .codec_parameters import VideoHead, is_media, parameters
from .output_file import Disk

_SYNC_EVERY: Final = 2.0
"""Seconds between two fdatasync."""

_ALWAYS: Final = {"max_interleave_delta": "1", "flush_packets": "1"}
"""Microseconds that one track waits for a packet of the other. Ours come in order; FFmpeg's own 10 s would be lost
with the process."""

_FORMATS: Final = {
    ".mkv": ("matroska", {"cluster_time_limit": "500"}),
    ".webm": ("webm", {"cluster_time_limit": "500"}),
    ".mp4": ("mp4", {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}),
}
"""FFmpeg's names and options by suffix; milliseconds and microseconds."""

_SHOWN: Final = 0.1
"""Seconds, most, that the last frame is taken to last: as long as the one before, if that was no pause."""

_TELEPHONE: Final = {"pcm_mulaw": 8000, "pcm_alaw": 8000, "g722": 16_000}
"""Sound that PyAV lets into no container of ours, with its rate: unpacked to plain PCM, which Matroska has."""


def suffixes() -> str:
    """What a recording may end in, for people."""
    return ", ".join(_FORMATS)


def check_suffix(path: Path) -> None:
    """Refuse what cannot become a recording.

    Raises:
        MediaError: the suffix is none of ours.
    """
    if path.suffix.lower() not in _FORMATS:
        raise MediaError(str(path), f"no recording ends in {path.suffix or 'nothing'}", f"there are {suffixes()}")


class RecordingFile:
    """A new file at ``path``: its suffix says the container. Folders that are missing are made.

    Raises:
        FileExistsError: there is something of that name.
        MediaError: an unknown suffix, a place that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_suffix(path)
        self.path = path
        self._format, self._options = _FORMATS[path.suffix.lower()]
        try:
            self._disk = Disk(path)
        except FileExistsError:
            if not path.exists():  # it is a folder on the way there that is none
                raise MediaError(str(path), f"{path.parent} is no folder") from None
            raise
        except OSError as exc:
            raise MediaError(str(path), exc.strerror or str(exc)) from None
        self._container: OutputContainer | None = None
        self._tracks: dict[str, _Track] = {}
        self._parameters = b""
        self._saved = 0.0

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
                codec, self._parameters = video.codec, video.parameters
                stream = container.add_mux_stream(codec, width=video.width, height=video.height)
                stream.time_base = VIDEO_TIME_BASE
                self._tracks["video"] = _Track(stream, codec, VIDEO_TIME_BASE)
            if audio is not None:
                codec = audio
                self._tracks["audio"] = _sound_track(container, audio)
        except ValueError:
            raise MediaError(str(self.path), f"{self.path.suffix} cannot hold {codec}", "record to .mkv") from None
        # The header is written with the first packets: for H.264 it holds what the first one says (SPS, PPS).

    def has(self, kind: str) -> bool:
        """Whether it was begun with a track of this kind."""
        return kind in self._tracks

    def fits(self, frame: EncodedFrame) -> bool:
        """Whether ``frame`` can go on in this file: a track has one codec; in MP4, H.264 has one set of parameters
        (ISO/IEC 14496-15 5.4.2.1.2: those of an ``avc1`` track are in its header only)."""
        track = self._tracks.get(frame.kind)
        if track is None or track.codec != frame.codec:
            return False
        if self._format != "mp4" or frame.kind != "video" or not frame.key:
            return True
        return parameters(frame) in (b"", self._parameters)

    def write(self, frame: EncodedFrame, seconds: float) -> None:
        """Add ``frame`` at ``seconds`` from the file's begin. What does not fit, or is no such frame at all, is
        passed over: a remote must not be able to end a recording.

        Raises:
            MediaError: the disk is full, or gone.
        """
        track = self._tracks.get(frame.kind)
        if track is None or track.codec != frame.codec or not is_media(frame) or self._container is None:
            return
        before, writes = self.seconds, self._disk.writes
        try:
            self._container.mux(track.packet(frame, seconds))
            self._disk.sync(_SYNC_EVERY)
        except av.error.InvalidDataError:
            return
        except (OSError, av.FFmpegError) as exc:
            raise self._failed(exc) from None
        if self._disk.writes > writes:
            self._saved = before

    def close(self) -> None:
        """End the file; one without media is removed. May be called twice.

        Raises:
            MediaError: the last of it could not be written.
        """
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
            self._disk.sync(0)
            if self._disk.error is None and any(track.last is not None for track in self._tracks.values()):
                self._saved = max(self.seconds, 1e-3)
        except (OSError, av.FFmpegError) as exc:
            raise self._failed(exc) from None
        finally:
            self._disk.close(keep=self._saved > 0)

    def _failed(self, exc: OSError | av.FFmpegError) -> MediaError:
        saved = f"the first {self._saved:.0f} s are there" if self._saved >= 1 else None
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
        pts, shown = round(seconds / self.time_base), 0
        if self.last is not None:
            step = max(pts - self.last, 1)
            pts = self.last + step
            shown = min(step, round(_SHOWN / self.time_base))
        self.end = float((pts + shown) * self.time_base)
        self.last = pts
        data = frame.data
        if self.decoder is not None:
            data = b"".join(part.to_ndarray().tobytes() for part in self.decoder.decode(av.Packet(data)))
        packet: av.Packet[Any] = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.duration = shown
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
