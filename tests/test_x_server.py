"""The X server for tests of windows and of screen capture."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import x_server


@pytest.mark.display
def test_x_server_without_clients_keeps_its_state() -> None:
    """An X server that resets centers its pointer, and rejects new clients meanwhile."""
    with x_server.running("640x360") as server:

        def xdotool(*args: str) -> str:
            return subprocess.check_output(["xdotool", *args], env=os.environ | {"DISPLAY": server.name}, text=True)

        xdotool("mousemove", "7", "9")
        assert xdotool("getmouselocation").startswith("x:7 y:9 ")
