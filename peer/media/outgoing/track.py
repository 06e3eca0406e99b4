"""What each call sends of the sources that all calls share.

    source --pictures--> VideoEncoding, one a codec and rung ---+--packets--> OutgoingVideo, one a call
           --H.264-----> PassthroughRelay, if viewers take it --+

Encodings are made as they are wanted (``shared``). ``OutgoingVideo`` and ``OutgoingAudio`` belong to one call: what
it was found to have room for decides which rung it reads.

Must never: let what one viewer reports or is too slow for change what another gets.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from ..fanout import Reader
from ..frames import OutgoingFrame
from .quality_ladder import Chooser
from .shared import Coding, SharedAudio, SharedVideo
from .video_encoding import EncoderCounters, VideoEncoding

LOOK: Final = 0.5
"""Seconds between two looks at what a viewer has room for."""

LAG: Final = 45_000
"""Half a second in 1/90000 s. The encoder of a larger picture takes longer: its key frame is of a picture that was
sent already, small. It goes out a tick after what was sent last, and so does what follows, until it has caught up."""

_FEW: Final = 20
"""Packets from which a part of them says something."""


@dataclass(frozen=True, slots=True)
class SendingFigures:
    """What one viewer gets, since its call began. ``rung`` 0 is the whole picture; ``passthrough``: as the source
    coded it."""

    codec: str
    width: int | None
    height: int | None
    frames: int
    octets: int
    rung: int
    passthrough: bool
    skipped: int
    """Pictures it did not get, because it was too slow or a key frame was missing."""
    encoder: EncoderCounters


class OutgoingAudio:
    """The sound that one call sends. Not reusable."""

    kind: Final = "audio"

    def __init__(self, shared: SharedAudio) -> None:
        self._shared = shared
        self._held = False
        self._reader: Reader[OutgoingFrame] | None = None

    def open(self) -> None:
        """Start the source."""
        if not self._held:
            self._held = True
            self._shared.hold()

    def start(self, codec: str, profile_level_id: str | None = None, *, can_probe: bool = False) -> None:
        """``codec`` was negotiated (FFmpeg's name)."""
        self._reader = self._shared.encoding(codec).read()

    async def get(self) -> OutgoingFrame:
        """The next packet.

        Raises:
            StopAsyncIteration: it was stopped.
        """
        if self._reader is None:
            raise StopAsyncIteration
        return await self._reader.get()

    def stop(self) -> None:
        """May be called twice, and without a start."""
        if self._reader is not None:
            self._reader.close()
        if self._held:
            self._held = False
            self._shared.release()

    def request_key_frame(self) -> None:
        """Sound needs none."""

    def estimate(self, bitrate: int) -> None:
        """Sound is small: it stays as it is."""

    def report(self, loss: float, rtt: float | None) -> None:
        """As for estimates."""

    def missed(self, number: int) -> bool:
        """It may have it again."""
        return True

    def padding(self) -> int:
        """Nothing is tried with sound."""
        return 0


class OutgoingVideo:
    """The pictures that one call sends. Not reusable."""

    kind: Final = "video"

    def __init__(self, shared: SharedVideo) -> None:
        self._shared = shared
        self._held = False
        self._codec = ""
        self._profile: str | None = None
        self._current: Coding | None = None
        self._reader: Reader[OutgoingFrame] | None = None
        self._coming: tuple[Coding, Reader[OutgoingFrame]] | None = None
        self._chooser: Chooser | None = None
        self._looked = 0.0
        self._looked_octets = 0
        self._packets = 0
        self._missed: set[int] = set()
        self._whole = False
        self._lost = 0
        self._last: OutgoingFrame | None = None
        self._frames = self._octets = self._skipped = 0
        self._encoder = self._encoder_then = EncoderCounters()
        """What encoders did for this viewer before the current one, and what that one had done when it came."""

    @property
    def profile_level_id(self) -> str | None:
        """That of H.264 which the source delivers, if it does: who takes it can have it as it is."""
        return self._shared.relay.profile_level_id if self._shared.relay is not None else None

    def open(self) -> None:
        """Start the source."""
        if not self._held:
            self._held = True
            self._shared.hold()

    def start(self, codec: str, profile_level_id: str | None = None, *, can_probe: bool = False) -> None:
        """``codec`` was negotiated (FFmpeg's name), with that profile of H.264. ``can_probe``: as for ``Chooser``."""
        now = asyncio.get_running_loop().time()
        self._codec, self._profile = codec, profile_level_id
        self._chooser = Chooser(tuple(rung.bitrate for rung in self._shared.rungs), now, can_probe=can_probe)
        self._looked = now
        self._current = self._shared.coding(codec, profile_level_id, 0)
        self._encoder_then = _counters(self._current)
        self._reader = self._current.read()

    async def get(self) -> OutgoingFrame:
        """The next picture: decodable with those before it.

        Raises:
            StopAsyncIteration: it was stopped.
        """
        while True:
            if self._reader is None:
                raise StopAsyncIteration
            self._look()
            frame: OutgoingFrame | None = None
            try:
                async with asyncio.timeout(LOOK):
                    frame = await self._reader.get()
            except TimeoutError:
                pass
            frame = self._changed_over() or frame
            if frame is not None and self._fits(frame):
                if self._last is not None and frame.timestamp <= self._last.timestamp:
                    frame = replace(frame, timestamp=self._last.timestamp + 1)
                self._last = frame
                self._frames += 1
                self._octets += frame.byte_count
                self._packets += len(frame.payloads)
                return frame

    def stop(self) -> None:
        """May be called twice, and without a start."""
        if self._reader is not None:
            self._reader.close()
        if self._coming is not None:
            self._coming[1].close()
            self._coming = None
        if self._held:
            self._held = False
            self._shared.release()

    def figures(self) -> SendingFigures | None:
        """What was sent so far; ``None`` before the start."""
        if self._chooser is None:
            return None
        size = self._last.size if self._last is not None else None
        return SendingFigures(
            codec=self._codec,
            width=size[0] if size else None,
            height=size[1] if size else None,
            frames=self._frames,
            octets=self._octets,
            rung=self._chooser.rung,
            passthrough=self._current is not None and self._current is self._shared.relay,
            skipped=self._skipped,
            encoder=self._encoded(),
        )

    def _encoded(self) -> EncoderCounters:
        """What encoders did for this viewer; for others they may have worked for days."""
        before, then, now = self._encoder, self._encoder_then, _counters(self._current)
        return EncoderCounters(
            before.frames + now.frames - then.frames,
            before.seconds + now.seconds - then.seconds,
            before.dropped + now.dropped - then.dropped,
        )

    # --- what the viewer says ---

    def request_key_frame(self) -> None:
        """It lost a picture."""
        comes = self._coming is not None and self._coming[0] is not self._shared.relay  # which makes none
        coding = self._coming[0] if self._coming is not None and comes else self._current
        if coding is not None:
            coding.request_key_frame()

    def estimate(self, bitrate: int) -> None:
        """What it believes to have room for, in bit/s (REMB)."""
        if self._chooser is not None:
            self._chooser.estimate(bitrate, asyncio.get_running_loop().time())

    def report(self, loss: float, rtt: float | None) -> None:
        """Part of the packets that it lost lately, and the round trip in seconds."""
        if self._chooser is not None:
            self._chooser.report(loss, rtt, asyncio.get_running_loop().time())

    def missed(self, number: int) -> bool:
        """It asked again for the packet of this number. Whether it should have it: not while what it was sent was
        far too much, and what fits is on its way."""
        self._missed.add(number)
        return not self._choked

    def padding(self) -> int:
        """Bit/s that it is to get beside the pictures, for a moment: of packets that it has, to see what fits."""
        return 0 if self._chooser is None else self._chooser.probe(asyncio.get_running_loop().time())

    # --- which coding ---

    def _look(self) -> None:
        """Every half second: is another coding the right one? Then that is read beside the one that is sent."""
        assert self._chooser is not None
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK:
            return
        sent = round((self._octets - self._looked_octets) * 8 / (now - self._looked))
        missed = min(1.0, len(self._missed) / max(self._packets, _FEW))
        self._looked, self._looked_octets, self._packets = now, self._octets, 0
        self._missed.clear()
        self._chooser.bitrates = tuple(rung.bitrate for rung in self._shared.rungs)
        wanted = self._shared.coding(self._codec, self._profile, self._chooser.look(sent, now, missed))
        if wanted is (self._coming[0] if self._coming is not None else self._current):
            return
        if self._coming is not None:
            self._coming[1].close()
            self._coming = None
        if wanted is not self._current:
            self._coming = wanted, wanted.read()

    def _changed_over(self) -> OutgoingFrame | None:
        """The key frame with which the coding that comes takes over, once there is one."""
        if self._coming is None:
            return None
        coding, reader = self._coming
        while (frame := reader.get_nowait()) is not None:
            if not frame.key:
                continue
            if self._last is not None and frame.timestamp <= self._last.timestamp - LAG:
                coding.request_key_frame()  # a relay begins with the last one, however long ago that was
                continue
            assert self._reader is not None
            self._reader.close()
            self._encoder, self._encoder_then = self._encoded(), _counters(coding)
            self._current, self._reader, self._coming = coding, reader, None
            self._lost = reader.dropped
            return frame
        return None

    @property
    def _choked(self) -> bool:
        """Whether more of what is sent would only keep away what comes in its place."""
        return self._coming is not None and self._chooser is not None and self._chooser.choked

    def _fits(self, frame: OutgoingFrame) -> bool:
        """Whether ``frame`` can be sent: nothing that it refers to is missing, and time does not run back, but for
        what another encoder may lie behind."""
        assert self._reader is not None
        if self._choked:
            self._whole = False
            self._skipped += 1
            return False
        if self._reader.dropped > self._lost:
            self._lost, self._whole = self._reader.dropped, False
        if frame.key:
            self._whole = True
        elif not self._whole:
            self.request_key_frame()
        self._whole = self._whole and (self._last is None or frame.timestamp > self._last.timestamp - LAG)
        self._skipped += not self._whole
        return self._whole


def _counters(coding: Coding | None) -> EncoderCounters:
    """Those of an encoding, as they are now; a relay encodes nothing."""
    return replace(coding.counters) if isinstance(coding, VideoEncoding) else EncoderCounters()


Outgoing = OutgoingVideo | OutgoingAudio
