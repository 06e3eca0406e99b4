"""Programs that tests build or install once.

They are kept in ``$XDG_CACHE_HOME/headless-webrtc-peer`` by a hash of their sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def built(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """Return the folder that ``build`` made out of ``sources``, now or earlier.

    It is made beside its place and renamed, so that two test runs never see an incomplete one.
    """
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache() / f"{name}-{digest}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
        build(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return folder


def cache() -> Path:
    """Return the folder in which builds are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "headless-webrtc-peer"


def run(command: Sequence[str], env: Mapping[str, str], needs: str, folder: Path | None = None) -> None:
    """Run ``command`` in ``folder``. Raises RuntimeError with its output, or with the packages that it ``needs``."""
    try:
        subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is not installed: these tests need {needs}") from None
    except subprocess.CalledProcessError as exc:
        raise RuntimeError(f"{' '.join(command)}\n{exc.stdout}{exc.stderr}") from None
