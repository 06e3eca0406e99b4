"""The released version, as a counterpart: upgrades roll, so its programs have to work with ours."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.builds import built

COMMIT: Final = "7816085dedb9a3bb4c739f096e90fc81c6e1723e"
"""Commit of the released version."""

_ROOT: Final = Path(__file__).resolve().parents[1]


def released() -> Path:
    """Return a folder with the packages of the released version. They run with this interpreter and its libraries.

    Fails the test in CI, and skips it elsewhere, if the repository does not have the commit.
    """

    def extract(folder: Path) -> None:
        command = ["git", "-C", str(_ROOT), "archive", COMMIT, "peer", "server"]
        archive = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")

    try:
        return built(f"released-{COMMIT[:7]}", [], extract)
    except (OSError, subprocess.CalledProcessError):
        reason = f"the repository lacks commit {COMMIT[:7]}: clone it with its history (git fetch --unshallow)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
