"""Muxer: encoded frames into one Matroska, WebM or fragmented MP4 file. Blocking: threads only.

A file survives ``kill -9`` or a full disk up to its last second or so. Its clusters (MP4: fragments) last half a
second and are passed to the system as soon as they are complete. They are synced to disk (fdatasync) every two
seconds, in case of a power cut.
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
from .codec_parameters import VideoParameters, is_media, sequence_parameter_sets
from .output_file import OutputFile

_SYNC_INTERVAL: Final = 2.0
"""Minimum time between two fdatasync calls, in seconds."""

_COMMON_OPTIONS: Final = {"max_interleave_delta": "1", "flush_packets": "1"}
"""``max_interleave_delta``: maximum time for which FFmpeg holds a packet back to wait for the other track, in
microseconds. Our packets are already in order, and FFmpeg's default of 10 s would be lost with the process."""

_FORMATS: Final = {
    ".mkv": ("matroska", {"cluster_time_limit": "500"}),
    ".webm": ("webm", {"cluster_time_limit": "500"}),
    ".mp4": ("mp4", {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}),
}
"""FFmpeg's format and options for each suffix. The limit is in milliseconds, the duration in microseconds."""

_MAX_DURATION: Final = 0.1
"""Maximum duration written for a packet, in seconds. A packet gets the distance from the packet before it, because
the distance to the next one is not known yet; after a pause that would be too long."""

_TELEPHONE_CODECS: Final = {"pcm_mulaw": 8000, "pcm_alaw": 8000, "g722": 16_000}
"""Sample rates of codecs that PyAV writes into none of these containers. They are decoded to PCM, which Matroska
holds."""


def suffixes() -> str:
    """Return the suffixes of recordings, for messages."""
    return ", ".join(_FORMATS)


def check_suffix(path: Path) -> None:
    """Check that the suffix of ``path`` is that of a supported container.

    Raises:
        MediaError: it is not.
    """
    if path.suffix.lower() not in _FORMATS:
        why = f"cannot record to a file with {path.suffix or 'no'} suffix"
        raise MediaError(str(path), why, f"use {suffixes()}")


