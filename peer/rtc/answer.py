"""The shape of our answers: the engine's text, with all sections of the offer in their places. Pure."""

from __future__ import annotations

import re
from typing import Final

from .remote_description import RemoteDescription
from .sdp import replace_bundle, split_sections
from .sdp_bundle import Kept
from .sdp_parser import Section

_RTPMAP: Final = re.compile(r"(\d{1,3}) [!-~]{1,64}")
"""The value of an ``a=rtpmap`` line (RFC 8866 6.6). Real ones are shorter."""

TRANSPORT_LINES: Final = ("c=", "a=ice-", "a=candidate:", "a=end-of-candidates", "a=fingerprint:", "a=setup:")
"""Starts of the lines that describe a transport."""


def mirror(answer: str, offer: RemoteDescription) -> str:
    """Bring the engine's ``answer`` into the shape of ``offer``.

    Each section stands in its place, rejected ones with port 0, unless ``kept``. The BUNDLE group and the ``a=mid``
    lines are there only where the offer has them (RFC 8843 7.3, RFC 5888 9).
    """
    head, made = split_sections(answer)
    parts = [replace_bundle(head, offer.bundle)]
    texts = {one.index: (one, text) for one, text in zip(offer.accepted, made, strict=True)}
    for index, section in enumerate(offer.sections):
        if index in texts:
            one, text = texts[index]
            text = re.sub(r"^(m=\S+ \d+) \S+", rf"\g<1> {section.protocol}", text, count=1)  # one of PROTOCOLS
            parts.append(text if one.named else re.sub(r"^a=mid:.*\r\n", "", text, flags=re.MULTILINE))
            continue
        if offer.kept is not None and index == offer.kept.index:
            parts.append(_write_kept(offer.kept, section, made[0]))
            continue
        parts.append(_write_rejected(section))
    return "".join(parts)


def _write_rejected(section: Section) -> str:
    """Return a rejected section: port 0 and one format (RFC 3264 6), with its ``a=rtpmap`` if the offer has one.

    Pion looks up the codec of every format of an answer, also of a rejected section, and fails without it.
    """
    rtpmaps = filter(None, map(_RTPMAP.match, section.attributes.get("rtpmap", ())))
    rtpmap = next((match for match in rtpmaps if match[1] in section.formats), None)
    format_ = rtpmap[1] if rtpmap else next(iter(section.formats), "0")
    lines = [f"m={section.kind} 0 {section.protocol} {format_}", "c=IN IP4 0.0.0.0", "a=inactive"]
    if rtpmap:
        lines.append(f"a=rtpmap:{rtpmap[0]}")
    if section.mid is not None:
        lines.append(f"a=mid:{section.mid}")
    return "\r\n".join(lines) + "\r\n"


def _write_kept(kept: Kept, section: Section, bundled: str) -> str:
    """Return the section ``kept`` of our answer, with the transport of ``bundled``, another section of the same
    group."""
    head, *lines = bundled.splitlines()
    transport = [line for line in lines if line.startswith(TRANSPORT_LINES)]
    media = f"m={section.kind} {head.split()[1]} {section.protocol} {' '.join(kept.formats)}"
    return "\r\n".join([media, *transport, f"a=mid:{kept.mid}", *kept.lines]) + "\r\n"
