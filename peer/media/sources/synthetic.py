"""The ``test`` source: test pattern and test tone in real time, in sync with each other."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from typing import Final

from peer.media import test_pattern
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, media_time
from peer.media.picture import even_size
from peer.media.sources.constraints import Constraints
from peer.media.sources.handoff import Media

DEFAULT_SIZE: Final = (1280, 720)
DEFAULT_FPS: Final = 30.0

_NEVER: Final = math.inf

_MAX_LATE: Final = 0.5
"""Maximum delay of audio that is still delivered, in seconds. If the machine slept for longer, audio is skipped."""


def read(constraints: Constraints, stop: threading.Event) -> Generator[Media, None, None]:
    """Yield pattern and tone, each at its capture time, until ``stop`` is set. The first frame comes at once."""
    fps = constraints.fps or DEFAULT_FPS
    pattern = test_pattern.Pattern(*even_size(*(constraints.size or DEFAULT_SIZE)), fps)
    now = media_time()
    video_number = math.floor(now * fps)
    audio_number = math.floor(now * AUDIO_RATE / AUDIO_FRAME_SAMPLES)
    while True:
        video_due = video_number / fps if constraints.video else _NEVER
        audio_due = audio_number * AUDIO_FRAME_SAMPLES / AUDIO_RATE if constraints.audio else _NEVER
        if stop.wait(max(0.0, min(video_due, audio_due) - media_time())):
            return
        if video_due <= audio_due:
            yield pattern.draw(video_number)
            video_number = max(video_number + 1, math.floor(media_time() * fps))
        else:
            yield test_pattern.tone_frame(audio_number * AUDIO_FRAME_SAMPLES)
            audio_number += 1
            if media_time() - audio_due > _MAX_LATE:
                audio_number = math.floor(media_time() * AUDIO_RATE / AUDIO_FRAME_SAMPLES)
