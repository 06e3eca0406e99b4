"""H.264 that a source delivers, handed on as it came: neither decoded nor encoded.

Such a source makes no key frame on request. So who comes to it gets everything since the last one, at once, and who
lost a packet waits for the next: ``PassthroughCheck`` lets pass only what brings them often.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from ...rtp.packetizer import packetize
from ..fanout import Fanout, Reader
from ..frames import EncodedFrame, OutgoingFrame, media_time
from ..sources.passthrough import DEFAULT_PROFILE, KEY_INTERVAL, PassthroughCheck, profile

log = logging.getLogger(__name__)

SILENT: Final = 1.0
"""Seconds without a packet after which the source's pictures are encoded again: they have something to show."""

EXCESS: Final = 30.0
"""Seconds for which a bitrate that was too high counts."""

_FIGURES: Final = re.compile(r"\d+(\.\d+)?")

QUEUE: Final = 300
"""Frames that wait for a busy sender, and with which a new one begins: ``KEY_INTERVAL`` of any source."""


class PassthroughRelay:
    """Reads ``encoded`` while it is held: ``hold`` and ``release`` come in pairs, a reader holds it too.

    ``passthrough`` watches the same stream. ``max_bitrate``: bit/s that viewers are to get at most.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        encoded: Fanout[EncodedFrame],
        passthrough: PassthroughCheck,
        max_bitrate: int | None,
    ) -> None:
        self._tasks = tasks
        self._encoded = encoded
        self._passthrough = passthrough
        self._max_bitrate = max_bitrate
        self._frames: Fanout[OutgoingFrame] = Fanout(self.hold, self.release)
        self._holders = 0
        self._reader: Reader[EncodedFrame] | None = None
        self._task: asyncio.Task[None] | None = None
        self._since_key: list[OutgoingFrame] = []
        self._at = float("-inf")
        self._rate = _Rate()
        self._excess, self._excess_at = 0, float("-inf")
        self._told: dict[str, str | None] = {}

    @property
    def bitrate(self) -> int:
        """Bit/s of the stream, over its last seconds."""
        return self._rate.bitrate

    @property
    def profile_level_id(self) -> str | None:
        """That of the source, if it can be sent as it is to who takes it: to be negotiated first."""
        own = self._passthrough.profile_level_id
        fits = own is not None and self._passthrough.refusal(own) in (None, "not seen yet")
        return own if fits else None

    def refusal(self, profile_level_id: str) -> str | None:
        """Why a viewer of that profile cannot have it as it is, right now; ``None``: it can."""
        own = self._passthrough.profile_level_id  # what keeps it from everybody is the better reason
        why = self._passthrough.refusal(own or profile_level_id) or self._passthrough.refusal(profile_level_id)
        if why is None and media_time() - self._at > SILENT:
            why = "it is silent"
        return why or self._too_much()

    def _too_much(self) -> str | None:
        """That it has more than was allowed, and for a while that it had: cameras swing, and each change of what a
        viewer gets costs a key frame."""
        if self._max_bitrate is None:
            return None
        if self._rate.bitrate > self._max_bitrate * 1.1:
            self._excess, self._excess_at = self._rate.bitrate, media_time()
        if media_time() - self._excess_at >= EXCESS:
            return None
        return f"it has {self._excess // 1000} kbit/s, at most {self._max_bitrate // 1000} are wanted"

    def tell(self, profile_level_id: str, why: str | None) -> None:
        """Say once what becomes of the source's H.264 for who takes that profile, and again when the reason is
        another one; not when it has other figures."""
        self._tell(profile(profile_level_id), why)

    def tell_other(self, codec: str) -> None:
        """The same for who has another ``codec``: that comes first where the source's H.264 suits nobody."""
        own = self._passthrough.profile_level_id
        self._tell(codec, self._passthrough.refusal(own or DEFAULT_PROFILE) or f"the viewer takes {codec.upper()}")

    def _tell(self, taken: str, why: str | None) -> None:
        if why in ("not seen yet", "it is silent") or (why or "").startswith("not H.264"):
            return
        reason = why and _FIGURES.sub("", why)
        if self._told.get(taken, "nothing yet") != reason:
            self._told[taken] = reason
            log.info("H.264 of the source is %s", "sent as it is" if why is None else f"encoded anew: {why}")

    def read(self) -> Reader[OutgoingFrame]:
        """A viewer's reader. It begins with the last key frame."""
        return self._frames.read(QUEUE, self._since_key)

    def request_key_frame(self) -> None:
        """The source brings them by itself."""

    def hold(self) -> None:
        """Read the source, so that what it delivers is known when somebody wants it."""
        self._holders += 1
        if self._holders == 1:
            self._reader = reader = self._encoded.read(QUEUE)
            self._since_key = []
            self._task = self._tasks.create_task(self._run(reader), name="relay h264")

    def release(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            assert self._reader is not None and self._task is not None
            self._reader.close()  # here: a task that is cancelled before it ran does nothing at all
            self._task.cancel()

    async def _run(self, reader: Reader[EncodedFrame]) -> None:
        dropped = 0
        async for frame in reader:
            self._at = media_time()
            self._rate.count(len(frame.data), self._at)
            if reader.dropped > dropped:
                dropped, self._since_key = reader.dropped, []
            if frame.key:
                self._since_key = []
            elif not self._since_key:
                continue  # nothing to refer to
            cut = tuple(packetize(frame.codec, frame.data))
            out = OutgoingFrame(cut, frame.timestamp, frame.key, self._passthrough.size)
            if len(self._since_key) < QUEUE:
                self._since_key.append(out)
            self._frames.put(out)


class _Rate:
    """Bit/s over stretches of ``KEY_INTERVAL``: key frames are large, the others small."""

    def __init__(self) -> None:
        self.bitrate = 0
        self._since: float | None = None
        self._octets = 0

    def count(self, octets: int, now: float) -> None:
        if self._since is None:
            self._since = now
        elif now - self._since >= KEY_INTERVAL:
            self.bitrate = round(self._octets * 8 / (now - self._since))
            self._since, self._octets = now, 0
        self._octets += octets
