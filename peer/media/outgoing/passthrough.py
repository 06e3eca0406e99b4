"""Passthrough: the H.264 of a source, sent as it is, neither decoded nor encoded.

The source makes no key frames on request. A new viewer therefore gets all frames since the last key frame at once,
and a viewer that has lost a packet waits for the next one. ``PassthroughCheck`` accepts only sources with frequent
key frames.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from ...rtp.packetizer import MAX_PAYLOAD, fits, packetize
from ..fanout import Fanout, Reader
from ..frames import EncodedFrame, OutgoingFrame, media_time
from ..sources.passthrough import DEFAULT_PROFILE, KEY_INTERVAL, PassthroughCheck, profile

log = logging.getLogger(__name__)

SILENCE: Final = 1.0
"""Time without a frame after which viewers get an encoding instead, in seconds: it repeats the last frame, then shows
the card."""

EXCESS_PERIOD: Final = 30.0
"""Time for which passthrough is refused after the bitrate was too high, or a NAL unit too large for a viewer in
packetization-mode 0, in seconds. Both vary with what a camera sees, and each change between passthrough and
transcoding costs a key frame."""

_MEASURED_VALUES: Final = re.compile(r"\d+(\.\d+)?")

QUEUE_SIZE: Final = 300
"""Maximum number of frames that wait for a busy sender, or that a new viewer starts with. It covers ``KEY_INTERVAL``
of any source."""


class Passthrough:
    """The frames of ``encoded``, packetized once for all viewers.

    It reads the source while it has readers or is held: ``hold`` and ``release`` are called in pairs. ``check``
    observes the same frames. ``max_bitrate`` is the maximum bitrate for a viewer, in bit/s.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        encoded: Fanout[EncodedFrame],
        check: PassthroughCheck,
        max_bitrate: int | None,
    ) -> None:
        self._tasks = tasks
        self._encoded = encoded
        self._check = check
        self._max_bitrate = max_bitrate
        self._frames: Fanout[OutgoingFrame] = Fanout(self.hold, self.release)
        self._holders = 0
        self._reader: Reader[EncodedFrame] | None = None
        self._task: asyncio.Task[None] | None = None
        self._since_key: list[OutgoingFrame] = []
        """All frames since the last key frame."""
        self._last_frame_at = float("-inf")
        self._packetization_mode = 0
        self._fragmented_at = float("-inf")
        """Time of the last frame with a NAL unit above ``MAX_PAYLOAD``."""
        self._meter = _BitrateMeter()
        self._excess_bitrate, self._excess_at = 0, float("-inf")
        self._logged: dict[str, str | None] = {}
        """Last logged refusal by the viewer's codec, or by its H.264 profile and packetization mode."""

    @property
    def profile_level_id(self) -> str | None:
        """The source's profile-level-id, to be negotiated first; ``None`` if no viewer could be sent the source."""
        own = self._check.profile_level_id
        suitable = own is not None and self._check.refusal(own) in (None, "not seen yet")
        return own if suitable else None

    def refusal(self, profile_level_id: str, packetization_mode: int = 1) -> str | None:
        """Return why a viewer with that profile and mode (RFC 6184 6) cannot be sent the source now, or ``None``."""
        own = self._check.profile_level_id  # a reason that applies to all viewers is more helpful
        why = self._check.refusal(own or profile_level_id) or self._check.refusal(profile_level_id)
        if why is None and media_time() - self._last_frame_at > SILENCE:
            why = "it is silent"
        if why is None and self._packetization_mode > packetization_mode:
            why = f"the viewer has packetization-mode 0, and NAL units are larger than a packet ({MAX_PAYLOAD} bytes)"
        return why or self._bitrate_refusal()

    def _bitrate_refusal(self) -> str | None:
        if self._max_bitrate is None:
            return None
        if self._meter.bitrate > self._max_bitrate * 1.1:
            self._excess_bitrate, self._excess_at = self._meter.bitrate, media_time()
        if media_time() - self._excess_at >= EXCESS_PERIOD:
            return None
        bitrate, maximum = self._excess_bitrate // 1000, self._max_bitrate // 1000
        return f"its bitrate is {bitrate} kbit/s, the maximum is {maximum} kbit/s"

    def log_decision(self, profile_level_id: str, packetization_mode: int, refusal: str | None) -> None:
        """Log whether viewers with that profile and mode are sent the source, unless only measured values have
        changed."""
        self._log(f"{profile(profile_level_id)} {packetization_mode}", refusal)

    def log_other_codec(self, codec: str) -> None:
        """Log why a viewer with another codec is not sent the source. A reason that applies to all comes first."""
        own = self._check.profile_level_id
        self._log(codec, self._check.refusal(own or DEFAULT_PROFILE) or f"the viewer has negotiated {codec.upper()}")

    def _log(self, viewer: str, refusal: str | None) -> None:
        if refusal in ("not seen yet", "it is silent") or (refusal or "").startswith("not H.264"):
            return
        reason = refusal and _MEASURED_VALUES.sub("", refusal)
        if self._logged.get(viewer, "not logged") != reason:
            self._logged[viewer] = reason
            log.info("the source's H.264 is %s", "sent as it is" if refusal is None else f"transcoded: {refusal}")

    def read(self) -> Reader[OutgoingFrame]:
        """Return a reader for one viewer. It starts with the last key frame."""
        return self._frames.read(QUEUE_SIZE, self._since_key)

    def request_key_frame(self) -> None:
        """Do nothing: the source makes no key frames on request."""

    def hold(self) -> None:
        """Read the source, so that its current state is known when a viewer comes."""
        self._holders += 1
        if self._holders == 1:
            self._reader = reader = self._encoded.read(QUEUE_SIZE)
            self._since_key = []
            self._task = self._tasks.create_task(self._run(reader), name="passthrough h264")

    def release(self) -> None:
        """End one ``hold``."""
        self._holders -= 1
        if self._holders == 0:
            assert self._reader is not None and self._task is not None
            self._reader.close()  # not in the task, which does nothing if it is cancelled before its first step
            self._task.cancel()

    async def _run(self, reader: Reader[EncodedFrame]) -> None:
        dropped = 0
        async for frame in reader:
            self._last_frame_at = media_time()
            self._meter.add(len(frame.data), self._last_frame_at)
            if reader.dropped > dropped:
                dropped, self._since_key = reader.dropped, []
            if frame.key:
                self._since_key = []
            elif not self._since_key:
                continue  # not decodable without the key frame before it
            payloads, mode = self._packetize(frame)
            outgoing = OutgoingFrame(payloads, frame.timestamp, frame.key, self._check.size, mode)
            if len(self._since_key) < QUEUE_SIZE:
                self._since_key.append(outgoing)
            self._frames.put(outgoing)

    def _packetize(self, frame: EncodedFrame) -> tuple[tuple[bytes, ...], int]:
        """Return the payloads, and the packetization mode that they need.

        While all NAL units of the source fit into packets it is sent in mode 0, which all viewers can receive. Mode 1
        lasts until the first key frame that comes ``EXCESS_PERIOD`` after the last larger unit.
        """
        if frame.key and self._last_frame_at - self._fragmented_at >= EXCESS_PERIOD:
            self._packetization_mode = 0
        payloads = packetize(frame.codec, frame.data, self._packetization_mode)
        if not fits(payloads):
            self._fragmented_at = self._last_frame_at
            if self._packetization_mode == 0:
                self._packetization_mode = 1
                payloads = packetize(frame.codec, frame.data)
        return tuple(payloads), self._packetization_mode


class _BitrateMeter:
    """Mean bitrate over periods of ``KEY_INTERVAL``. Shorter ones would differ, because key frames are large."""

    def __init__(self) -> None:
        self.bitrate = 0
        """Bitrate of the last complete period, in bit/s."""
        self._period_start: float | None = None
        self._bytes = 0

    def add(self, byte_count: int, now: float) -> None:
        if self._period_start is None:
            self._period_start = now
        elif now - self._period_start >= KEY_INTERVAL:
            self.bitrate = round(self._bytes * 8 / (now - self._period_start))
            self._period_start, self._bytes = now, 0
        self._bytes += byte_count
