"""Reading and editing of session descriptions (SDP, RFC 8866). Pure.

Text in, text or ``SdpError`` out. A remote description is checked and stripped of its candidates before the engine
parses it; a local one is completed before it is sent. Nothing here depends on the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_SECTIONS: Final = 8
"""Maximum number of media sections in a remote description. The engine starts threads and tasks for each."""

MAX_CANDIDATES: Final = 100
"""Maximum number of remote candidates per connection (RFC 8445 19.5.1). ICE sends checks to each of them."""

REPAIR_CODECS: Final = frozenset({"rtx", "red", "ulpfec", "flexfec-03"})
"""Codecs, by their rtpmap names, that repeat or repair the packets of another codec (RFC 4588, 2198, 5109, 8627)."""

_MAX_NAMED: Final = 8
"""Maximum number of offered codecs in an error message. The remote chooses how many there are."""

_SECTION_START = re.compile(r"^(?=m=)", re.MULTILINE)
_MEDIA_LINE = re.compile(r"m=(\w+) (\S*)")
_CODEC_NAME = re.compile(r"^a=rtpmap:\d+ ([\w.-]{1,32})/", re.MULTILINE)
_CANDIDATE_LINE = re.compile(r"^a=candidate:.*\r?\n", re.MULTILINE)
_END_LINE = re.compile(r"^a=end-of-candidates\r?\n", re.MULTILINE)


class SdpError(ValueError):
    """A description that breaks a rule.

    ``line`` is the offending line, empty where a line is missing or several lines contradict each other. ``rule``
    names the source of the rule, for example an RFC.
    """

    def __init__(self, message: str, *, line: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.rule = rule

    def __str__(self) -> str:
        rule = f" ({self.rule})" if self.rule else ""
        line = f": {self.line[:80]!r}" if self.line else ""
        return f"{self.args[0]}{rule}{line}"


class NoCommonCodecError(SdpError):
    """Video is offered only in codecs that are not accepted here."""


@dataclass(frozen=True, slots=True)
class Section:
    """A media section: its ``m=`` line and all lines up to the next one."""

    text: str

    @property
    def line(self) -> str:
        """The ``m=`` line."""
        return self.text.partition("\n")[0].rstrip("\r")

    @property
    def kind(self) -> str:
        """The media type, such as ``audio``, ``video`` or ``application``. Empty if the line is malformed."""
        match = _MEDIA_LINE.match(self.text)
        return match[1] if match else ""

    @property
    def rejected(self) -> bool:
        """Whether the port is zero (RFC 9429 5.2.2), or missing."""
        match = _MEDIA_LINE.match(self.text)
        return match is None or not re.match("[1-9]", match[2])

    @property
    def codecs(self) -> tuple[str, ...]:
        """The names in the ``a=rtpmap`` lines, in lower case, in order, each once."""
        return tuple(dict.fromkeys(name.lower() for name in _CODEC_NAME.findall(self.text)))

    @property
    def candidates(self) -> tuple[str, ...]:
        """The candidates, as in RTCIceCandidateInit: ``candidate:…``. At most ``MAX_CANDIDATES``."""
        return tuple(line.strip()[2:] for line in _CANDIDATE_LINE.findall(self.text)[:MAX_CANDIDATES])


@dataclass(frozen=True, slots=True)
class Description:
    """A description, by section. ``text`` is all of it, the session level included."""

    text: str
    sections: tuple[Section, ...]

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """``audio`` and ``video`` in the order in which they first occur, each once."""
        return tuple(dict.fromkeys(one.kind for one in self.sections if one.kind in ("audio", "video")))

    @property
    def candidates(self) -> tuple[tuple[int, str], ...]:
        """All candidates, each with the index of its section (``sdpMLineIndex``)."""
        return tuple((index, one) for index, section in enumerate(self.sections) for one in section.candidates)


def parse(sdp: str) -> Description:
    """Split a description into its sections. Accepts any text."""
    return Description(sdp, tuple(Section(text) for text in _SECTION_START.split(sdp)[1:]))


def read_remote(sdp: str) -> Description:
    """Check a remote description and return it without candidates and ``a=end-of-candidates`` in its ``text``.

    The sections keep their candidates, which are added to the connection one by one: the engine would resolve mDNS
    names inside ``setRemoteDescription``, up to a second for each, and takes no candidate after the end of them.

    Raises:
        SdpError: no audio or video, more than ``MAX_SECTIONS`` sections, or no DTLS fingerprint.
    """
    description = parse(sdp)
    if not description.media_kinds:
        kinds = ", ".join(sorted({one.kind for one in description.sections})) or "none"
        raise SdpError(f"description without audio or video sections, only: {kinds}")
    if len(description.sections) > MAX_SECTIONS:
        extra = description.sections[MAX_SECTIONS].line
        raise SdpError(f"description with more than {MAX_SECTIONS} media sections", line=extra)
    if "a=fingerprint:" not in sdp:
        raise SdpError("description without a=fingerprint", rule="RFC 8122 5")
    return Description(strip_candidates(sdp), description.sections)


def strip_candidates(sdp: str) -> str:
    """Remove all ``a=candidate`` and ``a=end-of-candidates`` lines."""
    return _END_LINE.sub("", _CANDIDATE_LINE.sub("", sdp))


def announce_trickle(sdp: str) -> str:
    """Announce that more candidates follow: add ``a=ice-options:trickle``, remove ``a=end-of-candidates``.

    The option goes to the session level (RFC 8838 4.1.1, 14).
    """
    return _END_LINE.sub("", sdp).replace("\r\nm=", "\r\na=ice-options:trickle\r\nm=", 1)


def check_video_codecs(sections: Iterable[Section], accepted: Sequence[str]) -> None:
    """Check that every offered video section has a codec in common with ``accepted`` (names in lower case).

    The engine cannot answer such a section with a rejection and accept the others, so the offer as a whole fails.

    Raises:
        NoCommonCodecError: names the codecs of both sides.
    """
    for section in sections:
        if section.kind != "video" or section.rejected:
            continue
        offered = [name for name in section.codecs if name not in REPAIR_CODECS]
        if offered and not set(offered) & set(accepted):
            raise NoCommonCodecError(
                f"no common video codec: {', '.join(offered[:_MAX_NAMED])} offered, ours is {', '.join(accepted)}; "
                "try --video-codec vp8,h264 at both ends"
            )
