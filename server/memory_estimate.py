"""Upper bound of a relay's memory, whatever its clients do (docs/limits.md). Pure.

The figures are measured values plus a margin. ``tests/server/test_memory_estimate.py`` drives relays to their limits
and compares. The kernel's socket buffers and requests to the monitoring port are not included.
"""

from __future__ import annotations

from typing import Final

from .admission.rate_limits import MAX_IDLE
from .cluster.batch_queue import MAX_MESSAGES
from .cluster.messages import MAX_INBOX_BYTES, READ_COUNT
from .config import RelayConfig

BASE: Final = 40 * 1024**2
"""Python, this package and the page, in bytes, including 5 MB for ``--metrics`` or signed tokens."""
CONNECTION: Final = 12 * 1024
"""A connection with a seat and the longest names, key and instance, in bytes."""
TLS: Final = 64 * 1024
"""Additional memory of a TLS connection, in bytes."""
ADDRESS: Final = 1024
"""A remembered address, in bytes."""
CLUSTER: Final = 20 * 1024**2
"""The Redis library, in bytes."""
BUFFER_FACTOR: Final = 2
"""Memory per buffered byte. A growing buffer is copied, and freed memory between other blocks is not returned."""


def max_memory(config: RelayConfig, connections: int) -> int:
    """Return the maximum resident memory in bytes. With ``max_buffers`` 0 there is no upper bound."""
    each = CONNECTION + ADDRESS + (0 if config.tls_cert is None else TLS)
    buffered = config.max_buffers
    if config.cluster is not None:
        buffered += MAX_MESSAGES + min(MAX_INBOX_BYTES, READ_COUNT * config.max_frame)
    own = BASE + (0 if config.cluster is None else CLUSTER)
    return own + connections * each + MAX_IDLE * ADDRESS + buffered * BUFFER_FACTOR
