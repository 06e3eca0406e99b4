"""Validation and normalization of remote descriptions, in front of the engine's parser. Pure.

The engine's parser raises on many legal lines, takes quadratic time on others, and accepts all sections of an offer
or none. It therefore never gets the remote's own text, but a description that this module makes, and that

- is bounded: in input by ``sdp_parser``, in output by the number of supported codecs;
- is complete: attributes are inherited from the section that stands for the BUNDLE group (RFC 8843 7.1.3) and from
  the session level (RFC 8866 5.13), and defaults are filled in;
- has only sections that can be negotiated. The others are rejected one by one: ``answer`` puts them into our answer,
  in their places and with port 0 (RFC 3264 6).

Candidates are kept apart, because the connection adds them one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..signaling.messages import MAX_CANDIDATE
from .sdp import MAX_CANDIDATES, SdpError
from .sdp_bundle import PROTOCOLS, Kept, keep_tagged, same_transport, shared_transport, sharing
from .sdp_codecs import REPAIR, Codec, SupportedCodecs, choose, read_codecs
from .sdp_parser import Parsed, Section, parse
from .sdp_writer import sent_lines, write_head, write_section

MAX_SECTIONS: Final = 8
"""Maximum number of accepted sections. The engine starts threads and tasks for each. Later ones are rejected."""

MAX_MESSAGE: Final = 500
"""Maximum length of an error message about several sections, in characters."""

Kind = Literal["audio", "video"]

NOT_OFFERED: Final = "rejected or removed by the offerer"
"""Reason for a section with port 0."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A section that is passed to the engine. ``index`` is its place in the remote description.

    ``named``: whether ``mid`` is the remote's; otherwise only the engine uses it. ``direction`` is the remote's.
    """

    index: int
    kind: Kind
    mid: str
    named: bool = True
    direction: str = "sendrecv"


@dataclass(frozen=True, slots=True)
class Place:
    """A section that candidates refer to: its index, and its identification if the remote gave it one."""

    index: int
    mid: str | None


@dataclass(frozen=True, slots=True)
class RemoteDescription:
    """A normalized description.

    ``text`` is what the engine is given. ``sections`` are all of the remote's; ``accepted`` are those in ``text``, in
    order, ``rejections`` the reasons for the others, by index. In an answer ``text`` has every section, and those
    with a reason are inactive. ``bundle`` has the identifications of the BUNDLE group in our answer, if it has one.
    ``candidates`` are pairs of section index and ``candidate:…``. ``kept`` is the tagged section of the group if it
    is one of the rejected ones and the others need its transport. ``elsewhere`` are the indexes of sections that are
    rejected only because they have another transport: ``sdp_transports`` makes an offer of its own of them.
    """

    text: str
    sections: tuple[Section, ...]
    accepted: tuple[Accepted, ...]
    rejections: dict[int, str]
    bundle: tuple[str, ...]
    candidates: tuple[tuple[int, str], ...]
    kept: Kept | None = None
    elsewhere: tuple[int, ...] = ()

    @property
    def transport(self) -> Place:
        """The section that has the transport of all: the first of the group, else the first accepted one."""
        if self.kept is not None:
            return Place(self.kept.index, self.kept.mid)
        one = next((one for one in self.accepted if self.bundle and one.mid == self.bundle[0]), self.accepted[0])
        return Place(one.index, one.mid if one.named else None)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of media that are not rejected, each once, in order."""
        return tuple(dict.fromkeys(one.kind for one in self.accepted if one.index not in self.rejections))

    def carries_media(self, sent: Collection[Kind]) -> bool:
        """Whether any accepted section carries media, if this side sends the kinds in ``sent``."""
        return any(
            "send" in one.direction or ("recv" in one.direction and one.kind in sent)
            for one in self.accepted
            if one.index not in self.rejections
        )

    @property
    def refuses_media(self) -> bool:
        """Whether audio or video that the remote offers is rejected."""
        offered = (self.sections[index] for index in self.rejections)
        return any(
            one.kind in ("audio", "video") and (one.port or "bundle-only" in one.attributes) for one in offered
        )

    def explain(self) -> str:
        """Return the reasons of rejected sections, for people; an empty text if none is rejected.

        Sections that the remote itself does not offer are left out.
        """
        return _explain(self.sections, {at: why for at, why in self.rejections.items() if why != NOT_OFFERED})


