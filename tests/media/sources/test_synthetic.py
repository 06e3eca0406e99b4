"""The test source."""

from __future__ import annotations

import threading
from itertools import islice

import av
import numpy as np
import pytest

from peer.media.frames import media_time
from peer.media.sources import synthetic
from peer.media.sources.constraints import Constraints
from peer.media.test_pattern import read_pattern


def test_synthetic_first_frame_comes_at_once() -> None:
    reading = synthetic.read(Constraints(video=True, audio=False, size=(320, 180), fps=1), threading.Event())
    started = media_time()
    image = next(reading)
    assert media_time() - started < 0.5
    assert image.time <= media_time()


def test_synthetic_frames_come_at_their_time_in_sync() -> None:
    reading = synthetic.read(Constraints(video=True, audio=True, size=(320, 180), fps=25), threading.Event())
    frames = [(media_time(), frame) for frame in islice(reading, 75)]
    assert max(now - frame.time for now, frame in frames[2:]) < 0.4
    assert min(now - frame.time for now, frame in frames) >= 0
    video = [frame for _, frame in frames if isinstance(frame, av.VideoFrame)]
    audio = [frame for _, frame in frames if isinstance(frame, av.AudioFrame)]
    assert np.diff([frame.pts for frame in audio]).tolist() == [960] * (len(audio) - 1)
    for image in video:
        code = read_pattern(image.to_ndarray(format="gray"))
        assert code is not None
        assert image.time == pytest.approx(code.frame / 25)
        assert code.flash == (image.time % 1 < 0.0999)


def test_synthetic_ends_on_stop() -> None:
    stop = threading.Event()
    reading = synthetic.read(Constraints(video=False, audio=True), stop)
    next(reading)
    stop.set()
    assert list(reading) == []
