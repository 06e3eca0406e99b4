"""``setup.sh`` where there is no network, and after its folder was moved."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INDEX = "http://127.0.0.1:1/simple"
"""A package index that refuses connections."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What ``setup.sh`` needs of the project, in a folder of its own."""
    made = tmp_path / "before"
    (made / "peer").mkdir(parents=True)
    for name in ("setup.sh", "pyproject.toml", "peer/__init__.py"):
        shutil.copy(ROOT / name, made / name)
    return made


def setup(folder: Path) -> tuple[int, list[str]]:
    """Run ``./setup.sh`` in ``folder``, without a network: exit code, and the lines it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PYTHON": sys.executable, "PIP_INDEX_URL": INDEX, "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(["./setup.sh"], cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def pretend_installed(folder: Path) -> None:
    """Make a ``.venv`` as installed: with the path to the project, and a checksum of ``pyproject.toml``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (packages,) = (folder / ".venv" / "lib").glob("python3*/site-packages")
    (packages / "project.pth").write_text(f"{folder}\n")
    with (folder / "pyproject.toml").open() as project, (folder / ".venv" / ".installed").open("w") as stamp:
        subprocess.run(["cksum"], stdin=project, stdout=stamp, check=True)


def test_setup_after_a_move_and_offline(folder: Path) -> None:
    pretend_installed(folder)
    assert setup(folder) == (0, ["setup: done; try: .venv/bin/peer demo"])
    code, lines = setup(folder.rename(folder.with_name("after")))
    assert code == 1 and lines == [
        "setup: this folder, or its .venv, was moved or copied",
        f"setup: making .venv with Python {sys.version.split()[0]}",
        "setup: installing into .venv (a minute or more the first time)",
        f"setup: cannot reach {INDEX} (Connection refused); Python packages are downloaded from there",
    ]
