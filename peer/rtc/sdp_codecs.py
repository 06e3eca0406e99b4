"""The codecs of a media section: ``a=rtpmap``, ``a=fmtp``, ``a=rtcp-fb`` (RFC 8866 6.6, 6.15, RFC 4585 4.2). Pure.

Reads what a remote wrote, leniently and in linear time, and writes what the engine's parser needs: complete, without
repetitions, and only codecs that are supported here. That parser is quadratic in these lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..media.sources.passthrough import profile

MAX_CODECS: Final = 64
"""Maximum number of payload types read per section. Chromium offers 30; there are 128 numbers in all (RFC 3551)."""

MAX_PARAMETERS: Final = 32
"""Maximum number of ``a=fmtp`` parameters read per codec. H.264 defines 27 (RFC 6184 8.1)."""

MAX_PARAMETER: Final = 256
"""Maximum length of a parameter, in characters; ``sprop-parameter-sets`` of H.264, which nothing here reads, is
the longest."""

STATIC: Final[Mapping[int, str]] = {0: "PCMU/8000", 8: "PCMA/8000", 9: "G722/8000"}
"""Payload types whose codec is fixed (RFC 3551 6), as far as the engine has the codec. They need no rtpmap."""

INTEGERS: Final = frozenset({"apt", "max-fr", "max-fs", "maxplaybackrate", "minptime", "stereo", "useinbandfec"})
"""Parameters that the engine reads as an integer; it raises where one is none."""

FEEDBACK: Final = ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")
"""RTCP feedback that is passed on (RFC 4585, RFC 5104; goog-remb and transport-cc are libwebrtc's)."""

REPAIR: Final = frozenset({"rtx", "red", "ulpfec", "flexfec-03"})
"""Codecs, by their rtpmap names, that repeat or repair the packets of another codec (RFC 4588, 2198, 5109, 8627)."""

_PREFIXES: Final = {
    "Constrained Baseline": "42e0", "Baseline": "4200", "Main": "4d00",
    "Constrained High": "640c", "High": "6400", "High 4:4:4": "f400",
}  # fmt: skip
_LEVELS: Final = frozenset(
    f"{level:02x}" for level in (*range(10, 14), *range(20, 23), *range(30, 33), *range(40, 43), *range(50, 53))
)

_PARAMETER: Final = re.compile(rf"[ -~]{{1,{MAX_PARAMETER}}}")
_RTPMAP: Final = re.compile(r"(\d{1,3})[ \t]+([\w.+-]{1,64})/(\d{1,9})(?:/(\d{1,2}))?[ \t]*", re.ASCII)
_FMTP: Final = re.compile(r"(\d{1,3})[ \t]+(.*)", re.ASCII)
_FEEDBACK: Final = re.compile(r"(\d{1,3}|\*)[ \t]+(.*)", re.ASCII)
_PAYLOAD_TYPE: Final = re.compile(r"0*(?:\d{1,2}|1[01]\d|12[0-7])", re.ASCII)
_FORBIDDEN: Final = frozenset(range(72, 77))
"""Payload types that collide with RTCP packet types on a shared port (RFC 5761 4)."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type. ``parameters`` are those of ``a=fmtp``; one without a value has ``None``."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    feedback: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name.lower() != "h264":
            return f"{self.name}/{self.clock_rate}"
        return f"H264 {profile(self.profile_level_id)} ({self.profile_level_id}) packetization-mode {self.mode}"

    @property
    def profile_level_id(self) -> str:
        """Of H.264. Constrained Baseline, level 3.1, where it is missing, as libwebrtc reads and answers it.

        RFC 6184 8.1 says Baseline, level 1, of which Constrained Baseline is the part that encoders use. WebRTC
        endpoints have to state it (RFC 7742 6.2).
        """
        return (self.parameters.get("profile-level-id") or "42e01f").lower()

    @property
    def mode(self) -> int:
        """The packetization mode of H.264; 0 where it is missing (RFC 6184 8.1)."""
        return {"1": 1, "2": 2}.get(self.parameters.get("packetization-mode") or "", 0)

    def lines(self, kind: str) -> Iterator[str]:
        """Yield the attributes of this codec, as the engine reads them."""
        channels = f"/{self.channels}" if kind == "audio" and self.channels > 1 else ""
        yield f"a=rtpmap:{self.payload_type} {self.name}/{self.clock_rate}{channels}"
        for value in self.feedback:
            yield f"a=rtcp-fb:{self.payload_type} {value}"
        parameters = dict(self.parameters)
        if self.name.lower() == "h264":
            parameters |= {"profile-level-id": self._known_profile_level_id(), "packetization-mode": str(self.mode)}
        if parameters:
            text = ";".join(key if value is None else f"{key}={value}" for key, value in parameters.items())
            yield f"a=fmtp:{self.payload_type} {text}"

    def _known_profile_level_id(self) -> str:
        """Return the profile and level in the notation of the engine, which rejects other constraint bits and levels.

        Levels are not compared (``passthrough``), so one that the engine does not know becomes 3.1.
        """
        level = self.profile_level_id[4:]
        prefix = _PREFIXES.get(profile(self.profile_level_id), "42e0")
        return prefix + (level if level in _LEVELS else "1f")


@dataclass(frozen=True, slots=True)
class SupportedCodecs:
    """The codecs that can be negotiated.

    ``names``: ``name/clock rate`` or ``name/clock rate/channels``, in lower case, of both kinds of media.
    ``h264``: pairs of profile name (``passthrough.profile``) and packetization mode.
    """

    names: frozenset[str]
    h264: frozenset[tuple[str, int]] = frozenset()

    @property
    def video(self) -> list[str]:
        """The names of the video codecs, in order."""
        video = {name.partition("/")[0] for name in self.names if name.endswith("/90000")} - REPAIR
        return sorted(video)

    def has(self, codec: Codec) -> bool:
        """Whether ``codec`` can be negotiated."""
        key = f"{codec.name.lower()}/{codec.clock_rate}" + (f"/{codec.channels}" if codec.channels > 1 else "")
        if key not in self.names:
            return False
        return codec.name.lower() != "h264" or (profile(codec.profile_level_id), codec.mode) in self.h264


def read_codecs(formats: Sequence[str], attributes: Mapping[str, Sequence[str]]) -> list[Codec]:
    """Return the codecs of a section, in the order of its ``m=`` line, each payload type once.

    ``formats``: the payload types of the ``m=`` line. ``attributes``: the values of its ``a=`` lines by name. A line
    that cannot be read, or that is about a payload type which the ``m=`` line lacks, is dropped.
    """
    wanted = dict.fromkeys(int(text) for text in formats[:MAX_CODECS] if _PAYLOAD_TYPE.fullmatch(text))
    maps: dict[int, tuple[str, int, int]] = {}
    parameters: dict[int, dict[str, str | None]] = {}
    feedback: dict[int | None, dict[str, None]] = {}
    for value in attributes.get("rtpmap", ()):
        if found := _RTPMAP.fullmatch(value):
            # RFC 7587 7: Opus always has two channels here. Some programs, such as GStreamer, may omit them.
            channels = int(found[4] or (2 if found[2].lower() == "opus" else 1))
            maps.setdefault(int(found[1]), (found[2], int(found[3]), channels))
    for value in attributes.get("fmtp", ()):
        if (found := _FMTP.match(value)) and (number := int(found[1])) in wanted and number not in parameters:
            parameters[number] = read_parameters(found[2])
    for value in attributes.get("rtcp-fb", ()):
        if found := _FEEDBACK.match(value):
            target = None if found[1] == "*" else int(found[1])
            text = " ".join(found[2][:MAX_PARAMETER].split())
            if text in FEEDBACK and (target is None or target in wanted):
                feedback.setdefault(target, {})[text] = None
    for number, text in STATIC.items():
        name, _, rate = text.partition("/")
        maps.setdefault(number, (name, int(rate), 1))
    return [
        Codec(
            number,
            *maps[number],
            parameters.get(number, {}),
            tuple(dict.fromkeys((*feedback.get(number, ()), *feedback.get(None, ())))),
        )
        for number in wanted
        if number in maps and number not in _FORBIDDEN
    ]


def read_parameters(text: str) -> dict[str, str | None]:
    """Return the parameters of an ``a=fmtp`` line: ``key=value`` or ``key``, separated by semicolons and spaces.

    An empty one, one that is too long or not printable ASCII, and one that should be a number and is none are
    dropped.
    """
    found: dict[str, str | None] = {}
    for part in text.split(";", MAX_PARAMETERS)[:MAX_PARAMETERS]:
        key, equals, value = (piece.strip(" \t") for piece in part.partition("="))
        if not key or _PARAMETER.fullmatch(f"{key}{value}") is None:
            continue
        if key in INTEGERS and re.fullmatch(r"\d{1,9}", value, re.ASCII) is None:
            continue
        found.setdefault(key, value if equals else None)
    return found


def choose(codecs: Sequence[Codec], supported: SupportedCodecs) -> list[Codec]:
    """Those of ``codecs`` that can be negotiated, and the retransmission codecs (``rtx``, RFC 4588) of these."""
    usable = {codec.payload_type for codec in codecs if codec.name.lower() not in REPAIR and supported.has(codec)}

    def repeats(codec: Codec) -> bool:
        base = codec.parameters.get("apt")
        return codec.name.lower() == "rtx" and base is not None and int(base) in usable

    return [codec for codec in codecs if codec.payload_type in usable or repeats(codec)] if usable else []
