"""Paths of recordings and snapshots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.node.sinks import SinkPaths


def test_single_call_uses_the_path_unchanged(tmp_path: Path) -> None:
    paths = SinkPaths(str(tmp_path / "door.mkv"), str(tmp_path / "door.png"), several=False)
    paths.check()
    assert paths.recording("door") == str(tmp_path / "door.mkv")
    assert paths.snapshot("door") == str(tmp_path / "door.png")


def test_no_options_mean_no_files() -> None:
    paths = SinkPaths(None, None, several=True)
    paths.check()
    assert not paths.recorded
    assert not paths.snapshots


def test_second_recording_of_a_call_gets_a_number(tmp_path: Path) -> None:
    paths = SinkPaths(str(tmp_path / "door.mkv"), None, several=False)
    assert paths.recording("door") == str(tmp_path / "door.mkv")
    assert paths.recording("door") == str(tmp_path / "door-2.mkv")


def test_several_calls_get_a_new_file_each(tmp_path: Path) -> None:
    (tmp_path / "calls-door.mkv").touch()
    paths = SinkPaths(str(tmp_path / "calls.mkv"), None, several=True)
    paths.check()
    assert paths.recording("door") == str(tmp_path / "calls-door-2.mkv")
    assert paths.recording("gate") == str(tmp_path / "calls-gate.mkv")


def test_placeholders_are_filled_in_and_folders_get_a_name(tmp_path: Path) -> None:
    paths = SinkPaths(str(tmp_path / "{peer}.webm"), f"{tmp_path}/", several=True)
    assert paths.recording("door") == str(tmp_path / "door.webm")
    assert re.fullmatch(r"door-\d{8}-\d{6}\.png", Path(paths.snapshot("door")).name)


def test_check_rejects_existing_unwritable_and_unknown(tmp_path: Path) -> None:
    (tmp_path / "door.mkv").touch()
    with pytest.raises(MediaError, match="the file exists"):
        SinkPaths(str(tmp_path / "door.mkv"), None, several=False).check()
    with pytest.raises(MediaError, match="cannot write to"):
        SinkPaths(str(tmp_path / "door.mkv" / "x.mkv"), None, several=False).check()
    with pytest.raises(MediaError, match="is not known"):
        SinkPaths(str(tmp_path / "{id}.mkv"), None, several=False).check()


@pytest.mark.parametrize(("record", "snapshot"), [("/proc/nope/x.mkv", None), (None, "/proc/nope/x.png")])
def test_check_rejects_a_folder_that_only_seems_writable(record: str | None, snapshot: str | None) -> None:
    with pytest.raises(MediaError, match="cannot write to /proc; try another path"):
        SinkPaths(record, snapshot, several=False).check()


def test_check_leaves_no_file(tmp_path: Path) -> None:
    SinkPaths(str(tmp_path / "deep" / "x.mkv"), str(tmp_path / "x.png"), several=False).check()
    assert list(tmp_path.iterdir()) == []


def test_tilde_is_expanded_for_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "calls").mkdir()
    paths = SinkPaths("~/calls", None, several=True)
    paths.check()
    assert Path(paths.recording("door")).parent == tmp_path / "calls"


@pytest.mark.parametrize("peer", ["~", "~root", "~nobody-of-that-name"])
def test_tilde_in_an_id_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    monkeypatch.chdir(tmp_path)
    for pattern in (".", "{peer}.mkv", "./{peer}/x.mkv"):
        paths = SinkPaths(pattern, None, several=True)
        paths.check()
        assert tmp_path in Path(paths.recording(peer)).absolute().parents


def test_name_rejected_by_the_disk_is_a_media_error(tmp_path: Path) -> None:
    long = SinkPaths(str(tmp_path / ("n" * 200 + "-{peer}.mkv")), str(tmp_path / ("n" * 250 + ".png")), several=True)
    with pytest.raises(MediaError, match="too long"):
        long.recording("p" * 64)
    with pytest.raises(MediaError, match="too long"):
        long.snapshot("p" * 64)


@pytest.mark.parametrize("name", ["x.avi", "x", "x.png"])
def test_check_rejects_unknown_recording_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"cannot record to a file with .* suffix; use \.mkv, \.webm, \.mp4"):
        SinkPaths(str(tmp_path / name), None, several=True).check()


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.mkv"])
def test_check_rejects_unknown_snapshot_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="is not supported; use one of"):
        SinkPaths(None, str(tmp_path / name), several=False).check()
