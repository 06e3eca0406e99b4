"""The output file: complete writes, errors that are kept, and syncing at intervals."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.media.recording.output_file import OutputFile


@pytest.fixture
def output(tmp_path: Path) -> Iterator[OutputFile]:
    made = OutputFile(tmp_path / "a" / "b" / "call.mkv")
    yield made
    made.close(keep=True)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls of fdatasync."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    return calls


def test_missing_folders_are_created_and_data_is_written(output: OutputFile, tmp_path: Path) -> None:
    assert output.write(b"one") == 3 and output.write(b"two") == 3
    assert output.writes == 2 and output.tell() == 6
    assert (tmp_path / "a" / "b" / "call.mkv").read_bytes() == b"onetwo"


def test_existing_file_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        OutputFile(path)
    assert path.read_text() == "precious"


def test_failed_write_keeps_its_error(output: OutputFile) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            output.write(bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert output.error is caught.value and output.writes == 0
    assert output.tell() == 100, "what fits was written first"


def test_sync_is_skipped_within_the_interval(output: OutputFile, synced: list[int]) -> None:
    output.sync(3600)
    assert not synced
    output.sync(0)
    assert len(synced) == 1


def test_sync_after_close_does_nothing(output: OutputFile, synced: list[int]) -> None:
    output.close(keep=True)
    output.sync(0)
    assert not synced


@pytest.mark.parametrize("keep", [True, False])
def test_close_keeps_or_deletes_the_file(tmp_path: Path, keep: bool) -> None:
    made = OutputFile(tmp_path / "call.mkv")
    made.close(keep=keep)
    made.close(keep=False)  # the second call does nothing
    assert (tmp_path / "call.mkv").exists() is keep
