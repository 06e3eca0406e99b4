"""The connection to the X display, and the fixes for OpenCV's Qt."""

from __future__ import annotations

import ctypes
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.media.windows import child
from peer.media.windows.display import Display, leave_events_to_qt, load_qt_plugin
from tests import x_server

pytestmark = pytest.mark.display


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An X server without a window manager, in DISPLAY."""
    with x_server.running("800x600") as server:
        monkeypatch.setenv("DISPLAY", server.name)
        yield


def test_display_has_the_size_of_the_screen(display: None) -> None:
    connection = Display()
    assert (connection.width, connection.height) == (800, 600)


def test_display_without_windows_has_no_focused_titles(display: None) -> None:
    assert Display().focused_titles() == []


def test_display_missing_server_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    with pytest.raises(ConnectionError, match="cannot be opened"):
        Display()


def test_leave_events_to_qt_without_library_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str, mode: int) -> None:
        loaded.append((name, mode))
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    leave_events_to_qt()
    assert loaded == [("libX11-xcb.so.1", ctypes.RTLD_GLOBAL)]


def test_load_qt_plugin_without_plugin_does_nothing(tmp_path: Path) -> None:
    load_qt_plugin(tmp_path)


def test_load_qt_plugin_broken_plugin_raises_with_its_name(tmp_path: Path) -> None:
    plugin = tmp_path / "qt" / "plugins" / "platforms" / "libqxcb.so"
    plugin.parent.mkdir(parents=True)
    plugin.write_bytes(b"no library")
    with pytest.raises(OSError, match=r"libqxcb\.so"):
        load_qt_plugin(tmp_path)


def test_child_without_display_reports_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    ours, theirs = socket.socketpair()
    with ours:
        assert child.main(theirs.detach()) == 1
        event = json.loads(ours.recv(4096))
    assert event == {"event": "failed", "why": "the display cannot be opened (DISPLAY=:9999)"}


def test_child_with_broken_opencv_reports_failure(
    display: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    ours, theirs = socket.socketpair()
    with ours:
        assert child.main(theirs.detach()) == 1
        event = json.loads(ours.recv(4096))
    assert event == {"event": "failed", "why": "libGL.so.1: cannot open shared object file"}
