"""Where recordings and snapshots of calls go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.node.sinks import Files


def test_one_call_gets_the_path_as_it_is(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "door.mkv"), str(tmp_path / "door.png"), several=False)
    files.check()
    assert files.recording("door") == str(tmp_path / "door.mkv")
    assert files.picture("door") == str(tmp_path / "door.png")


def test_nothing_wanted_is_nothing() -> None:
    files = Files(None, None, several=True)
    files.check()
    assert not files.records
    assert not files.pictures


def test_a_call_that_goes_on_gets_another_file(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "door.mkv"), None, several=False)
    assert files.recording("door") == str(tmp_path / "door.mkv")
    assert files.recording("door") == str(tmp_path / "door-2.mkv")


def test_several_calls_get_a_file_each_and_keep_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "calls-door.mkv").touch()
    files = Files(str(tmp_path / "calls.mkv"), None, several=True)
    files.check()
    assert files.recording("door") == str(tmp_path / "calls-door-2.mkv")
    assert files.recording("gate") == str(tmp_path / "calls-gate.mkv")


def test_places_are_filled_in_and_a_folder_gets_a_file_a_call(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "{peer}.webm"), f"{tmp_path}/", several=True)
    assert files.recording("door") == str(tmp_path / "door.webm")
    assert re.fullmatch(r"door-\d{8}-\d{6}\.png", Path(files.picture("door")).name)


def test_what_cannot_be_kept_is_told_before_the_call(tmp_path: Path) -> None:
    (tmp_path / "door.mkv").touch()
    with pytest.raises(MediaError, match="exists already"):
        Files(str(tmp_path / "door.mkv"), None, several=False).check()
    with pytest.raises(MediaError, match="cannot be written"):
        Files(str(tmp_path / "door.mkv" / "x.mkv"), None, several=False).check()
    with pytest.raises(MediaError, match="is not known"):
        Files(str(tmp_path / "{id}.mkv"), None, several=False).check()


@pytest.mark.parametrize(("record", "snapshot"), [("/proc/nope/x.mkv", None), (None, "/proc/nope/x.png")])
def test_a_place_that_only_seems_writable_is_told_before_the_call(record: str | None, snapshot: str | None) -> None:
    with pytest.raises(MediaError, match="/proc cannot be written; try another path"):
        Files(record, snapshot, several=False).check()


def test_looking_whether_a_place_is_writable_leaves_nothing_there(tmp_path: Path) -> None:
    Files(str(tmp_path / "deep" / "x.mkv"), str(tmp_path / "x.png"), several=False).check()
    assert list(tmp_path.iterdir()) == []


def test_home_is_known_also_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "calls").mkdir()
    files = Files("~/calls", None, several=True)
    files.check()
    assert Path(files.recording("door")).parent == tmp_path / "calls"


@pytest.mark.parametrize("peer", ["~", "~root", "~nobody-of-that-name"])
def test_an_id_is_nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    monkeypatch.chdir(tmp_path)
    for pattern in (".", "{peer}.mkv", "./{peer}/x.mkv"):
        files = Files(pattern, None, several=True)
        files.check()
        assert tmp_path in Path(files.recording(peer)).absolute().parents


def test_what_the_disk_says_to_a_name_is_an_error_of_the_recording(tmp_path: Path) -> None:
    long = Files(str(tmp_path / ("n" * 200 + "-{peer}.mkv")), str(tmp_path / ("n" * 250 + ".png")), several=True)
    with pytest.raises(MediaError, match="too long"):
        long.recording("p" * 64)
    with pytest.raises(MediaError, match="too long"):
        long.picture("p" * 64)


@pytest.mark.parametrize("name", ["x.avi", "x", "x.png"])
def test_what_no_recording_ends_in_is_told_before_the_call(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"no recording ends in .*; there are \.mkv, \.webm, \.mp4"):
        Files(str(tmp_path / name), None, several=True).check()


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.mkv"])
def test_what_no_picture_ends_in_is_told_before_the_call(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="is not supported; use one of"):
        Files(None, str(tmp_path / name), several=False).check()
