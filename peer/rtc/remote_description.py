"""Validation and normalization of remote descriptions, in front of the engine's parser. Pure.

The engine's parser raises on many legal lines, takes quadratic time on others, and accepts all sections of an offer
or none. It therefore never gets the remote's own text, but a description that this module makes, and that

- is bounded: in input by ``sdp_parser``, in output by the number of supported codecs;
- is complete: attributes are inherited from the section that stands for the BUNDLE group (RFC 8843 7.1.3) and from
  the session level (RFC 8866 5.13), and defaults are filled in;
- has only sections that can be negotiated. The others are rejected one by one: ``mirror`` puts them into our answer,
  in their places and with port 0 (RFC 3264 6).

Candidates are kept apart, because the connection adds them one by one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..rtp.header import ABS_SEND_TIME, MID
from ..signaling.messages import MAX_CANDIDATE
from .sdp import MAX_CANDIDATES, SdpError
from .sdp_codecs import REPAIR, Codec, SupportedCodecs, choose, read_codecs
from .sdp_parser import Attributes, Parsed, Section, parse

MAX_SECTIONS: Final = 8
"""Maximum number of accepted sections. The engine starts threads and tasks for each. Later ones are rejected."""

MAX_FORMATS: Final = 64
"""Maximum number of formats repeated in our answer per rejected section."""

MAX_SSRCS: Final = 3
"""Maximum number of SSRCs passed on per section. The engine reads the first, and a second one if there are two."""

MAX_FINGERPRINTS: Final = 8
"""Maximum number of fingerprints read: each hash function twice (RFC 8122 5)."""

MAX_MESSAGE: Final = 500
"""Maximum length of an error message about several sections, in characters."""

PROTOCOLS: Final = frozenset(
    {"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP"}
)
"""Transport protocols of sections that may be accepted: RFC 5764 8, and what older programs write for the same."""

DATA_PROTOCOLS: Final = frozenset({"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"})
"""Transport protocols of data channels (RFC 8841 4.3)."""

TRANSPORT_LINES: Final = ("c=", "a=ice-", "a=candidate:", "a=end-of-candidates", "a=fingerprint:", "a=setup:")
"""Starts of the lines that describe a transport."""

DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})

EXTENSIONS: Final = frozenset({MID, ABS_SEND_TIME, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"})
"""Header extensions that can be negotiated (RFC 9143, RFC 6464, libwebrtc's send time)."""

HASHES: Final = frozenset({"sha-256", "sha-384", "sha-512"})
"""Hash functions of fingerprints that the engine verifies (RFC 8122 5)."""

Kind = Literal["audio", "video"]

_CREDENTIAL: Final = re.compile(r"[!-~]{1,256}")
"""RFC 8839 5.4 asks for at least 4 and 22 letters and digits. Shorter ones harm only the peer that has them."""
_FINGERPRINT: Final = re.compile(r"(\S{1,16})\s+((?:[0-9A-Fa-f]{2}:){15,127}[0-9A-Fa-f]{2})")
_EXTENSION: Final = re.compile(r"(\d{1,4})(?:/\w+)?\s+(\S+)(?:\s.*)?", re.ASCII)
_SSRC: Final = re.compile(r"(\d{1,10})\s+cname:([!-~]{1,256})", re.ASCII)


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
class Kept:
    """A section of which nothing is used, but which must not be rejected: the remote has no other transport.

    ``formats`` and ``lines`` are its content in our answer, apart from the transport.
    """

    index: int
    mid: str
    formats: tuple[str, ...]
    lines: tuple[str, ...]


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
    is one of the rejected ones and the others need its transport.
    """

    text: str
    sections: tuple[Section, ...]
    accepted: tuple[Accepted, ...]
    rejections: dict[int, str]
    bundle: tuple[str, ...]
    candidates: tuple[tuple[int, str], ...]
    kept: Kept | None = None

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
        """Return the reasons of rejected sections, for people; an empty text if none is rejected."""
        return _explain(self.sections, self.rejections)


def normalize_offer(sdp: str, supported: SupportedCodecs) -> RemoteDescription:
    """Read an offer and choose the sections to accept.

    Raises:
        SdpError: the offer cannot be read, or nothing in it can be accepted. The message has a reason per section.
    """
    parsed = parse(sdp)
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
    parsed = parsed.using(chosen)
    shared = _sharing(parsed, list(chosen))
    for index in chosen.keys() - set(shared):
        rejections[index] = "it needs a transport of its own, but only one is supported (BUNDLE, RFC 8843)"
    if not shared:
        raise SdpError(_explain(parsed.sections, rejections))
    accepted = _accept(parsed, sorted(shared))
    transport = _transport(parsed, [parsed.sections[index] for index in shared], offer=True)
    texts = [_write(one, chosen[one.index], one.direction, transport, parsed.sections[one.index]) for one in accepted]
    mids = {one.index: one.mid for one in accepted if one.named}
    bundle = tuple(mids[index] for index in shared if index in mids) if parsed.bundle else ()
    kept = _kept(parsed, parsed.sections[shared[0]])
    if kept is not None:
        bundle = (kept.mid, *bundle)
    return _assemble(parsed, accepted, texts, rejections, bundle, kept)


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
    order = _sharing(parsed, live) if parsed.bundle else live
    transport = _transport(parsed, [parsed.sections[index] for index in order], offer=False)
    accepted, texts = [], []
    for index, asked in enumerate(own.sections):
        one = Accepted(index, "audio" if asked.kind == "audio" else "video", asked.mid or str(index))
        accepted.append(one)
        section, codecs = parsed.sections[index], chosen[index]
        if index in rejections:
            codecs = choose(read_codecs(asked.formats, asked.attributes), supported)
            texts.append(_write(one, codecs, "inactive", transport))
        else:
            texts.append(_write(one, codecs, _direction(parsed, section), transport, section))
    return _assemble(parsed, accepted, texts, rejections, (), None)


def mirror(answer: str, offer: RemoteDescription) -> str:
    """Bring the engine's ``answer`` into the shape of ``offer``.

    Each section stands in its place, rejected ones with port 0, unless ``kept``. The BUNDLE group and the ``a=mid``
    lines are there only where the offer has them (RFC 8843 7.3, RFC 5888 9).
    """
    head, *made = re.split(r"^(?=m=)", answer, flags=re.MULTILINE)
    group = f"a=group:BUNDLE {' '.join(offer.bundle)}\r\n" if offer.bundle else ""
    parts = [re.sub(r"^a=group:BUNDLE.*\r\n", lambda _: group, head, flags=re.MULTILINE)]
    texts = {one.index: (one, text) for one, text in zip(offer.accepted, made, strict=True)}
    for index, section in enumerate(offer.sections):
        if index in texts:
            one, text = texts[index]
            text = re.sub(r"^(m=\S+ \d+) \S+", lambda match, to=section.protocol: f"{match[1]} {to}", text, count=1)
            parts.append(text if one.named else re.sub(r"^a=mid:.*\r\n", "", text, flags=re.MULTILINE))
            continue
        if offer.kept is not None and index == offer.kept.index:
            parts.append(_write_kept(offer.kept, section, made[0]))
            continue
        formats = " ".join(section.formats[:MAX_FORMATS]) or "0"
        parts.append(f"m={section.kind} 0 {section.protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n")
        if section.mid is not None:
            parts.append(f"a=mid:{section.mid}\r\n")
    return "".join(parts)


def _refusal(parsed: Parsed, section: Section, accepted: int) -> str | None:
    """Return why an offered section is rejected before its codecs are read, or ``None``."""
    if section.kind not in ("audio", "video"):
        return f"{section.kind} is not supported"
    if section.port == 0 and not ("bundle-only" in section.attributes and section.mid in parsed.members):
        return "rejected or removed by the offerer"
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


def _sharing(parsed: Parsed, usable: Sequence[int]) -> list[int]:
    """Return those of the sections ``usable`` that share one transport; first the section that describes it.

    In a BUNDLE group that is the first one named (RFC 8843 7.3.1). Without a group, or if it contains none of them,
    only the first section is returned.
    """
    places = {parsed.sections[index].mid: index for index in reversed(usable)}
    members = [places[mid] for mid in parsed.bundle if mid in places]
    return members or list(usable[:1])


def _kept(parsed: Parsed, first: Section) -> Kept | None:
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


def _write_kept(kept: Kept, section: Section, bundled: str) -> str:
    """Return the section ``kept`` of our answer, with the transport of ``bundled``, another section of the same
    group."""
    head, *lines = bundled.splitlines()
    transport = [line for line in lines if line.startswith(TRANSPORT_LINES)]
    media = f"m={section.kind} {head.split()[1]} {section.protocol} {' '.join(kept.formats)}"
    return "\r\n".join([media, *transport, f"a=mid:{kept.mid}", *kept.lines]) + "\r\n"


def _accept(parsed: Parsed, indexes: Sequence[int]) -> list[Accepted]:
    """Give each section the remote's ``a=mid``, or one that only the engine sees."""
    free = (name for name in map(str, range(2 * len(parsed.sections) + 1)) if name not in parsed.mids)
    found = []
    for index in indexes:
        section = parsed.sections[index]
        kind: Kind = "audio" if section.kind == "audio" else "video"
        named = section.mid is not None
        mid = section.mid if section.mid is not None else next(free)
        found.append(Accepted(index, kind, mid, named, _direction(parsed, section)))
    return found


def _transport(parsed: Parsed, members: Sequence[Section], *, offer: bool) -> list[str]:
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
    if not _first("rtcp-mux", places):
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


def _direction(parsed: Parsed, section: Section) -> str:
    """Return the section's own direction, or the session's, or ``sendrecv`` (RFC 8866 6.7)."""
    for attributes in (section.attributes, parsed.session):
        for name in attributes:
            if name in DIRECTIONS:
                return name
    return "sendrecv"


def _write(
    one: Accepted, codecs: Sequence[Codec], direction: str, transport: Sequence[str], section: Section | None = None
) -> str:
    """Return the text of one section for the engine. ``section`` is the remote's, unless that was rejected."""
    extras: list[str] = []
    if section is not None:
        extras = [*_extensions(section, named=one.named), *_ssrcs(section)]
    lines = [
        f"m={one.kind} 9 UDP/TLS/RTP/SAVPF {' '.join(str(codec.payload_type) for codec in codecs)}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{one.mid}",
        f"a={direction}",
        *transport,
        *(line for codec in codecs for line in codec.lines(one.kind)),
        *extras,
    ]
    return "\r\n".join(lines) + "\r\n"


def _extensions(section: Section, *, named: bool) -> Iterator[str]:
    """Yield the supported header extensions, each URI and each number once (RFC 8285 5); MID only if ``named``."""
    uris, numbers = (set() if named else {MID}), {0, 15}
    for value in section.attributes.get("extmap", ()):
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


def _assemble(
    parsed: Parsed,
    accepted: Sequence[Accepted],
    texts: Sequence[str],
    rejections: dict[int, str],
    bundle: tuple[str, ...],
    kept: Kept | None,
) -> RemoteDescription:
    lite = ["a=ice-lite"] if "ice-lite" in parsed.session else []
    group = f"a=group:BUNDLE {' '.join(one.mid for one in accepted)}"
    head = "\r\n".join(["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0", *lite, group])
    candidates = [
        (one.index, f"candidate:{value}")
        for one in accepted
        if one.index not in rejections
        for value in parsed.sections[one.index].attributes.get("candidate", ())[:MAX_CANDIDATES]
        if len(value) <= MAX_CANDIDATE
    ][:MAX_CANDIDATES]
    text = f"{head}\r\n{''.join(texts)}"
    return RemoteDescription(text, parsed.sections, tuple(accepted), rejections, bundle, tuple(candidates), kept)
