"""The check whether a source's H.264 can be sent to a viewer unchanged. Pure.

A viewer can decode the stream under three conditions. Its profile is within the negotiated one (RFC 6184 section
8.1). Frames come in presentation order, because WebRTC receivers present a frame as soon as it is decoded. Key frames
are frequent: a file or camera makes none on request, so a viewer that lost a packet waits for the next one.

The level is not compared. RFC 6184 defines the level in a profile-level-id as the highest that its side receives,
with or without level-asymmetry-allowed. But browsers state 3.1 whatever they can decode, and themselves send above
it. Our own encoder would exceed it too at the same frame size, so refusing passthrough for it would gain nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from peer.codecs.h264 import IDR, SLICE, SPS, is_b_slice, nal_units, parameter_sets
from peer.codecs.h264_sps import Sps, parse_sps
from peer.media.frames import EncodedFrame, is_anamorphic

KEY_INTERVAL: Final = 2.5
"""Maximum interval between key frames, in seconds. A viewer may see a broken picture for this long after a loss."""

DEFAULT_PROFILE: Final = "42e01f"
"""profile-level-id of Constrained Baseline, which every WebRTC endpoint supports (RFC 7742 section 6.2)."""

_INTERVAL_EXPIRY: Final = 60.0
"""Time for which a long interval between key frames counts, in seconds. It may have been a rare network stall."""

_MIN_RATE_SAMPLE: Final = 1.0
"""Minimum duration over which a frame rate is computed, in seconds."""

_CONSTRAINED_BASELINE, _CONSTRAINED_HIGH = "Constrained Baseline", "Constrained High"
_BASELINE, _EXTENDED, _MAIN, _HIGH, _HIGH_444 = "Baseline", "Extended", "Main", "High", "High 4:4:4"

_NAMES: Final = {
    66: _BASELINE, 77: _MAIN, 88: _EXTENDED, 100: _HIGH, 110: "High 10", 122: "High 4:2:2", 244: _HIGH_444,
}  # fmt: skip

_DECODABLE: Final = {
    _CONSTRAINED_BASELINE: {_CONSTRAINED_BASELINE},
    _BASELINE: {_CONSTRAINED_BASELINE},
    _EXTENDED: {_CONSTRAINED_BASELINE},
    _MAIN: {_CONSTRAINED_BASELINE, _MAIN},
    _CONSTRAINED_HIGH: {_CONSTRAINED_BASELINE, _CONSTRAINED_HIGH},
    _HIGH: {_CONSTRAINED_BASELINE, _MAIN, _CONSTRAINED_HIGH, _HIGH},
    _HIGH_444: {_CONSTRAINED_BASELINE, _MAIN, _CONSTRAINED_HIGH, _HIGH, _HIGH_444},
}
"""Profiles that a decoder of each profile decodes (ITU-T H.264 A.2).

Baseline adds slice groups, arbitrary slice order and redundant slices to Constrained Baseline. No encoder in use
makes them and FFmpeg cannot decode them, so a Baseline stream is treated as Constrained Baseline."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the container's header states about the video stream that follows."""

    codec: str
    """FFmpeg's name of the codec."""
    extradata: bytes = b""
    rotation: int = 0
    """Rotation that a player has to apply, in degrees."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height, in the container."""
    key_interval: float | None = None
    """Longest interval between two key frames, in seconds, from the container's index."""


def profile(profile_level_id: str) -> str:
    """Return the profile's name (RFC 6184 section 8.1, table 5); that of ``DEFAULT_PROFILE`` for an invalid id."""
    if re.fullmatch("[0-9a-fA-F]{6}", profile_level_id) is None:
        profile_level_id = DEFAULT_PROFILE
    idc, constraints, _ = bytes.fromhex(profile_level_id)
    match idc:
        case 66 if constraints & 0x40:
            return _CONSTRAINED_BASELINE
        case 77 if constraints & 0x80:
            return _CONSTRAINED_BASELINE
        case 88 if constraints & 0xC0 == 0xC0:
            return _CONSTRAINED_BASELINE
        case 100 if constraints & 0x0C == 0x0C:
            return _CONSTRAINED_HIGH
    return _NAMES.get(idc, f"number {idc}")


def decodes(viewer: str, stream: str) -> bool:
    """Whether a viewer that negotiated one profile-level-id can decode a stream with the other."""
    name, accepted = profile(stream), profile(viewer)
    return (_CONSTRAINED_BASELINE if name == _BASELINE else name) in _DECODABLE.get(accepted, {accepted})


