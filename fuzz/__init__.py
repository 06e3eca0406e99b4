"""Fuzzing: octets that nobody meant, and what must hold whatever they are (docs/fuzzing.md).

    pip install -e '.[fuzz]'                       atheris
    python -m fuzz                                 which targets there are
    python -m fuzz frames --seconds 60             one; what it learnt is in .cache/fuzz/frames
    python -m fuzz frames --once FILE              one input again, a find for example

A target is a module with ``SEEDS``, inputs to begin with, and ``test_one``, which raises what should not be; some
have a ``close``. It needs no atheris itself: ``tests/test_fuzz.py`` drives each one for a moment, so that none rots.
"""

from __future__ import annotations

from typing import Final

TARGETS: Final = {
    "frames": "octets of several clients against a whole relay, and against websockets' own parser",
    "opening": "HTTP requests, origins and proxies, against websockets' own handshake",
    "messages": "JSON by all three readers of the protocol, and the ICE servers in it",
    "addresses": "ICE servers, proxies and origins, as they are typed and as others send them",
    "tokens": "signed tokens",
    "typed": "scripts, configuration files, and what is typed for media",
    "rtp": "RTP packets of one stream, against the engine's own parsers",
    "h264": "parameter sets, Annex B and avcC",
}
