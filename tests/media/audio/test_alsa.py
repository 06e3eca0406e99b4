"""ALSA's environment: the wheel's own library must find the system's configuration."""

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


def test_what_the_user_set_stands() -> None:
    environ = {"ALSA_CONFIG_DIR": "/mine", "ALSA_PLUGIN_DIR": "/plugins"}
    prepare_environment(environ)
    assert environ == {"ALSA_CONFIG_DIR": "/mine", "ALSA_PLUGIN_DIR": "/plugins"}


@pytest.mark.sound
def test_points_at_folders_that_exist() -> None:
    environ: dict[str, str] = {}
    prepare_environment(environ)
    assert (Path(environ["ALSA_CONFIG_DIR"]) / "alsa.conf").is_file()
    assert list(Path(environ["ALSA_PLUGIN_DIR"]).glob("libasound_module_*.so"))


@pytest.mark.sound
def test_a_device_opens_once_the_environment_is_prepared() -> None:
    assert _capture("prepared").returncode == 0
