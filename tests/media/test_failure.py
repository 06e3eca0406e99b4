"""Translation of errors of FFmpeg and the kernel."""

from __future__ import annotations

import errno
import os

import av
import pytest

from peer.errors import MediaError
from peer.media.failure import media_error


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOENT, "no such file or device"),
        (errno.EBUSY, "another program is using it"),
        (errno.EACCES, "group `video`"),
        (errno.ENOTTY, "not a capture device"),
        (errno.ENODEV, "unplugged"),
        (errno.ENOSPC, "No space left on device"),
    ],
)
def test_os_error_gets_cause_and_hint(number: int, text: str) -> None:
    error = media_error("/dev/video0", OSError(number, os.strerror(number)))
    assert str(error).startswith("/dev/video0: ")
    assert text in str(error)


def test_ffmpeg_error_gets_cause_and_hint() -> None:
    with pytest.raises(av.error.FFmpegError) as caught:
        av.open("/nowhere.mp4")
    assert "no such file" in str(media_error("/nowhere.mp4", caught.value))


def test_media_error_stays_and_other_errors_keep_their_text() -> None:
    ours = MediaError("x", "y")
    assert media_error("z", ours) is ours
    assert media_error("z", ValueError("odd")).why == "odd"
    assert media_error("z", ValueError()).why == "ValueError"


def test_ffmpeg_exit_is_reported_as_a_timeout() -> None:
    """PyAV interrupts FFmpeg after its time-out, and FFmpeg reports that as an exit."""
    assert media_error("x", av.error.ExitError(1, "exit")).why == "no answer in time"


def test_unauthorized_error_suggests_a_password() -> None:
    error = media_error("x", av.error.HTTPUnauthorizedError(1, "401"))
    assert str(error) == "x: it requires a name and a password; try rtsp://name:password@host/path"
