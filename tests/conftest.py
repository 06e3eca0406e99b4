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

_LONGEST = ("negotiation/test_model.py", "test_tutorials.py", "e2e/test_recordings.py", "cli/commands/test_call.py")
"""Files that take half a minute or more. In parallel they start first: a worker runs a whole file, and the others
would wait for the last one."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by ``_ORDER``: from the fastest to the slowest, or in parallel the other way round."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(_ROOT)
        folder = next(iter(path.parent.parts), ".")
        order = _ORDER.index(folder) if folder in _ORDER else len(_ORDER)
        if not hasattr(config, "workerinput"):  # set by xdist
            return order
        return _LONGEST.index(str(path)) - len(_LONGEST) if str(path) in _LONGEST else len(_ORDER) - order

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
