"""A PulseAudio server for tests, without a sound card, that can be killed and started again."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SoundServer:
    """``device`` is the PulseAudio module, with arguments, that provides the only microphone or speaker."""

    def __init__(self, home: Path, device: str) -> None:
        self._script = home / "server.pa"
        self._script.write_text(
            f"load-module {device}\n"
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={home / 'native'}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--exit-idle-time=-1", "--daemonize=no", "--realtime=no", "--use-pid-file=no", "--disable-shm"]
        self._process = subprocess.Popen(
            ["pulseaudio", "-n", "-F", self._script, *options], stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running(home: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """Run a server, with an environment in which ALSA's ``pulse`` finds it."""
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{home}/native")
    for name in ("ALSA_CONFIG_PATH", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    server = SoundServer(home, device)
    server.start()
    try:
        subprocess.run(
            ["sh", "-c", "until pactl info; do sleep 0.05; done"], timeout=20, check=True, capture_output=True
        )
        yield server
    finally:
        server.kill()
