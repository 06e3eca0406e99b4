"""Candidates that wait: the remote's for their description, ours until our description is sent (rule 6). Pure."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from ..signaling.messages import IceCandidate

MAX_QUEUED: Final = 64
"""Maximum number of queued candidates, and of queued offers. When full, the oldest candidate or the newest offer is
dropped. Limits the memory that a misbehaving remote can occupy."""

ITEM_OVERHEAD: Final = 256
"""Memory of a queued offer or candidate in addition to its text, in bytes."""

Candidates = tuple[IceCandidate, ...]


def queue(candidates: Candidates, candidate: IceCandidate) -> Candidates:
    """Return ``candidates`` with ``candidate`` at the end."""
    return (*candidates, candidate)[-MAX_QUEUED:]


def belongs(candidate: IceCandidate, ufrags: Set[str]) -> bool:
    """Whether ``candidate`` belongs to the description with these ufrags. One without a ufrag always does."""
    return candidate.ufrag is None or candidate.ufrag in ufrags


def size(candidate: IceCandidate) -> int:
    """Return the memory that a queued candidate takes, in bytes."""
    texts = (candidate.candidate, candidate.sdp_mid, candidate.username_fragment)
    return ITEM_OVERHEAD + sum(len(text) for text in texts if text is not None)
