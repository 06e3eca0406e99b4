"""Whether a stream of H.264 that a source delivers can be sent to a viewer as it is. PURE.

A viewer can decode it if its profile is within the one that was negotiated (RFC 6184 8.1), if its pictures come in
the order in which they are shown (WebRTC receivers show what they decode, at once), and if it brings a key frame
often enough: a file or a camera makes none on request, and a viewer who lost a packet waits for the next one.

Its level is not compared. RFC 6184 makes the level in a profile-level-id the highest that its side receives, with
or without level-asymmetry-allowed; but browsers state 3.1 whatever they can decode, send beyond it themselves, and
so would we with a picture of that size made by our own encoder: refusing it would gain nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from peer.codecs.h264 import IDR, SLICE, SPS, Sps, is_b_slice, nal_units, parameter_sets, parse_sps
from peer.media.frames import EncodedFrame

KEY_INTERVAL: Final = 2.5
"""Seconds between two key frames, at most: the longest that a viewer who lost a packet may see a broken picture."""

DEFAULT_PROFILE: Final = "42e01f"
"""profile-level-id of Constrained Baseline, which every WebRTC endpoint takes (RFC 7742 6.2)."""

_REMEMBERED: Final = 60.0
"""Seconds for which a long interval between key frames counts: a network stands still once in a while."""

_RATE_AFTER: Final = 1.0
"""Seconds of a stream after which its rate is known."""

_CONSTRAINED_BASELINE, _CONSTRAINED_HIGH = "Constrained Baseline", "Constrained High"
_BASELINE, _EXTENDED, _MAIN, _HIGH, _HIGH_444 = "Baseline", "Extended", "Main", "High", "High 4:4:4"

_NAMES: Final = {
    66: _BASELINE, 77: _MAIN, 88: _EXTENDED, 100: _HIGH, 110: "High 10", 122: "High 4:2:2", 244: _HIGH_444,
}  # fmt: skip

_WITHIN: Final = {
    _CONSTRAINED_BASELINE: {_CONSTRAINED_BASELINE},
    _BASELINE: {_CONSTRAINED_BASELINE},
    _EXTENDED: {_CONSTRAINED_BASELINE},
    _MAIN: {_CONSTRAINED_BASELINE, _MAIN},
    _CONSTRAINED_HIGH: {_CONSTRAINED_BASELINE, _CONSTRAINED_HIGH},
    _HIGH: {_CONSTRAINED_BASELINE, _MAIN, _CONSTRAINED_HIGH, _HIGH},
    _HIGH_444: {_CONSTRAINED_BASELINE, _MAIN, _CONSTRAINED_HIGH, _HIGH, _HIGH_444},
}
"""Which profiles a decoder of each one decodes (ITU-T H.264 A.2). Plain Baseline differs from Constrained Baseline by
slice groups, arbitrary slice order and redundant slices, which nobody makes and FFmpeg cannot decode: a stream that
says Baseline is taken for a constrained one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a container says of the pictures that begin to come from it."""

    codec: str
    """FFmpeg's name."""
    extradata: bytes = b""
    rotation: int = 0
    """Degrees by which a player has to turn the pictures."""
    key_interval: float | None = None
    """Seconds, the longest between two key frames, from an index."""


def profile(profile_level_id: str) -> str:
    """The name of the profile (RFC 6184 8.1, table 5); that of ``DEFAULT_PROFILE`` for what cannot be read."""
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


def decodes(taken: str, own: str) -> bool:
    """Whether who takes the profile of the first profile-level-id can decode a stream of the second."""
    name = profile(own)
    return (_CONSTRAINED_BASELINE if name == _BASELINE else name) in _WITHIN.get(profile(taken), {profile(taken)})


