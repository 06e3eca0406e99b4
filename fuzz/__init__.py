"""Fuzz targets: arbitrary bytes as input, and properties that must hold (docs/fuzzing.md).

    pip install -e '.[fuzz]'                       atheris
    python -m fuzz                                 lists the targets
    python -m fuzz frames --seconds 60             runs one; its corpus is in .cache/fuzz/frames
    python -m fuzz frames --once FILE              runs one input again, for example a finding

A target is a module with ``SEEDS`` (initial inputs) and ``test_one``, which raises if a property is violated; some
also have ``close``. A target does not need atheris: ``tests/test_fuzz.py`` runs each one briefly in the test suite.
"""

from __future__ import annotations

from typing import Final

TARGETS: Final = {
    "frames": "bytes from several clients into a complete relay, compared with websockets' own parser",
    "handshake": "HTTP requests, origins and proxies, compared with websockets' own handshake",
    "messages": "JSON, read by all three parsers of the protocol, and the ICE servers in it",
    "addresses": "ICE servers, proxies and origins, from users and from the network",
    "tokens": "signed tokens",
    "user_input": "scripts, configuration files and media options",
    "rtp": "RTP packets of one stream, compared with aiortc's own parsers",
    "descriptions": "session descriptions, as offers and as answers, compared with aiortc's own parser",
    "h264": "parameter sets, Annex B and avcC",
}
