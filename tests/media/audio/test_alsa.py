"""The environment in which the wheel's libasound finds the system's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer.media.audio.alsa import prepare_environment

_CAPTURE = """
import av, sys
if sys.argv[1] == "prepared":
    from peer.media.audio.alsa import prepare_environment
    prepare_environment()
with av.open("null", format="alsa", options={"sample_rate": "48000"}) as device:
    assert next(device.decode(audio=0)).samples > 0
"""


def _capture(mode: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ALSA_")}
    return subprocess.run(
        [sys.executable, "-c", _CAPTURE, mode], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_prepare_environment_keeps_user_settings() -> None:
    environ = {"ALSA_CONFIG_DIR": "/mine", "ALSA_PLUGIN_DIR": "/plugins"}
    prepare_environment(environ)
    assert environ == {"ALSA_CONFIG_DIR": "/mine", "ALSA_PLUGIN_DIR": "/plugins"}


@pytest.mark.sound
def test_prepare_environment_sets_existing_folders() -> None:
    environ: dict[str, str] = {}
    prepare_environment(environ)
    assert (Path(environ["ALSA_CONFIG_DIR"]) / "alsa.conf").is_file()
    assert list(Path(environ["ALSA_PLUGIN_DIR"]).glob("libasound_module_*.so"))


@pytest.mark.sound
def test_prepared_environment_device_opens() -> None:
    assert _capture("prepared").returncode == 0
