"""Live inputs decoded frame by frame, with the patience that live inputs need."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any, Final

import av
from av.container import InputContainer

from peer.media.mailbox import Media

_DAMAGED: Final = 60
"""Packets in a row that cannot be decoded before the input counts as broken: UVC cameras start with torn JPEGs, a
stream that is joined in its middle with pictures that refer to ones we never saw."""


def decode(container: InputContainer, streams: list[Any], stop: threading.Event) -> Generator[Media, None, None]:
    """The frames of ``streams`` in the order of their packets, until the input ends, or ``stop``.

    Raises:
        av.error.FFmpegError: the input failed, or gives nothing but damaged packets.
    """
    damaged = 0
    for packet in container.demux(streams):
        if stop.is_set():
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            if damaged > _DAMAGED:
                raise
            continue
        for frame in frames:
            damaged = 0
            if isinstance(frame, av.VideoFrame | av.AudioFrame):
                yield frame
