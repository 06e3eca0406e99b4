"""Names of recordings: none is used twice, and no existing file is overwritten."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.recording import file_names
from peer.media.recording.file_names import FileNames, SegmentPaths, SinglePath


def create(names: FileNames, count: int) -> list[str]:
    """Create the next ``count`` files. Return their names. Closing deletes them, because they are empty."""
    muxers = [names.create() for _ in range(count)]
    for muxer in muxers:
        muxer.close()
    return [muxer.path.name for muxer in muxers]


def test_single_path_numbers_the_files_that_follow(tmp_path: Path) -> None:
    (tmp_path / "door-3.mkv").touch()
    names = SinglePath(tmp_path / "door.mkv")
    assert create(names, 3) == ["door.mkv", "door-2.mkv", "door-4.mkv"]
    assert str(names) == str(tmp_path / "door.mkv")


def test_single_path_that_exists_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "door.mkv").touch()
    with pytest.raises(MediaError, match=r"door\.mkv: the file exists; name another file, or put \{time\}"):
        SinglePath(tmp_path / "door.mkv").create()
    assert os.listdir(tmp_path) == ["door.mkv"]


def test_segments_continue_after_existing_numbers(tmp_path: Path) -> None:
    for name in ("cam-0007.mkv", "cam-12.mkv", "cam-0009.webm", "other-0020.mkv"):
        (tmp_path / name).touch()
    assert create(SegmentPaths(f"{tmp_path}/{{peer}}.mkv", "cam"), 2) == ["cam-0008.mkv", "cam-0009.mkv"]


def test_segments_in_a_missing_folder_start_at_one(tmp_path: Path) -> None:
    assert create(SegmentPaths(f"{tmp_path}/new/x.mkv", "cam"), 1) == ["x-0001.mkv"]


def test_segments_of_the_same_time_get_a_number(tmp_path: Path) -> None:
    first, second = create(SegmentPaths(f"{tmp_path}/{{peer}}-{{time}}.mkv", "cam"), 2)
    assert re.fullmatch(r"cam-\d{8}-\d{6}\.mkv", first)
    assert second != first and re.fullmatch(r"cam-\d{8}-\d{6}(-2)?\.mkv", second)


@pytest.mark.parametrize("template", ["x.avi", "x", "{room}.mkv"])
def test_invalid_template_is_an_error(template: str) -> None:
    with pytest.raises(MediaError):
        SegmentPaths(template, "cam")


def test_nul_in_a_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="null"):
        SinglePath(tmp_path / "x\0.mkv").create()


def test_too_many_existing_names_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_names, "_MAX_ATTEMPTS", 2)
    names = SinglePath(tmp_path / "x.mkv")
    assert create(names, 1) == ["x.mkv"]
    for number in (2, 3):
        (tmp_path / f"x-{number}.mkv").touch()
    with pytest.raises(MediaError, match="the file exists"):
        names.create()
