"""Reading of a clip's packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av


def read_packets(path: Path) -> tuple[bytes, list[Any]]:
    """Return the extradata and the packets of the video in a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = bytes(stream.codec_context.extradata or b"")
        return extradata, [packet for packet in container.demux(stream) if packet.size]
