"""Offers whose media sections have several transports, because they are not in one BUNDLE group (RFC 8843). Pure.

A connection has one transport. Such an offer is therefore split into one offer per transport, in each of which the
sections of the other transports are rejected ones (port 0), so that all sections keep their places. The answers are
merged again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from .remote_description import Kind, choose_sections
from .sdp import SdpError, split_sections
from .sdp_codecs import SupportedCodecs
from .sdp_parser import parse

MAX_TRANSPORTS: Final = 2
"""Maximum number of transports per call: one per kind of media. Only the first track of a kind is used."""

_USED: Final = re.compile(r"^m=\S+ +0*[1-9]", re.MULTILINE)
_PORT: Final = re.compile(r"^(m=\S+ +)\d+(?:/\d+)?")


@dataclass(frozen=True, slots=True)
class Part:
    """The sections of one transport: their indexes and identifications, and the kinds of media accepted in them."""

    indexes: frozenset[int]
    mids: frozenset[str | None]
    kinds: tuple[Kind, ...]


def split_transports(offer: str, supported: SupportedCodecs) -> list[Part]:
    """Return the transports of an offer that has several usable ones; an empty list if one connection can answer it.

    At most ``MAX_TRANSPORTS``, and one per kind of media. Raises nothing: an invalid offer has an empty list.
    """
    try:
        parsed = parse(offer)
    except SdpError:
        return []
    media = [section for section in parsed.sections if section.kind in ("audio", "video") and section.port]
    if len(media) < 2 or all(section.mid in parsed.bundle for section in media):
        return []
    parts: list[Part] = []
    left, kinds = set(range(len(parsed.sections))), set[str]()
    while left and len(parts) < MAX_TRANSPORTS:
        try:
            remote = choose_sections(parsed.only(left), supported)
        except SdpError:
            break
        indexes = {one.index for one in remote.accepted} | ({remote.kept.index} if remote.kept is not None else set())
        mids = (parsed.sections[index].mid for index in indexes)
        parts.append(Part(frozenset(indexes), frozenset(mids) - {None}, remote.kinds))
        kinds.update(remote.kinds)
        others = {index for index in remote.elsewhere if parsed.sections[index].kind not in kinds}
        left = left - indexes - (set(remote.elsewhere) - others) if others else set()
    return parts if len(parts) > 1 else []


def restrict(offer: str, indexes: Collection[int]) -> str:
    """Return ``offer`` with all sections rejected except those of ``indexes``."""
    head, sections = split_sections(offer)
    return head + "".join(
        section if index in indexes else _rejected(section) for index, section in enumerate(sections)
    )


def uses_transport(offer: str) -> bool:
    """Whether a section of ``offer`` is not rejected."""
    return _USED.search(offer) is not None


def _rejected(section: str) -> str:
    """Return a section with port 0, and of its attributes only the identification."""
    line, *others = section.split("\n")
    mid = next((other for other in others if other.startswith("a=mid:")), None)
    return "\n".join([_PORT.sub(r"\g<1>0", line), *([] if mid is None else [mid]), ""])


def merge_answers(parts: Sequence[Part], answers: Sequence[str]) -> str:
    """Return one answer: each section from the answer of its part, the others from the first one."""
    head, sections = split_sections(answers[0])
    for part, answer in zip(parts[1:], answers[1:], strict=True):
        other_head, other_sections = split_sections(answer)
        head += "".join(re.findall(r"^a=group:BUNDLE .*\n", other_head, re.MULTILINE))
        for index in part.indexes:
            sections[index] = other_sections[index]
    return head + "".join(sections)