class PassthroughCheck:
    """The check of one stream. ``size`` and ``fps`` are the maximum that may be sent (``--size`` and ``--fps``)."""

    def __init__(self, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._max_size = size
        self._max_fps = fps
        self._arrival = float("-inf")
        self.restart(StreamInfo("h264"))

    def restart(self, info: StreamInfo) -> None:
        """Forget everything observed so far: the stream described by ``info`` begins."""
        self._info = info
        self._codec = info.codec
        self._sps: Sps | None = None
        self._sps_unit = b""
        self._apply(parameter_sets(info.extradata))
        self._longest_interval = self._longest_at = 0.0
        self._started = False
        self._first = self._last_key = self._last = 0.0
        self._frames = 0
        self._reordered = False

    @property
    def profile_level_id(self) -> str | None:
        """The stream's profile-level-id, to be negotiated for passthrough; ``None`` until it is known."""
        return self._sps.profile_level_id if self._sps is not None else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; ``None`` until they are known."""
        return (self._sps.width, self._sps.height) if self._sps is not None else None

    def observe(self, frame: EncodedFrame) -> None:
        """Take the next frame into account, in decoding order. A frame observed before changes nothing.

        A frame is observed twice where a ``Source`` observes all frames, and a reader of ``encoded`` its own again.
        """
        if frame.arrival <= self._arrival:
            return
        self._arrival = frame.arrival
        self._codec = frame.codec
        if frame.codec != "h264":
            return
        now = frame.timestamp / frame.clock_rate
        if frame.key:
            self._apply(_units_before_slice(frame.data))
            if not self._started:
                self._started = True
                self._first = self._last = self._last_key = now
            if now - self._last_key >= self._longest_interval or now - self._longest_at > _INTERVAL_EXPIRY:
                self._longest_interval, self._longest_at = now - self._last_key, now
            self._last_key = now
        if self._started:
            self._frames += 1
            self._reordered = self._reordered or now < self._last or _has_b_slice(frame.data)
            self._last = max(self._last, now)

    def refusal(self, profile_level_id: str = DEFAULT_PROFILE) -> str | None:
        """Return why a viewer that negotiated ``profile_level_id`` cannot be sent the stream now, or ``None``."""
        if self._codec != "h264":
            return f"not H.264 but {self._codec}"
        return self._unsuitable(profile_level_id) or (None if self._started else "not seen yet")

    def _unsuitable(self, accepted: str) -> str | None:
        sps = self._sps
        if sps is None:
            return "its parameter set cannot be read" if self._started else None
        if not decodes(accepted, sps.profile_level_id):
            return f"its profile is {profile(sps.profile_level_id)}, the viewer accepts {profile(accepted)}"
        if self._reordered or sps.max_reorder_frames:
            return "it has B-frames"
        if sps.interlaced:
            return "it is interlaced"
        for aspect in (self._info.pixel_aspect, sps.pixel_aspect):
            if is_anamorphic(aspect):
                return f"its pixels are not square but {aspect.numerator}:{aspect.denominator}"
        if self._info.rotation % 360:
            return f"it must be rotated by {self._info.rotation % 360} degrees"
        return self._exceeds_constraints(sps) or self._rare_key_frames()

    def _exceeds_constraints(self, sps: Sps) -> str | None:
        if self._max_size is not None and (sps.width > self._max_size[0] or sps.height > self._max_size[1]):
            return f"its size is {sps.width}x{sps.height}, the maximum is {self._max_size[0]}x{self._max_size[1]}"
        seconds = self._last - self._first
        rate = (self._frames - 1) / seconds if seconds >= _MIN_RATE_SAMPLE else 0.0
        if self._max_fps is not None and rate > self._max_fps * 1.1:
            return f"its frame rate is {rate:.0f} per second, the maximum is {self._max_fps:g}"
        return None

    def _rare_key_frames(self) -> str | None:
        interval = max(self._info.key_interval or 0.0, self._longest_interval, self._last - self._last_key)
        return f"its key frames are {interval:.1f} s apart" if interval > KEY_INTERVAL else None

    def _apply(self, sets: list[bytes]) -> None:
        """Adopt a sequence parameter set that differs from the current one: a new sequence begins."""
        unit = next((unit for unit in sets if unit[0] & 31 == SPS), b"")
        if not unit or unit == self._sps_unit:
            return
        changed = bool(self._sps_unit)
        self._sps_unit = unit
        try:
            self._sps = parse_sps(unit)
        except ValueError:
            self._sps = None
        if changed:
            self._reordered, self._frames, self._first = False, 0, self._last


def _units_before_slice(data: bytes) -> list[bytes]:
    """Return the NAL units in front of the first slice."""
    units = []
    for unit in nal_units(data):
        if SLICE <= unit[0] & 31 <= IDR:
            break
        units.append(unit)
    return units


def _has_b_slice(data: bytes) -> bool:
    """Whether the first slice is a B slice. Encoders make all slices of a frame alike."""
    return is_b_slice(next((unit for unit in nal_units(data) if unit[0] & 31 == SLICE), b""))