def normalize_offer(sdp: str, supported: SupportedCodecs) -> RemoteDescription:
    """Read an offer and choose the sections to accept.

    Raises:
        SdpError: the offer cannot be read, or nothing in it can be accepted. The message has a reason per section.
    """
    return choose_sections(parse(sdp), supported)


def choose_sections(parsed: Parsed, supported: SupportedCodecs) -> RemoteDescription:
    """Choose the sections of an offer to accept. See ``normalize_offer``."""
    rejections: dict[int, str] = {}
    chosen: dict[int, list[Codec]] = {}
    for index, section in enumerate(parsed.sections):
        reason = _refusal(parsed, section, len(chosen))
        if reason is None:
            offered = read_codecs(section.formats, section.attributes)
            codecs = choose(offered, supported)
            if codecs:
                chosen[index] = codecs
                continue
            reason = _no_common_codec(section.kind, offered, supported)
        rejections[index] = reason
    parsed, shared, transport = _usable_transport(parsed, chosen, rejections)
    elsewhere = tuple(index for index in chosen if index not in shared)
    for index in elsewhere:
        rejections[index] = (
            "it needs a transport of its own, but one per kind of media is supported (BUNDLE, RFC 8843)"
        )
    accepted = _accept(parsed, sorted(shared))
    texts = []
    for one in accepted:
        lines = [*transport, *sent_lines(parsed, parsed.sections[one.index], named=one.named)]
        texts.append(write_section(one.kind, one.mid, chosen[one.index], one.direction, lines))
    mids = {one.index: one.mid for one in accepted if one.named}
    bundle = tuple(mids[index] for index in shared if index in mids) if parsed.bundle else ()
    kept = keep_tagged(parsed, parsed.sections[shared[0]])
    if kept is not None:
        bundle = (kept.mid, *bundle)
    return replace(_assemble(parsed, accepted, texts, rejections, bundle, kept), elsewhere=elsewhere)


def _usable_transport(
    parsed: Parsed, chosen: dict[int, list[Codec]], rejections: dict[int, str]
) -> tuple[Parsed, list[int], list[str]]:
    """Return the description with the BUNDLE group to use, the sections that share its transport, and the attributes.

    Moves sections with an incomplete transport from ``chosen`` to ``rejections``, while there are others.

    Raises:
        SdpError: no section is chosen, or no transport is complete. The message is about the first one.
    """
    first: SdpError | None = None
    while chosen:
        parsed = parsed.using(chosen)
        shared = sharing(parsed, list(chosen))
        try:
            transport = shared_transport(parsed, [parsed.sections[index] for index in shared], offer=True)
        except SdpError as error:
            first = first or error
            for index in shared:
                rejections[index] = str(error.args[0]).removeprefix(f"{parsed.sections[shared[0]].where}: ")
                del chosen[index]
            continue
        return parsed, shared, transport
    raise first or SdpError(_explain(parsed.sections, rejections))


