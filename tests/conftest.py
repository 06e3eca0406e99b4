"""Configuration of all tests: their order, and isolation from the user's settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from peer import log_limit
from tests import legacy

_ROOT = Path(__file__).parent

settings.register_profile("unhurried", deadline=None)  # examples take longer than 200 ms on a loaded machine
settings.load_profile("unhurried")

_ORDER = (".", "rtp", "codecs", "signaling", "script", "node", "rtc", "media", "server", "cli", "negotiation")
"""Folders whose tests run first, from the fastest to the slowest. Whole programs and browsers run last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by ``_ORDER``."""

    def rank(item: pytest.Item) -> int:
        folder = next(iter(item.path.parent.relative_to(_ROOT).parts), ".")
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    items.sort(key=rank)


def pytest_report_header() -> str | None:
    """Report what this machine does not permit, and how the tests run instead."""
    if legacy.namespaces() is None:
        return "legacy Go server: no network namespaces on this machine; tests run a copy of it with another port"
    return None


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Undo the logging configuration of commands that run in this process, and let each test log its first line."""
    log_limit.SHARED._causes.clear()
    known = {name: logging.getLogger(name) for name in (None, "peer", "server")}
    levels = {name: logger.level for name, logger in known.items()}
    handlers = known[None].handlers[:]
    yield
    for name, logger in known.items():
        logger.setLevel(levels[name])
    known[None].handlers[:] = handlers
    logging.captureWarnings(False)


@pytest.fixture(autouse=True, scope="session")
def _isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the configuration, the identity and the ``PEER_`` variables of the user who runs the tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        for name in [name for name in os.environ if name.startswith("PEER_")]:
            patch.delenv(name)
        yield
