"""BUNDLE groups (RFC 8843): the sections that share one transport, and the attributes of that transport. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .sdp import SdpError
from .sdp_codecs import read_codecs
from .sdp_parser import Attributes, Parsed, Section

MAX_FINGERPRINTS: Final = 8
"""Maximum number of fingerprints read: each hash function twice (RFC 8122 5)."""

PROTOCOLS: Final = frozenset(
    {"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP"}
)
"""Transport protocols of sections that may be accepted: RFC 5764 8, and what older programs write for the same."""

DATA_PROTOCOLS: Final = frozenset({"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"})
"""Transport protocols of data channels (RFC 8841 4.3)."""

HASHES: Final = frozenset({"sha-256", "sha-384", "sha-512"})
"""Hash functions of fingerprints that the engine verifies (RFC 8122 5)."""

_CREDENTIAL: Final = re.compile(r"[!-~]{1,256}")
"""RFC 8839 5.4 asks for at least 4 and 22 letters and digits. Shorter ones harm only the peer that has them."""
_FINGERPRINT: Final = re.compile(r"(\S{1,16})\s+((?:[0-9A-Fa-f]{2}:){15,127}[0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Kept:
    """A section of which nothing is used, but which must not be rejected: the remote has no other transport.

    ``formats`` and ``lines`` are its content in our answer, apart from the transport.
    """

    index: int
    mid: str
    formats: tuple[str, ...]
    lines: tuple[str, ...]


def sharing(parsed: Parsed, usable: Sequence[int]) -> list[int]:
    """Return those of the sections ``usable`` that share one transport; first the section that describes it.

    In a BUNDLE group that is the first one named (RFC 8843 7.3.1). Without a group, or if it contains none of them,
    only the first section is returned.
    """
    places = {parsed.sections[index].mid: index for index in reversed(usable)}
    members = [places[mid] for mid in parsed.bundle if mid in places]
    return members or list(usable[:1])


def same_transport(parsed: Parsed, usable: Sequence[int]) -> list[int]:
    """Return those of the sections ``usable`` whose ICE credentials are the first one's, without a BUNDLE group.

    GStreamer answers a group without one, and uses one transport nevertheless.
    """

    def credentials(index: int) -> Sequence[str]:
        return _first("ice-ufrag", (parsed.sections[index].attributes, parsed.session))[:1]

    own = credentials(usable[0])
    return [index for index in usable if credentials(index) in ((), own)]


def keep_tagged(parsed: Parsed, first: Section) -> Kept | None:
    """Return the tagged section if it is rejected and ``first``, the first accepted one, needs its transport.

    ``first`` has none of its own if it is ``a=bundle-only``, or if it repeats the credentials (``max-bundle`` of
    libwebrtc). With port 0 in the tagged section, the remote would close the transport of the whole group (RFC 8843
    7.3.1).
    """
    tagged = parsed.tagged
    if tagged is None or tagged is first or tagged.port == 0 or tagged.mid is None:
        return None
    own, shared = (_first("ice-ufrag", (one.attributes, parsed.session)) for one in (first, tagged))
    if first.port and own and own[:1] != shared[:1]:
        return None
    index = parsed.sections.index(tagged)
    if tagged.kind == "application" and tagged.protocol in DATA_PROTOCOLS:
        return Kept(index, tagged.mid, tagged.formats[:1] or ("webrtc-datachannel",), ("a=sctp-port:5000",))
    codecs = read_codecs(tagged.formats, tagged.attributes)
    if tagged.kind not in ("audio", "video") or tagged.protocol not in PROTOCOLS or not codecs:
        return None
    lines = ("a=inactive", "a=rtcp-mux", *(line for codec in codecs for line in codec.lines(tagged.kind)))
    return Kept(index, tagged.mid, tuple(str(codec.payload_type) for codec in codecs), lines)


def shared_transport(parsed: Parsed, members: Sequence[Section], *, offer: bool) -> list[str]:
    """Return the attributes of the transport that ``members`` share.

    Each is taken from the first place that has it: the first member; the section that the BUNDLE group names first,
    even if it is rejected; the session level; the other members.

    Raises:
        SdpError: one is missing.
    """
    tagged = parsed.tagged.attributes if parsed.tagged is not None else {}
    places = [members[0].attributes, tagged, parsed.session, *(one.attributes for one in members[1:])]
    ufrag, pwd = (_credential(name, _first(name, places), members[0]) for name in ("ice-ufrag", "ice-pwd"))
    fingerprints = _fingerprints(_first("fingerprint", places))
    if not fingerprints:
        raise SdpError(f"{members[0].where}: no a=fingerprint of {', '.join(sorted(HASHES))}", rule="RFC 8122 5")
    # A BUNDLE group implies it, and bundle-only sections need not state it (RFC 8843 9.3).
    is_muxed = members[0].mid in parsed.bundle or any(
        {"rtcp-mux", "rtcp-mux-only"} & place.keys() for place in places
    )
    if not is_muxed:
        raise SdpError(f"{members[0].where}: no a=rtcp-mux", rule="RFC 8834 4.5")
    setup = next(iter(_first("setup", places)), "")
    # RFC 8842 5.2 and 5.3: the recommended role if the attribute is missing or unusable
    role = setup if setup in ("active", "passive") else "actpass" if offer else "active"
    lines = (f"a=fingerprint:{value}" for value in fingerprints)
    return ["a=rtcp-mux", f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{pwd}", *lines, f"a=setup:{role}"]


def _first(name: str, places: Iterable[Attributes]) -> Sequence[str]:
    return next((place[name] for place in places if name in place), ())


def _credential(name: str, values: Sequence[str], section: Section) -> str:
    if not values or _CREDENTIAL.fullmatch(values[0]) is None:
        problem = f"invalid a={name}" if values else f"no a={name}"
        raise SdpError(f"{section.where}: {problem}", line=section.line, rule="RFC 8839 5.4")
    return values[0]


def _fingerprints(values: Sequence[str]) -> list[str]:
    matches = (_FINGERPRINT.fullmatch(value) for value in values[:MAX_FINGERPRINTS])
    return [f"{match[1].lower()} {match[2]}" for match in matches if match and match[1].lower() in HASHES]
