"""For all tests: the quick ones first, and nothing of the user's own set-up."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import legacy

_ROOT = Path(__file__).parent
_ORDER = (".", "server", "media", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in this process comes first, whole programs and browsers after it."""

    def rank(item: pytest.Item) -> int:
        folder = str(item.path.parent.relative_to(_ROOT))
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    items.sort(key=rank)


def pytest_report_header() -> str | None:
    """Say what this machine forbids, and what is done instead."""
    if legacy.namespaces() is None:
        return "old Go server: network namespaces are forbidden here; its port is changed in a copy of the program"
    return None


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that runs in this process configures logging, for those that come after it too."""
    known = {name: logging.getLogger(name) for name in (None, "peer", "server")}
    levels = {name: logger.level for name, logger in known.items()}
    handlers = known[None].handlers[:]
    yield
    for name, logger in known.items():
        logger.setLevel(levels[name])
    known[None].handlers[:] = handlers
    logging.captureWarnings(False)


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the configuration nor the identity of whoever runs the tests plays a part in them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        for name in [name for name in os.environ if name.startswith("PEER_")]:
            patch.delenv(name)
        yield