class Muxer:
    """Muxer of a new file at ``path``; the suffix selects the container. Missing folders are created.

    Raises:
        FileExistsError: ``path`` exists.
        MediaError: the suffix is unknown, or ``path`` is not writable.
    """

    def __init__(self, path: Path) -> None:
        check_suffix(path)
        self.path = path
        self._format, self._options = _FORMATS[path.suffix.lower()]
        try:
            self._output = OutputFile(path)
        except FileExistsError:
            if not path.exists():  # the error is about a parent of it, which is a file
                raise MediaError(str(path), f"{path.parent} is not a folder") from None
            raise
        except OSError as exc:
            raise MediaError(str(path), exc.strerror or str(exc)) from None
        self._container: OutputContainer | None = None
        self._tracks: dict[str, _Track] = {}
        self._parameter_sets = b""
        self._saved_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Time at which the last packet ends, in seconds from the start of the file."""
        return max((track.end for track in self._tracks.values()), default=0.0)

    def begin(self, video: VideoParameters | None, audio: str | None) -> None:
        """Add a track for video and one for audio in the codec ``audio``. Either can be missing.

        Raises:
            MediaError: the container cannot hold a codec.
        """
        container = av.open(self._output, "w", format=self._format, container_options=self._options | _COMMON_OPTIONS)
        self._container = container
        codec = ""
        try:
            if video is not None:
                codec, self._parameter_sets = video.codec, video.parameter_sets
                stream = container.add_mux_stream(codec, width=video.width, height=video.height)
                stream.time_base = VIDEO_TIME_BASE
                self._tracks["video"] = _Track(stream, codec, VIDEO_TIME_BASE)
            if audio is not None:
                codec = audio
                self._tracks["audio"] = _add_audio_track(container, audio)
        except ValueError:
            raise MediaError(str(self.path), f"{self.path.suffix} cannot hold {codec}", "record to .mkv") from None
        # FFmpeg writes the header with the first packet, because the header for H.264 contains its SPS and PPS.

    def accepts(self, frame: EncodedFrame) -> bool:
        """Whether ``frame`` can be written into this file. A track has one codec.

        An H.264 track in MP4 also has one set of SPS units, because those of an ``avc1`` track are in its header only
        (ISO/IEC 14496-15 section 5.4.2.1.2).
        """
        track = self._tracks.get(frame.kind)
        if track is None or track.codec != frame.codec:
            return False
        if self._format != "mp4" or frame.kind != "video" or not frame.key:
            return True
        return sequence_parameter_sets(frame) in (b"", self._parameter_sets)

    def write(self, frame: EncodedFrame, seconds: float) -> None:
        """Write ``frame`` at ``seconds`` from the start of the file.

        A frame in another codec than its track, or without media, is ignored: a remote must not be able to end a
        recording.

        Raises:
            MediaError: the disk is full or gone.
        """
        track = self._tracks.get(frame.kind)
        if track is None or track.codec != frame.codec or not is_media(frame) or self._container is None:
            return
        written_seconds, writes = self.seconds, self._output.writes
        try:
            self._container.mux(track.packet(frame, seconds))
            self._output.sync(_SYNC_INTERVAL)
        except av.error.InvalidDataError:
            return
        except (OSError, av.FFmpegError) as exc:
            raise self._write_error(exc) from None
        if self._output.writes > writes:
            self._saved_seconds = written_seconds

    def close(self) -> None:
        """Finish the file; delete it if it holds no media. May be called twice.

        Raises:
            MediaError: the end of the file could not be written.
        """
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
            self._output.sync(0)
            if self._output.error is None and any(track.last_pts is not None for track in self._tracks.values()):
                self._saved_seconds = max(self.seconds, 1e-3)
        except (OSError, av.FFmpegError) as exc:
            raise self._write_error(exc) from None
        finally:
            self._output.close(keep=self._saved_seconds > 0)

    def _write_error(self, exc: OSError | av.FFmpegError) -> MediaError:
        saved = f"the first {self._saved_seconds:.0f} s were saved" if self._saved_seconds >= 1 else None
        cause = self._output.error or exc  # PyAV reports "Error in PyAV callback" instead of the error of ``write``
        return MediaError(str(self.path), cause.strerror or str(cause), saved)


@dataclass(slots=True)
class _Track:
    stream: Stream
    codec: str
    time_base: Fraction
    decoder: AudioCodecContext | None = None
    last_pts: int | None = None
    end: float = 0.0

    def packet(self, frame: EncodedFrame, seconds: float) -> av.Packet[Any]:
        """Return ``frame`` as a packet. Its pts is later than the previous one, as FFmpeg requires."""
        pts, duration = round(seconds / self.time_base), 0
        if self.last_pts is not None:
            step = max(pts - self.last_pts, 1)
            pts = self.last_pts + step
            duration = min(step, round(_MAX_DURATION / self.time_base))
        self.end = float((pts + duration) * self.time_base)
        self.last_pts = pts
        data = frame.data
        if self.decoder is not None:
            data = b"".join(decoded.to_ndarray().tobytes() for decoded in self.decoder.decode(av.Packet(data)))
        packet: av.Packet[Any] = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.duration = duration
        packet.time_base = self.time_base
        packet.is_keyframe = frame.key
        packet.stream = self.stream
        return packet


def _add_audio_track(container: OutputContainer, codec: str) -> _Track:
    """Add a track for ``codec``. Its encoder writes the header (OpusHead) and encodes nothing.

    Raises:
        ValueError: the codec is unknown, or the container cannot hold it.
    """
    if codec == "opus":
        stream = container.add_stream("libopus", rate=AUDIO_RATE, layout="stereo")
        stream.time_base = AUDIO_TIME_BASE
        return _Track(stream, codec, AUDIO_TIME_BASE)
    if codec not in _TELEPHONE_CODECS:
        raise ValueError(codec)
    rate = _TELEPHONE_CODECS[codec]
    stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
    stream.time_base = AUDIO_TIME_BASE
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = rate, "mono"
    return _Track(stream, codec, AUDIO_TIME_BASE, decoder)
