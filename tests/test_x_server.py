"""The X server that tests of windows and of the screen share."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import x_server


@pytest.mark.display
def test_it_stays_as_it_is_when_its_last_client_leaves() -> None:
    """One that starts over centres its pointer, and turns away whoever comes at that moment."""
    with x_server.running("640x360") as server:

        def xdotool(*args: str) -> str:
            return subprocess.check_output(["xdotool", *args], env=os.environ | {"DISPLAY": server.name}, text=True)

        xdotool("mousemove", "7", "9")
        assert xdotool("getmouselocation").startswith("x:7 y:9 ")
