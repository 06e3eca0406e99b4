"""Finds out which hardware encoders work, in a child process: a driver may crash or hang the process that opens it.

FFmpeg's ``h264_v4l2m2m`` opens each /dev/video* and crashes (SIGSEGV) if one of them is a v4l2loopback device whose
format is H.264, whatever source this peer uses. Therefore a child (``encoder_trial.py``) tries each encoder. It is
started once per boot and set of devices; its answers are kept in ``$XDG_CACHE_HOME/peer/encoders.json``. Without any
device that an encoder could use, no child is started.

Blocking: threads only.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import av

from peer.media.sources.camera_nodes import DEV

log = logging.getLogger(__name__)

NODES: Final[Mapping[str, tuple[str, ...]]] = {
    "h264_nvenc": ("nvidia[0-9]*", "nvhost-*", "dxg"),
    "h264_qsv": ("dri/renderD*",),
    "h264_v4l2m2m": ("video*",),
}
"""The device nodes below /dev of which each hardware encoder needs one."""

_TIMEOUT: Final = 10.0
"""Maximum time for the child to try all encoders, in seconds. It takes 0.5 s, a driver that initializes 2 s."""

_MAX_CACHE_BYTES: Final = 65_536
"""Maximum size of the file with the answers, in bytes. It takes less than 1 kB."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class EncoderProbe:
    """Which of ``NODES`` work on this machine. Thread-safe.

    Args:
        command: the child; the names of the encoders to try are appended. It prints one JSON object per encoder, with
            ``encoder`` and ``problem``, which is ``null`` if the encoder works.
        cache: the file with the answers; ``None``: in the user's cache folder.
        dev: the folder with the device nodes.
        timeout: maximum time for the child, in seconds.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "peer.media.outgoing.encoder_trial"),
        cache: Path | None = None,
        dev: Path = DEV,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._command = command
        self._cache = cache
        self._dev = dev
        self._timeout = timeout
        self._lock = threading.Lock()
        self._works: dict[str, bool] | None = None

    def works(self, name: str) -> bool:
        """Whether encoder ``name`` works. The first call may start the child and wait for it."""
        with self._lock:
            if self._works is None:
                self._works = self._find_out()
            return self._works.get(name, False)

    def disable(self, name: str) -> None:
        """Note that encoder ``name`` has failed, so that this process does not use it again."""
        with self._lock:
            if self._works is not None:
                self._works[name] = False

    def _find_out(self) -> dict[str, bool]:
        devices = {name: self._nodes(patterns) for name, patterns in NODES.items()}
        names = [name for name, nodes in devices.items() if nodes]
        if not names:
            return {}
        key = {
            "boot": _read(_BOOT_ID).strip(),
            "libavcodec": str(av.library_versions["libavcodec"]),
            "devices": devices,
        }
        cache = self._cache or _cache_folder() / "encoders.json"
        known = _load(cache, key)
        if known is None:
            known = self._try_all(names)
            _save(cache, key, known)
        for name in (name for name in known if known[name]):
            log.info("hardware encoder %s is used for H.264", name)
        return known

    def _nodes(self, patterns: Sequence[str]) -> list[str]:
        found = sorted(path for pattern in patterns for path in self._dev.glob(pattern))
        return [f"{path.relative_to(self._dev)} {path.stat().st_rdev}" for path in found if path.exists()]

    def _try_all(self, names: Sequence[str]) -> dict[str, bool]:
        """Try the encoders in one child after another: each ends at the first encoder that crashes or hangs."""
        works: dict[str, bool] = {}
        while left := [name for name in names if name not in works]:
            output, ending = self._run_child(left)
            for answer in output:
                problem = answer.get("problem")
                works[answer["encoder"]] = problem is None
                log.debug("encoder %s: %s", answer["encoder"], problem or "works")
            culprit = next((name for name in left if name not in works), None)
            if culprit is not None:
                log.info("encoder %s is not used: its trial %s", culprit, ending)
                works[culprit] = False
        return works

    def _run_child(self, names: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
        """Return the answers of a child about ``names``, and how it ended."""
        try:
            child = subprocess.Popen(
                [*self._command, *names],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # FFmpeg and the drivers write to it
                start_new_session=True,  # Ctrl+C does not reach it
            )
        except OSError as problem:
            return [], f"could not be started: {problem.strerror}"
        try:
            output, _ = child.communicate(timeout=self._timeout)
            ending = f"ended with signal {-child.returncode}" if child.returncode < 0 else "gave no answer"
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            ending = f"did not end within {self._timeout:g} s"
        return [answer for line in output.splitlines() if (answer := _answer(line, names)) is not None], ending


def _answer(line: bytes, names: Sequence[str]) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and answer.get("encoder") in names else None


def _load(cache: Path, key: Mapping[str, Any]) -> dict[str, bool] | None:
    try:
        with cache.open() as file:
            body = json.loads(file.read(_MAX_CACHE_BYTES))
    except (OSError, ValueError):
        return None
    works = body.get("works") if isinstance(body, dict) and body.get("key") == key else None
    if not isinstance(works, dict) or not all(value in (True, False) for value in works.values()):
        return None
    return works


def _save(cache: Path, key: Mapping[str, Any], works: Mapping[str, bool]) -> None:
    """Write the answers to a new file and move it into place. Without a writable folder they are found out again."""
    new = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_text(json.dumps({"key": key, "works": works}))
        new.replace(cache)
    except OSError as problem:
        log.debug("cannot keep which encoders work: %s", problem)


def _cache_folder() -> Path:
    """``$XDG_CACHE_HOME/peer``; ``~/.cache/peer`` if the variable is unset or not absolute."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.cache"))) / "peer"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
