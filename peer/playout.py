"""What a person at this machine sees and hears: windows and the speaker, fed by the calls that are connected.

Must never end or delay a call: whatever happens to a window or a sound card costs one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import av

from .call import Call
from .media.audio.speaker import Speaker
from .media.fanout import Fanout
from .media.windows.windows import LOCAL, Windows


class Presentation:
    """``speaker`` is ``auto``, ``none`` or a device. ``on_close(peer)``: the user closed that peer's window."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        show: bool,
        speaker: str,
        on_close: Callable[[str], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._windows = Windows(tasks, on_close, on_notice) if show else None
        self._speaker = Speaker(tasks, speaker, on_notice) if speaker != "none" else None

    async def open(self, preview: Fanout[av.VideoFrame] | None) -> None:
        """Start both; ``preview`` is shown as "me".

        Raises:
            MediaError: the speaker was named and is not there.
        """
        if self._windows is not None:
            if preview is not None:
                self._windows.show(LOCAL, "me", preview)
            self._tasks.create_task(self._windows.start(), name="windows start")  # OpenCV takes a while to load
        if self._speaker is not None:
            await self._speaker.open()

    def connected(self, call: Call) -> None:
        """Show and play ``call`` from now on."""
        if self._windows is not None:
            self._windows.show(call.peer, call.peer, call.media.video.frames)
        if self._speaker is not None:
            self._speaker.add(call.peer, call.media.audio.frames)

    def ended(self, peer: str) -> None:
        """Its window closes, its sound stops."""
        if self._windows is not None:
            self._windows.hide(peer)
        if self._speaker is not None:
            self._speaker.remove(peer)

    async def close(self) -> None:
        if self._windows is not None:
            await self._windows.close()
        if self._speaker is not None:
            await self._speaker.close()