class Fitness:
    """Watches one stream. ``size`` and ``fps`` bound what may be sent, as ``--size`` and ``--fps`` ask for it."""

    def __init__(self, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._size = size
        self._fps = fps
        self._arrival = float("-inf")
        self.learn(Facts("h264"))

    def learn(self, facts: Facts) -> None:
        """The stream begins, or begins anew: what was seen before does not count any more."""
        self._facts = facts
        self._codec = facts.codec
        self._sps: Sps | None = None
        self._sps_unit = b""
        self._read(parameter_sets(facts.extradata))
        self._longest = self._longest_at = 0.0
        self._seen = False
        self._first = self._key = self._last = 0.0
        self._frames = 0
        self._reordered = False

    @property
    def profile_level_id(self) -> str | None:
        """That of the stream, as far as it is known: what to negotiate so that it can be sent."""
        return self._sps.profile_level_id if self._sps is not None else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, as far as they are known."""
        return (self._sps.width, self._sps.height) if self._sps is not None else None

    def observe(self, frame: EncodedFrame) -> None:
        """The next frame of the stream, in the order of decoding. One that was seen already changes nothing: a
        ``Source`` shows its ``fitness`` all frames, also those that no reader of ``encoded`` is there for."""
        if frame.arrival <= self._arrival:
            return
        self._arrival = frame.arrival
        self._codec = frame.codec
        if frame.codec != "h264":
            return
        now = frame.timestamp / frame.clock_rate
        if frame.key:
            self._read(_front(frame.data))
            if not self._seen:
                self._seen = True
                self._first = self._last = self._key = now
            if now - self._key >= self._longest or now - self._longest_at > _REMEMBERED:
                self._longest, self._longest_at = now - self._key, now
            self._key = now
        if self._seen:
            self._frames += 1
            self._reordered = self._reordered or now < self._last or _has_b_slice(frame.data)
            self._last = max(self._last, now)

    def refusal(self, profile_level_id: str = DEFAULT_PROFILE) -> str | None:
        """Why the stream cannot be sent to who negotiated ``profile_level_id``; ``None``: it can, right now."""
        if self._codec != "h264":
            return f"not H.264 but {self._codec}"
        return self._unsuitable(profile_level_id) or (None if self._seen else "not seen yet")

    def _unsuitable(self, taken: str) -> str | None:
        sps = self._sps
        if sps is None:
            return "its parameter set cannot be read" if self._seen else None
        if not decodes(taken, sps.profile_level_id):
            return f"its profile is {profile(sps.profile_level_id)}, the viewer takes {profile(taken)}"
        if self._reordered or sps.reorder:
            return "it has B-frames"
        if sps.interlaced:
            return "it is interlaced"
        if self._facts.rotation % 360:
            return f"its pictures have to be turned by {self._facts.rotation % 360} degrees"
        return self._too_much(sps) or self._keyless()

    def _too_much(self, sps: Sps) -> str | None:
        if self._size is not None and (sps.width > self._size[0] or sps.height > self._size[1]):
            return f"its pictures are {sps.width}x{sps.height}, at most {self._size[0]}x{self._size[1]} are wanted"
        seconds = self._last - self._first
        rate = (self._frames - 1) / seconds if seconds >= _RATE_AFTER else 0.0
        if self._fps is not None and rate > self._fps * 1.1:
            return f"it has {rate:.0f} pictures a second, at most {self._fps:g} are wanted"
        return None

    def _keyless(self) -> str | None:
        interval = max(self._facts.key_interval or 0.0, self._longest, self._last - self._key)
        return f"a key frame only each {interval:.1f} s" if interval > KEY_INTERVAL else None

    def _read(self, sets: list[bytes]) -> None:
        """Take over a parameter set that changed: what comes is another sequence, made in another way."""
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


def _front(data: bytes) -> list[bytes]:
    """The units in front of the first slice."""
    front = []
    for unit in nal_units(data):
        if SLICE <= unit[0] & 31 <= IDR:
            break
        front.append(unit)
    return front


def _has_b_slice(data: bytes) -> bool:
    """By the first slice: an encoder makes all slices of a picture alike."""
    return is_b_slice(next((unit for unit in nal_units(data) if unit[0] & 31 == SLICE), b""))
