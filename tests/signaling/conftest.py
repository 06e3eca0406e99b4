"""Fixtures of the signaling tests: short delays, and a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.signaling import backoff
from tests.server import keys


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients retry after 100 ms at most."""
    monkeypatch.setattr(backoff, "BACKOFF_MIN", 0.02)
    monkeypatch.setattr(backoff, "BACKOFF_MAX", 0.1)
    monkeypatch.setattr(backoff, "MAX_RESTART_DELAY", 0.05)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """PEM file with the key and the self-signed certificate of ``localhost``."""
    return Path(keys.certificate(tmp_path / "localhost.pem"))
