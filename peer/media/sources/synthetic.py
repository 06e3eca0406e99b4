"""The ``test`` source in real time: the pattern's pictures and tone, by themselves or in step."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from typing import Final

from peer.media import test_pattern
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, media_time
from peer.media.picture import even
from peer.media.sources.constraints import Wish
from peer.media.sources.handoff import Media

SIZE: Final = (1280, 720)
FPS: Final = 30.0

_NEVER: Final = math.inf

_TOO_LATE: Final = 0.5
"""Seconds behind at which sound is skipped, not caught up with: the machine slept."""


def read(wish: Wish, stop: threading.Event) -> Generator[Media, None, None]:
    """Pictures and sound of the pattern, each at its moment, until ``stop``. The first picture comes at once."""
    fps = wish.fps or FPS
    canvas = test_pattern.Pattern(*even(*(wish.size or SIZE)), fps)
    now = media_time()
    frame = math.floor(now * fps)
    packet = math.floor(now * AUDIO_RATE / AUDIO_FRAME_SAMPLES)
    while True:
        picture_due = frame / fps if wish.video else _NEVER
        sound_due = packet * AUDIO_FRAME_SAMPLES / AUDIO_RATE if wish.audio else _NEVER
        if stop.wait(max(0.0, min(picture_due, sound_due) - media_time())):
            return
        if picture_due <= sound_due:
            yield canvas.picture(frame)
            frame = max(frame + 1, math.floor(media_time() * fps))
        else:
            yield test_pattern.sound(packet * AUDIO_FRAME_SAMPLES)
            packet += 1
            if media_time() - sound_due > _TOO_LATE:
                packet = math.floor(media_time() * AUDIO_RATE / AUDIO_FRAME_SAMPLES)
