"""Media sections as the engine sees them over all descriptions of one connection. Pure.

The engine finds a section by its place in the description, and supports neither rejected nor reordered sections. A
remote may reject, remove, recycle and add sections in each offer (RFC 9429 5.2.2). The engine therefore gets all
sections that it has ever had, in the same order: a missing one as inactive, a new one in the place of a missing one
of the same kind, or at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .answer import TRANSPORT_LINES
from .remote_description import Accepted, RemoteDescription
from .sdp import SdpError, replace_bundle, split_sections

_DIRECTION = re.compile(r"a=(?:sendrecv|sendonly|recvonly|inactive)")


@dataclass(frozen=True, slots=True)
class _Place:
    """A section of the engine, with its last text. ``in_use``: whether the last description had it."""

    kind: str
    mid: str
    text: str
    in_use: bool = True


class EngineSections:
    """Mapping between the sections of the remote's descriptions and those of the engine.

    There are at most twice as many as an offer may have: those of an offer of audio only, then one of video only.
    """

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def apply(self, remote: RemoteDescription) -> tuple[str, dict[str, str]]:
        """Return the description for the engine, and the sections that it must rename before: old to new ``a=mid``.

        In a further offer, ``a=setup`` is ``actpass``: the DTLS association stays, and so do its roles (RFC 8842
        5.5).

        Raises:
            SdpError: an identification was used for another kind of media before.
        """
        head, texts = split_sections(remote.text)
        if self._places:
            texts = [re.sub(r"^a=setup:\S+", "a=setup:actpass", text, flags=re.MULTILINE) for text in texts]
        offered = {one.mid for one in remote.accepted}
        places = [replace(place, in_use=False) for place in self._places]
        renamed: dict[str, str] = {}
        for one, text in zip(remote.accepted, texts, strict=True):
            in_use = one.index not in remote.rejections
            index = _find(places, one, offered)
            if index is None:
                places.append(_Place(one.kind, one.mid, text, in_use))
                continue
            if places[index].mid != one.mid:
                renamed[places[index].mid] = one.mid
            places[index] = _Place(one.kind, one.mid, text, in_use)
        given = {place.mid: place.text for place in places if place.mid in offered}
        transport = [line for line in texts[0].splitlines() if line.startswith(TRANSPORT_LINES)]
        sections = [given.get(place.mid) or _inactive(place.text, transport) for place in places]
        self._places = places
        return replace_bundle(head, [place.mid for place in places]) + "".join(sections), renamed

    def select(self, local: str, remote: RemoteDescription) -> str:
        """Return the engine's description ``local`` with only the accepted sections of ``remote``, in their order."""
        head, texts = split_sections(local)
        by_mid = {place.mid: text for place, text in zip(self._places, texts, strict=True)}
        return head + "".join(by_mid[one.mid] for one in remote.accepted)


def _find(places: Sequence[_Place], one: Accepted, offered: set[str]) -> int | None:
    """Return the index of the engine's section for ``one``: its own, or an unused one that it may recycle."""
    for index, place in enumerate(places):
        if place.mid == one.mid:
            if place.kind != one.kind:
                rule = "RFC 9429 5.2.2"
                raise SdpError(f"a=mid:{one.mid} is {one.kind} now, and was {place.kind} before", rule=rule)
            return index
    for index, place in enumerate(places):
        if place.kind == one.kind and not place.in_use and place.mid not in offered:
            return index
    return None


def _inactive(text: str, transport: Sequence[str]) -> str:
    """Return a section without media, with the transport of another one of the same BUNDLE group."""
    head, *lines = text.splitlines()
    kept = [line for line in lines if not line.startswith(TRANSPORT_LINES) and not _DIRECTION.fullmatch(line)]
    return "\r\n".join((head, *transport, "a=inactive", *kept)) + "\r\n"