def normalize_answer(sdp: str, offer: str, supported: SupportedCodecs) -> RemoteDescription:
    """Read the answer to ``offer``, a description of ours.

    Sections that it rejects are passed to the engine as inactive ones, because the engine does not support rejected
    sections (port 0). An inactive section costs nothing.

    Raises:
        SdpError: the answer cannot be read, does not fit the offer, or rejects all of it.
    """
    parsed, own = parse(sdp), parse(offer)
    if len(parsed.sections) < len(own.sections):
        counts = f"{len(parsed.sections)} media sections answer {len(own.sections)}"
        raise SdpError(counts, rule="RFC 3264 6")
    rejections: dict[int, str] = {}
    chosen: dict[int, list[Codec]] = {}
    for index, (section, asked) in enumerate(zip(parsed.sections, own.sections, strict=False)):
        if section.kind != asked.kind:
            raise SdpError(f"{section.where} answers m={asked.kind}", line=section.line, rule="RFC 3264 6")
        chosen[index] = choose(read_codecs(section.formats, section.attributes), supported)
        if section.port == 0:
            rejections[index] = "rejected by the answerer"
        elif not chosen[index]:
            rejections[index] = "no supported codec"
    live = [index for index in chosen if index not in rejections]
    if not live:
        raise SdpError(_explain(parsed.sections, rejections))
    parsed = parsed.using(live)
    order = sharing(parsed, live) if parsed.bundle else same_transport(parsed, live)
    for index in live:
        if index not in order:
            rejections[index] = "answered on a transport of its own (no BUNDLE, RFC 8843 7.3), which we did not offer"
    transport = shared_transport(parsed, [parsed.sections[index] for index in order], offer=False)
    accepted, texts = [], []
    for index, asked in enumerate(own.sections):
        one = Accepted(index, "audio" if asked.kind == "audio" else "video", asked.mid or str(index))
        accepted.append(one)
        section, codecs = parsed.sections[index], chosen[index]
        if index in rejections:
            codecs = choose(read_codecs(asked.formats, asked.attributes), supported)
            texts.append(write_section(one.kind, one.mid, codecs, "inactive", transport))
        else:
            lines = [*transport, *sent_lines(parsed, section, named=one.named)]
            texts.append(write_section(one.kind, one.mid, codecs, parsed.direction(section), lines))
    return _assemble(parsed, accepted, texts, rejections, (), None)


def _refusal(parsed: Parsed, section: Section, accepted: int) -> str | None:
    """Return why an offered section is rejected before its codecs are read, or ``None``."""
    if section.kind not in ("audio", "video"):
        return f"{section.kind} is not supported"
    if section.port == 0 and not ("bundle-only" in section.attributes and section.mid in parsed.members):
        return NOT_OFFERED
    if section.protocol not in PROTOCOLS:
        return f"protocol {section.protocol} is not supported"
    if accepted >= MAX_SECTIONS:
        return f"more than {MAX_SECTIONS} sections of audio and video"
    return None


def _no_common_codec(kind: str, offered: Sequence[Codec], supported: SupportedCodecs) -> str:
    names = dict.fromkeys(str(codec) for codec in offered if codec.name.lower() not in REPAIR)
    ours = f", ours: {', '.join(supported.video)}" if kind == "video" else ""
    return f"no common codec, offered: {', '.join(names) or 'none that can be read'}{ours}"


def _explain(sections: Sequence[Section], rejections: dict[int, str]) -> str:
    text = "; ".join(f"{sections[index].where}: {reason}" for index, reason in sorted(rejections.items()))
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _accept(parsed: Parsed, indexes: Sequence[int]) -> list[Accepted]:
    """Give each section the remote's ``a=mid``, or one that only the engine sees."""
    free = (name for name in map(str, range(2 * len(parsed.sections) + 1)) if name not in parsed.mids)
    found = []
    for index in indexes:
        section = parsed.sections[index]
        kind: Kind = "audio" if section.kind == "audio" else "video"
        named = section.mid is not None
        mid = section.mid if section.mid is not None else next(free)
        found.append(Accepted(index, kind, mid, named, parsed.direction(section)))
    return found


def _assemble(
    parsed: Parsed,
    accepted: Sequence[Accepted],
    texts: Sequence[str],
    rejections: dict[int, str],
    bundle: tuple[str, ...],
    kept: Kept | None,
) -> RemoteDescription:
    head = write_head([one.mid for one in accepted], lite="ice-lite" in parsed.session)
    candidates = [
        (one.index, candidate)
        for one in accepted
        if one.index not in rejections
        for value in parsed.sections[one.index].attributes.get("candidate", ())[:MAX_CANDIDATES]
        if len(candidate := f"candidate:{value}") <= MAX_CANDIDATE and candidate.isascii()
    ][:MAX_CANDIDATES]
    text = head + "".join(texts)
    return RemoteDescription(text, parsed.sections, tuple(accepted), rejections, bundle, tuple(candidates), kept)
