"""How much memory a relay can come to need, whatever its clients do. PURE: docs/limits.md has it in words.

Figures are measured, with room to spare; ``tests/server/test_memory_estimate.py`` drives relays to their limits and
holds them to this. The kernel's own socket buffers are not included, nor is what an operator's programs request.
"""

from __future__ import annotations

from typing import Final

from .admission.rate_limits import MAX_IDLE
from .cluster.batch_queue import MAX_MESSAGES
from .cluster.messages import MAX_INBOX_BYTES, READ_COUNT
from .config import RelayConfig

BASE: Final = 40 * 1024**2
"""Python, this package and the page; 5 MB of it are for who asks for ``/metrics`` or signed tokens."""
CONNECTION: Final = 12 * 1024
"""A socket, a seat, and the longest names and keys."""
TLS: Final = 64 * 1024
"""More for a connection by TLS."""
ADDRESS: Final = 1024
"""What is remembered of an address."""
CLUSTER: Final = 20 * 1024**2
"""The client library of Redis."""
BUFFERS: Final = 2
"""Times what may wait: a buffer that grows is copied, and what was freed between others is not given back."""


def most_memory(config: RelayConfig, connections: int) -> int:
    """Octets that are resident at most, with this many connections; of ``max_buffers`` 0 nothing can be said."""
    each = CONNECTION + ADDRESS + (0 if config.tls_cert is None else TLS)
    waits = config.max_buffers
    if config.cluster is not None:
        waits += MAX_MESSAGES + min(MAX_INBOX_BYTES, READ_COUNT * config.max_frame)
    own = BASE + (0 if config.cluster is None else CLUSTER)
    return own + connections * each + MAX_IDLE * ADDRESS + waits * BUFFERS
