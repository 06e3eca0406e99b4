"""The lines of a session description (SDP, RFC 8866): read leniently, once, in linear time. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .sdp import SdpError

MAX_CHARACTERS: Final = 64 * 1024
"""Maximum size of a description. Real ones reach 60 kB, with dozens of sections; Chromium's first offer has 6 kB."""

MAX_LINES: Final = 2_500
"""Maximum number of lines. 60 kB of real ones have 1,500."""

MAX_SECTIONS: Final = 256
"""Maximum number of media sections read. Large conferences have some dozens."""

DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})

Attributes = Mapping[str, Sequence[str]]
"""The values of ``a=`` lines by name, each in order; empty strings for those without a value."""

_MEDIA: Final = re.compile(r"m=([!-~]{1,32}) +(\d{1,5})(?:/\d{1,5})? +([!-~]{1,64})((?: +[!-~]+)*) *")
_TOKEN: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")
"""RFC 8866 9: ``token``, of at most 64 characters. Real ones are shorter."""


@dataclass(frozen=True, slots=True)
class Section:
    """A media section as the remote wrote it. ``number`` is that of its ``m=`` line, from 1.

    ``mid`` is its identification (RFC 5888), ``None`` if it has none, or has one that is illegal or repeated.
    """

    number: int
    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    attributes: Attributes
    mid: str | None

    @property
    def where(self) -> str:
        """The section for people: its kind and its line."""
        return f"m={self.kind} (line {self.number})"

    @property
    def line(self) -> str:
        """The start of the ``m=`` line, for people."""
        return f"m={self.kind} {self.port} {self.protocol} {' '.join(self.formats[:16])}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A description as the remote wrote it.

    ``session`` are its session-level attributes. ``groups`` are its BUNDLE groups, each with its identifications in
    order, and ``members`` all of them. ``bundle`` is one of the groups, at first the first one: see ``using``.
    """

    session: Attributes
    sections: tuple[Section, ...]
    groups: tuple[tuple[str, ...], ...]
    members: frozenset[str | None]
    bundle: tuple[str, ...]

    @property
    def mids(self) -> frozenset[str | None]:
        """The identifications of all sections."""
        return frozenset(section.mid for section in self.sections)

    @property
    def tagged(self) -> Section | None:
        """The section that ``bundle`` names first (RFC 8843: the tagged one), if it exists."""
        by_mid = {section.mid: section for section in self.sections}
        return next((by_mid[mid] for mid in self.bundle if mid in by_mid), None)

    def direction(self, section: Section) -> str:
        """Return the section's own direction, or the session's, or ``sendrecv`` (RFC 8866 6.7)."""
        for attributes in (section.attributes, self.session):
            for name in attributes:
                if name in DIRECTIONS:
                    return name
        return "sendrecv"

    def only(self, indexes: Collection[int]) -> Parsed:
        """Return a copy in which all sections but those of ``indexes`` are rejected."""
        sections = enumerate(self.sections)
        kept = tuple(one if at in indexes else replace(one, port=0, attributes={}) for at, one in sections)
        return replace(self, sections=kept)

    def using(self, usable: Iterable[int]) -> Parsed:
        """Return a copy whose ``bundle`` is the group with the most kinds of media among the sections ``usable``.

        It is the first of several such groups, and empty if no group has a usable section.
        """
        kinds = {self.sections[index].mid: self.sections[index].kind for index in usable}
        groups = (group for group in self.groups if not kinds.keys().isdisjoint(group))
        bundle = max(groups, key=lambda group: len({kinds[mid] for mid in group if mid in kinds}), default=())
        return replace(self, bundle=bundle)


def parse(sdp: str) -> Parsed:
    """Read a description. Lines that cannot be read are dropped, ``m=`` lines excepted.

    Raises:
        SdpError: the description is too large, has no media section, or has an ``m=`` line that cannot be read.
    """
    if len(sdp) > MAX_CHARACTERS:
        raise SdpError(f"description of {len(sdp)} characters; at most {MAX_CHARACTERS} are read")
    lines = sdp.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise SdpError(f"description of more than {MAX_LINES} lines")
    session: dict[str, list[str]] = {}
    found: list[tuple[int, str, dict[str, list[str]]]] = []
    current = session
    for number, line in enumerate(lines, 1):
        if line.startswith("m="):
            current = {}
            found.append((number, line.rstrip(), current))
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            current.setdefault(name.strip(), []).append(value.strip())
    if len(found) > MAX_SECTIONS:
        raise SdpError(f"description of {len(found)} media sections; at most {MAX_SECTIONS} are read")
    if not found:
        raise SdpError("description without a media section", line=lines[0].rstrip(), rule="RFC 8866 5")
    mids: set[str] = set()
    sections = tuple(_section(number, line, attributes, mids) for number, line, attributes in found)
    words = [value.split() for value in session.get("group", ())]
    groups = tuple(tuple(dict.fromkeys(mids)) for semantics, *mids in filter(None, words) if semantics == "BUNDLE")
    members = frozenset(mid for group in groups for mid in group)
    return Parsed(session, sections, groups, members, next(iter(groups), ()))


def _section(number: int, line: str, attributes: dict[str, list[str]], mids: set[str]) -> Section:
    """Read an ``m=`` line. Adds the section's identification to ``mids``."""
    match = _MEDIA.fullmatch(line)
    if match is None:
        raise SdpError(f"line {number} is not a media description", line=line, rule="RFC 8866 5.14")
    mid = next(iter(attributes.get("mid", ())), None)
    if mid is not None and (mid in mids or _TOKEN.fullmatch(mid) is None):
        mid = None
    if mid is not None:
        mids.add(mid)
    return Section(number, match[1], int(match[2]), match[3], tuple(match[4].split()), attributes, mid)
