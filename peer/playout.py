"""Playout: shows the video of all connected calls in windows and plays their audio on the speaker.

A failing window or sound card costs one notice. It never ends or delays a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import av

from .call import Call
from .media.audio.speaker import Speaker, SpeakerBack, SpeakerLost
from .media.fanout import Fanout
from .media.windows.windows import LOCAL, Windows


class Playout:
    """Windows and speaker of one agent.

    Args:
        tasks: runs the tasks of both.
        show: whether to open windows.
        speaker: ``auto``, ``none`` or an ALSA device.
        on_close: called with the id of a peer whose window the user closed.
        on_notice: called with a line of text when windows or speaker fail, or work again.
        on_speaker: called when the speaker is lost or back.
        unattended: whether a speaker that cannot play is tried again instead of being an error.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        show: bool,
        speaker: str,
        on_close: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_speaker: Callable[[SpeakerLost | SpeakerBack], None] = lambda state: None,
        unattended: bool = False,
    ) -> None:
        self._tasks = tasks
        self._windows = Windows(tasks, on_close, on_notice) if show else None
        self._speaker: Speaker | None = None
        if speaker != "none":
            self._speaker = Speaker(tasks, speaker, on_notice, on_speaker, unattended=unattended)

    async def open(self, preview: Fanout[av.VideoFrame] | None) -> None:
        """Start windows and speaker. The window "me" shows ``preview``.

        Raises:
            MediaError: the speaker is a named device that cannot play, and this peer is not unattended.
        """
        if self._windows is not None:
            if preview is not None:
                self._windows.show(LOCAL, "me", preview)
            self._tasks.create_task(self._windows.start(), name="windows start")  # loading OpenCV takes a while
        if self._speaker is not None:
            await self._speaker.open()

    def add(self, call: Call) -> None:
        """Show and play the media of ``call``."""
        if self._windows is not None:
            self._windows.show(call.peer, call.peer, call.media.video.frames)
        if self._speaker is not None:
            self._speaker.add(call.peer, call.media.audio.frames)

    def remove(self, peer: str) -> None:
        """Close the window of ``peer`` and stop its audio."""
        if self._windows is not None:
            self._windows.hide(peer)
        if self._speaker is not None:
            self._speaker.remove(peer)

    def devices_changed(self) -> None:
        """Open the speaker now if it is lost: a device was plugged in or unplugged."""
        if self._speaker is not None:
            self._speaker.retry_now()

    async def close(self) -> None:
        """Close all windows and the speaker."""
        if self._windows is not None:
            await self._windows.close()
        if self._speaker is not None:
            await self._speaker.close()
