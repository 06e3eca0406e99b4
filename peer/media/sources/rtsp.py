"""An RTSP camera as a source: over TCP, or UDP if the camera refuses TCP; video and audio in sync."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Generator
from typing import Final
from urllib.parse import quote

import av
from av.container import InputContainer

from peer.errors import MediaError, redacted
from peer.media.failure import NoAudio
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.handoff import Captured
from peer.media.sources.live_stream import live_frames

_OPTIONS: Final = {
    "rtsp_transport": "tcp+udp",
    "rtsp_flags": "prefer_tcp",
    "fflags": "nobuffer",
    "analyzeduration": "500000",
}
"""RTP over TCP, which nearly every camera supports: over UDP it loses packets, and does not get through a NAT. UDP is
used if the camera refuses TCP (461 Unsupported Transport, RFC 2326 section 11.3.14)."""

_RAW_SLASH: Final = re.compile(r"(rtsps?://[^/?#:@\s]*:)(?!\d{1,5}[/?#])([^@\s]*[/?#]\S*)@(?=[^@\s]*$)")
"""A password with a raw slash, question mark or number sign, where the port of a URL would be."""

_LONE_PERCENT: Final = re.compile(r"%(?![0-9a-fA-F]{2})")

STALL: Final = 4.0
"""Time without a frame after which a camera counts as lost, in seconds: before the card replaces its last frame, and
before ``_TIMEOUT``, at which FFmpeg delivers the last frame that it has held back, as if it were new."""

_TIMEOUT: Final = 5.0
"""Maximum time for the camera to answer, and between two packets, in seconds."""


def name(url: str) -> str:
    """Return ``url`` for messages and logs, without its password."""
    return redacted(url)


def escaped(url: str) -> str:
    """Return ``url`` with a password that FFmpeg finds: a raw slash in it would end the host."""
    return _RAW_SLASH.sub(lambda match: f"{match[1]}{quote(_LONE_PERCENT.sub('%25', match[2]), safe='%')}@", url)


def read(
    url: str, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """Yield the camera's media until it ends or ``stop`` is set. ``flags`` decide what is decoded.

    Raises:
        MediaError: the camera does not send a kind of media that the constraints require.
        av.error.FFmpegError: the camera cannot be reached, or the connection was lost.
    """
    kinds = (("video", constraints.video), ("audio", constraints.audio))
    allowed = "+".join(kind for kind, wanted in kinds if wanted)
    options = {**_OPTIONS, "allowed_media_types": allowed}
    with _open(url, options) as container:
        if constraints.video and not container.streams.video:
            raise MediaError(name(url), "it sends no video")
        if constraints.audio and not flags.audio_optional and not container.streams.audio:
            raise NoAudio(name(url), "it sends no audio", "try --audio none")
        yield from live_frames(container, constraints, flags, stop)


def _open(url: str, options: dict[str, str]) -> InputContainer:
    started = time.monotonic()
    try:
        return av.open(escaped(url), format="rtsp", options=options, timeout=_TIMEOUT)
    except av.error.HTTPUnauthorizedError:
        if name(url) == url:
            raise
        raise MediaError(name(url), "the name or the password is wrong", "check both", cause="unauthorized") from None
    except av.error.InvalidDataError:  # FFmpeg also raises this for its own time-out during the handshake
        if time.monotonic() - started >= _TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        raise MediaError(name(url), "the server at this address does not speak RTSP", "check the port") from None
