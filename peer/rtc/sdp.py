"""Session descriptions (SDP, RFC 8866): their error, and edits of our own ones. Pure.

What a remote wrote is read by ``sdp_parser`` and ``sdp_codecs`` and brought into shape by ``remote_description``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

MAX_CANDIDATES: Final = 100
"""Maximum number of remote candidates per connection (RFC 8445 19.5.1). ICE sends checks to each of them."""

_SECTION = re.compile(r"^(?=m=)", re.MULTILINE)
_GROUP_LINE = re.compile(r"^a=group:BUNDLE.*\r\n", re.MULTILINE)
_ICE_LINE = re.compile(r"^a=ice-(ufrag|pwd):(\S+)", re.MULTILINE)
_ORIGIN = re.compile(r"^o=- (\d+) (\d+) ", re.MULTILINE)
_END_LINE = re.compile(r"^a=end-of-candidates\r?\n", re.MULTILINE)


class SdpError(ValueError):
    """A description that breaks a rule.

    ``line`` is the offending line. It is empty where a line is missing, or where several lines break the rule
    together. ``rule`` names the source of the rule, for example an RFC.
    """

    def __init__(self, message: str, *, line: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.rule = rule

    def __str__(self) -> str:
        rule = f" ({self.rule})" if self.rule else ""
        line = f": {self.line[:80]!r}" if self.line else ""
        return f"{self.args[0]}{rule}{line}"


def split_sections(sdp: str) -> tuple[str, list[str]]:
    """Return the session level and the media sections of a description."""
    head, *sections = _SECTION.split(sdp)
    return head, sections


def bundle_line(mids: Iterable[str]) -> str:
    """Return the line of a BUNDLE group (RFC 8843 7)."""
    return f"a=group:BUNDLE {' '.join(mids)}\r\n"


def replace_bundle(head: str, mids: Collection[str]) -> str:
    """Return the session level ``head`` of ours with another BUNDLE group; with none if ``mids`` is empty."""
    return _GROUP_LINE.sub(lambda _: bundle_line(mids) if mids else "", head)


@dataclass(frozen=True, slots=True)
class IceParameters:
    """ICE credentials of a description (RFC 8839 5.4). ``is_lite``: its sender is a lite implementation (5.3)."""

    username_fragment: str
    password: str
    is_lite: bool = False


def ice_parameters(sdp: str) -> IceParameters:
    """Return the ICE parameters of a normalized description."""
    found = dict(_ICE_LINE.findall(sdp))
    return IceParameters(found["ufrag"], found["pwd"], "\r\na=ice-lite\r\n" in sdp)


class Origin:
    """The ``o=`` line of our descriptions (RFC 9429 5.2.1): one session id, and a version that increases by one.

    The engine makes another session id for each description, and a remote would take that for another session.
    """

    def __init__(self) -> None:
        self._session_id: str | None = None
        self._version = 0

    def write(self, sdp: str) -> str:
        """Return our next description. The first one keeps its session id and version."""

        def line(match: re.Match[str]) -> str:
            if self._session_id is None:
                self._session_id, self._version = match[1], int(match[2])
            else:
                self._version += 1
            return f"o=- {self._session_id} {self._version} "

        return _ORIGIN.sub(line, sdp, count=1)


def announce_trickle(sdp: str) -> str:
    """Announce that more candidates follow: add ``a=ice-options:trickle``, remove ``a=end-of-candidates``.

    The option goes to the session level (RFC 8838 4.1.1, 14).
    """
    return _END_LINE.sub("", sdp).replace("\r\nm=", "\r\na=ice-options:trickle\r\nm=", 1)
