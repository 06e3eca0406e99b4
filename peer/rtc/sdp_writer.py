"""The text of a normalized description, as the engine's parser needs it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..rtp.header import ABS_SEND_TIME, MID
from .sdp import bundle_line
from .sdp_codecs import Codec
from .sdp_parser import Parsed, Section

MAX_SSRCS: Final = 3
"""Maximum number of SSRCs passed on per section. The engine reads the first, and a second one if there are two."""

EXTENSIONS: Final = frozenset({MID, ABS_SEND_TIME, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"})
"""Header extensions that can be negotiated (RFC 9143, RFC 6464, libwebrtc's send time)."""

_EXTENSION: Final = re.compile(r"(\d{1,4})(?:/\w+)?\s+(\S+)(?:\s.*)?", re.ASCII)
_SSRC: Final = re.compile(r"(\d{1,10})\s+cname:([!-~]{1,256})", re.ASCII)


def write_head(mids: Iterable[str], *, lite: bool) -> str:
    """Return the session level. All sections, of which ``mids`` are the identifications, share one transport."""
    lines = ["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0", *(["a=ice-lite"] if lite else [])]
    return "\r\n".join([*lines, bundle_line(mids)])


def write_section(kind: str, mid: str, codecs: Sequence[Codec], direction: str, lines: Iterable[str]) -> str:
    """Return one section. ``lines`` are the attributes of the transport and those of ``sent_lines``."""
    return (
        "\r\n".join(
            [
                f"m={kind} 9 UDP/TLS/RTP/SAVPF {' '.join(str(codec.payload_type) for codec in codecs)}",
                "c=IN IP4 0.0.0.0",
                f"a=mid:{mid}",
                f"a={direction}",
                *lines,
                *(line for codec in codecs for line in codec.lines(kind)),
            ]
        )
        + "\r\n"
    )


def sent_lines(description: Parsed, section: Section, *, named: bool) -> list[str]:
    """Return the attributes of what the remote sends in ``section``: header extensions and SSRCs.

    Header extensions of the session level apply to all sections (RFC 8285 5). ``named``: the section has an
    identification of the remote's.
    """
    extensions = [*section.attributes.get("extmap", ()), *description.session.get("extmap", ())]
    return [*_extensions(extensions, named=named), *_ssrcs(section)]


def _extensions(values: Iterable[str], *, named: bool) -> Iterator[str]:
    """Yield the supported header extensions, each URI and each number once (RFC 8285 5); MID only if ``named``."""
    uris, numbers = (set() if named else {MID}), {0, 15}
    for value in values:
        if match := _EXTENSION.fullmatch(value):
            number, uri = int(match[1]), match[2]
            if uri in EXTENSIONS and uri not in uris and number not in numbers and number < 256:
                uris.add(uri)
                numbers.add(number)
                yield f"a=extmap:{number} {uri}"


def _ssrcs(section: Section) -> list[str]:
    found: dict[int, str] = {}
    for value in section.attributes.get("ssrc", ()):
        if (match := _SSRC.fullmatch(value)) and int(match[1]) < 2**32:
            found.setdefault(int(match[1]), match[2])
            if len(found) == MAX_SSRCS:
                break
    return [f"a=ssrc:{number} cname:{cname}" for number, cname in found.items()]
