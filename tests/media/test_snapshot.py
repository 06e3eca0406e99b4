"""Snapshots: a complete file, or an error with its reason."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.snapshot import snapshot


def _frame() -> av.VideoFrame:
    """Return a frame with a red left and a blue right half, 4:2:0 as from a decoder."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, :80, 0] = 200
    pixels[:, 80:, 2] = 200
    return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")


async def _take(path: Path) -> None:
    wanted = asyncio.Event()
    video: Fanout[av.VideoFrame] = Fanout(on_first=wanted.set)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(snapshot(path, video, 5))
        await wanted.wait()
        video.put(_frame())
    assert video.readers == 0


@pytest.mark.parametrize("name", ["door.png", "door.jpg", "DOOR.JPEG"])
async def test_snapshot_writes_the_next_frame(tmp_path: Path, name: str) -> None:
    await _take(tmp_path / "new" / name)
    with av.open(str(tmp_path / "new" / name)) as file:
        seen = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert seen.shape == (120, 160, 3)
    assert np.abs(seen[60, 20] - (200, 0, 0)).max() < 12 and np.abs(seen[60, 140] - (0, 0, 200)).max() < 12
    assert os.listdir(tmp_path / "new") == [name]


async def test_snapshot_replaces_file_and_respects_umask(tmp_path: Path) -> None:
    path = tmp_path / "door.png"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        await _take(path)
    finally:
        os.umask(before)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_mode & 0o777 == 0o640


async def test_snapshot_unknown_suffix_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"the suffix '\.gif' is not supported; use one of \.png, \.jpg, \.jpeg"):
        await snapshot(tmp_path / "door.gif", Fanout(), 60)


async def test_snapshot_without_frame_times_out(tmp_path: Path) -> None:
    video: Fanout[av.VideoFrame] = Fanout()
    with pytest.raises(MediaError, match=r"no video frame came within 0\.05 s"):
        await snapshot(tmp_path / "door.png", video, 0.05)
    assert video.readers == 0 and os.listdir(tmp_path) == []


async def test_snapshot_of_ended_call_raises(tmp_path: Path) -> None:
    video: Fanout[av.VideoFrame] = Fanout()
    video.close()
    with pytest.raises(MediaError, match="the call ended"):
        await snapshot(tmp_path / "door.png", video, 60)


async def test_snapshot_write_error_raises_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "door.png").mkdir()
    with pytest.raises(ExceptionGroup) as caught:
        await _take(tmp_path / "door.png")
    assert isinstance(caught.value.exceptions[0], MediaError)
    assert "Is a directory" in str(caught.value.exceptions[0])
    assert os.listdir(tmp_path) == ["door.png"]


async def test_snapshot_does_not_need_the_default_executor(tmp_path: Path) -> None:
    """Encoders share that executor, and a DNS look-up can block it."""
    done = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        executor.submit(done.wait, 30)
        try:
            await _take(tmp_path / "door.png")
        finally:
            done.set()
    assert os.listdir(tmp_path) == ["door.png"]
