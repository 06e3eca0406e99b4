"""Hypothesis strategies: legal offers of any shape, with what must be accepted of them.

The grammar is RFC 8866 (SDP) with the attributes of RFC 8839 (ICE), 8842 (DTLS), 8843 (BUNDLE), 5888 (mid), 4585
(feedback), 4588 (RTX), 5576 (SSRC), 8285 (header extensions), 8851 and 8853 (RID, simulcast), 8841 (data channels),
and of the payload formats. Attributes come in any order, at the levels where they are legal, beside unknown ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

_ICE = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", min_size=1)
_TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^_`{|}~", min_size=1, max_size=16)
_WORD = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-._", min_size=1, max_size=12)
_SSRC = st.integers(1, 2**32 - 1)


@dataclass
class Codec:
    """One payload type: its lines, and whether it is supported here."""

    payload_type: int
    lines: list[str]
    supported: bool
    rtx_of: int | None = None


@dataclass
class Section:
    """One media section. ``live``: it is offered, not rejected or removed (port 0)."""

    kind: str
    mid: str | None
    protocol: str
    formats: list[str]
    codecs: list[Codec]
    direction: str | None = None
    live: bool = True
    bundle_only: bool = False
    lines: list[str] = field(default_factory=list)

    @property
    def supported(self) -> bool:
        return any(codec.supported and codec.rtx_of is None for codec in self.codecs)

    @property
    def usable(self) -> bool:
        """Whether it must be accepted, if there are not too many of them."""
        return self.kind in ("audio", "video") and self.live and self.supported

    @property
    def usable_types(self) -> list[int]:
        """The payload types that must be accepted, in order."""
        main = {codec.payload_type for codec in self.codecs if codec.supported and codec.rtx_of is None}
        found = [c.payload_type for c in self.codecs if c.payload_type in main or c.rtx_of in main]
        return found


@dataclass
class Offer:
    """An offer. ``text`` is its SDP, ``sessions_direction`` the direction of sections that have none."""

    text: str
    sections: list[Section]
    groups: list[list[str]]
    direction: str | None


# --- codecs ---

_AUDIO = (
    ("opus/48000/2", True),
    ("G722/8000", True),
    ("PCMU/8000", True),
    ("pcma/8000/1", True),
    ("telephone-event/8000", False),
    ("CN/8000", False),
    ("red/48000/2", False),
    ("ISAC/16000", False),
    ("speex/16000", False),
    ("L16/44100/2", False),
    ("multiopus/48000/6", False),
    ("opus/16000/2", False),
)
_VIDEO = (
    ("VP8/90000", True), ("vp8/90000", True), ("VP9/90000", False), ("AV1/90000", False), ("H265/90000", False),
    ("red/90000", False), ("ulpfec/90000", False), ("flexfec-03/90000", False), ("H263-1998/90000", False),
)  # fmt: skip
_STATIC = {0: True, 8: True, 9: True, 3: False, 4: False, 13: False, 18: False}
_AUDIO_PARAMETERS = (
    "minptime=10;useinbandfec=1",
    "minptime=10; useinbandfec=1",
    "stereo=1;sprop-stereo=1;",
    "0-15",
    "111/111",
    "maxplaybackrate=48000;cbr=1",
)
_VIDEO_PARAMETERS = (
    "max-fs=12288;max-fr=60",
    "profile-id=0",
    "level-idx=5;profile=0;tier=0",
    "x-google-start-bitrate=800",
    "repair-window=10000000",
)
_H264 = (
    ("42e01f", True), ("42001f", True), ("42C02A", True), ("4d0032", True), ("640c1f", True), ("64002a", True),
    ("6e0028", False), ("7a0028", False), (None, True),
)  # fmt: skip
_FEEDBACK = (
    "nack", "nack pli", "nack sli", "ccm fir", "ccm tmmbr", "goog-remb", "transport-cc", "trr-int 100", "ack rpsi",
)  # fmt: skip


@st.composite
def _h264(draw: st.DrawFn, payload_type: int) -> Codec:
    profile, supported = draw(st.sampled_from(_H264))
    mode = draw(st.sampled_from((None, 0, 1, 2)))
    parameters = [
        *([f"profile-level-id={profile}"] if profile else []),
        *([f"packetization-mode={mode}"] if mode is not None else []),
    ]
    parameters += draw(
        st.lists(
            st.sampled_from(
                ("level-asymmetry-allowed=1", "sprop-parameter-sets=Z0LgH5ZUBQHogA==,aM4G4g==", "max-br=2000")
            ),
            unique=True,
        )
    )
    lines = [f"a=rtpmap:{payload_type} {draw(st.sampled_from(('H264', 'h264')))}/90000"]
    if parameters:
        separator = draw(st.sampled_from((";", "; ")))
        lines.append(f"a=fmtp:{payload_type} {separator.join(draw(st.permutations(parameters)))}")
    return Codec(payload_type, lines, supported and mode != 2)


@st.composite
def _codec(draw: st.DrawFn, kind: str, payload_type: int) -> Codec:
    if kind == "video" and draw(st.booleans()):
        return draw(_h264(payload_type))
    name, supported = draw(st.sampled_from(_AUDIO if kind == "audio" else _VIDEO))
    lines = [f"a=rtpmap:{payload_type} {name}"]
    if draw(st.booleans()):
        parameters = draw(st.sampled_from(_AUDIO_PARAMETERS if kind == "audio" else _VIDEO_PARAMETERS))
        lines.append(f"a=fmtp:{payload_type} {parameters}")
    return Codec(payload_type, lines, supported)


@st.composite
def _codecs(draw: st.DrawFn, kind: str) -> list[Codec]:
    numbers = draw(st.lists(st.sampled_from([*range(35, 64), *range(96, 128)]), min_size=1, max_size=8, unique=True))
    codecs: list[Codec] = []
    while numbers:
        codec = draw(_codec(kind, numbers.pop()))
        codecs.append(codec)
        if kind == "video" and numbers and draw(st.booleans()):
            number = numbers.pop()
            lines = [f"a=rtpmap:{number} rtx/90000", f"a=fmtp:{number} apt={codec.payload_type}"]
            codecs.append(Codec(number, lines, True, codec.payload_type))
    if kind == "audio":
        for number in draw(st.lists(st.sampled_from(sorted(_STATIC)), unique=True, max_size=4)):
            lines = [f"a=fmtp:{number} annexb=no"] if number == 18 and draw(st.booleans()) else []
            codecs.append(Codec(number, lines, _STATIC[number]))
    codecs = draw(st.permutations(codecs))
    for codec in codecs:
        for value in draw(st.lists(st.sampled_from(_FEEDBACK), max_size=4, unique=True)):
            codec.lines.append(f"a=rtcp-fb:{codec.payload_type} {value}")
    return codecs


# --- lines that change nothing ---

_EXTENSIONS = (
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=on",
    "urn:ietf:params:rtp-hdrext:toffset",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:3gpp:video-orientation",
    "urn:ietf:params:rtp-hdrext:encrypt urn:ietf:params:rtp-hdrext:sdes:mid",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
)
_CANDIDATES = (
    "1 1 udp 2130706431 192.0.2.1 50000 typ host",
    "2 1 UDP 1694498815 198.51.100.7 5000 typ srflx raddr 0.0.0.0 rport 0 generation 0",
    "3 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
    "4 2 udp 2130706430 192.0.2.1 50001 typ host",
    "5 1 udp 2113937151 4d1f.local 50000 typ host generation 0 ufrag x network-cost 999",
    "6 1 udp 1 2001:db8::1 5 typ relay raddr :: rport 1",
)
_ANY = st.one_of(
    st.builds("a={}:{}".format, _WORD.map("x-{}".format), _TOKEN),
    st.builds("a=ssrc:{} msid:{} {}".format, _SSRC, _WORD, _WORD),
    st.builds("a=ssrc:{} cname:{}".format, _SSRC, _WORD),
    st.builds("a=ssrc-group:{} {} {}".format, st.sampled_from(("FID", "FEC-FR", "SIM")), _SSRC, _SSRC),
    st.builds(
        "a=extmap:{}{} {}".format,
        st.integers(1, 255).filter(lambda n: n != 15),
        st.sampled_from(("", "/sendonly", "/recvonly")),
        st.sampled_from(_EXTENSIONS),
    ),
    st.sampled_from(_CANDIDATES).map("a=candidate:{}".format),
    st.builds("a=msid:{} {}".format, _WORD, _WORD),
    st.sampled_from(
        (
            "a=rtcp-rsize",
            "a=rtcp-mux-only",
            "a=extmap-allow-mixed",
            "a=end-of-candidates",
            "a=ptime:20",
            "a=maxptime:60",
            "a=framerate:29.97",
            "a=rid:h send",
            "a=rid:l send max-width=320;max-height=180",
            "a=simulcast:send h;l",
            "a=label:1",
            "a=content:main",
            "a=mediaclk:sender",
            "a=rtcp:9 IN IP4 0.0.0.0",
            "a=rtcp:9",
            "a=rtcp:53020 IN IP6 2001:db8::1",
            "a=rtcp-xr:rcvr-rtt=all",
            "a=ts-refclk:local",
            "a=imageattr:* send [x=640,y=360]",
            "a=ice-options:trickle",
            "a=rtcp-fb:* nack",
            "a=msid:-",
            "a=bundle-nothing",
            "a=x-flag",
        )
    ),
)
_SESSION = st.sampled_from(
    (
        "a=msid-semantic: WMS *",
        "a=msid-semantic:WMS",
        "a=ice-options:ice2,trickle",
        "a=extmap-allow-mixed",
        "a=tool:grammar 1",
        "a=charset:UTF-8",
        "a=group:LS a b",
        "a=recvonly-not",
        "a=ice-lite",
        "a=tls-id:91bbf309c0990a6bec11e38ba2933cee",
        "a=extmap:3 urn:ietf:params:rtp-hdrext:toffset",
        "a=identity:eyJpZHAiOnt9fQ==",
        "a=ice-pacing:50",
    )
)
_DIRECTIONS = st.sampled_from((None, "sendrecv", "sendonly", "recvonly", "inactive"))
_CONNECTIONS = st.sampled_from(("c=IN IP4 0.0.0.0", "c=IN IP4 192.0.2.1", "c=IN IP6 ::", "c=IN IP4 host.example"))


# --- sections and transports ---


@st.composite
def _section(draw: st.DrawFn, kind: str, mid: str | None) -> Section:
    if kind == "application":
        made = Section(kind, mid, "UDP/DTLS/SCTP", ["webrtc-datachannel"], [])
        made.lines = ["a=sctp-port:5000", "a=max-message-size:262144"]
    elif kind == "image":
        made = Section(kind, mid, "udptl", ["t38"], [])
        made.lines = ["a=T38FaxVersion:0"]
    elif kind == "text":
        made = Section(kind, mid, "UDP/TLS/RTP/SAVPF", ["98"], [])
        made.lines = ["a=rtpmap:98 t140/1000"]
    else:
        codecs = draw(_codecs(kind))
        protocol = draw(st.sampled_from(("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF")))
        made = Section(kind, mid, protocol, [str(codec.payload_type) for codec in codecs], codecs)
        made.lines = [line for codec in codecs for line in codec.lines]
        made.direction = draw(_DIRECTIONS)
        made.live = draw(st.integers(0, 7)) > 0
    made.lines += draw(st.lists(_ANY, max_size=8))
    if made.direction is not None:
        made.lines.append(f"a={made.direction}")
    if mid is not None:
        made.lines.append(f"a=mid:{mid}")
    return made


@st.composite
def _transport(draw: st.DrawFn) -> list[str]:
    """ICE credentials, fingerprints and a DTLS role. All are legal at both levels."""
    hashes = {"sha-1": 20, "sha-256": 32, "sha-384": 48, "sha-512": 64}
    names = [
        draw(st.sampled_from(("sha-256", "SHA-256", "sha-384", "sha-512"))),
        *draw(st.lists(st.sampled_from(list(hashes)), max_size=2)),
    ]
    byte = draw(st.sampled_from(("A1", "0f")))
    lines = [
        f"a=ice-ufrag:{draw(_ICE.filter(lambda text: 4 <= len(text) <= 256) | st.just('abcd'))}",
        f"a=ice-pwd:{draw(st.sampled_from(('a' * 22, 'Zz09+/' * 5, 'x' * 256)))}",
        *(f"a=fingerprint:{name} {':'.join([byte] * hashes[name.lower()])}" for name in names),
    ]
    role = draw(st.sampled_from((None, "actpass", "active", "passive")))
    return lines if role is None else [*lines, f"a=setup:{role}"]


@st.composite
def offers(draw: st.DrawFn, max_sections: int = 10) -> Offer:
    """A legal offer with at least one usable section."""
    kind_of = st.sampled_from(("audio", "video", "audio", "video", "application", "image", "text"))
    least = draw(st.integers(1, min(5, max_sections)))
    kinds = draw(st.lists(kind_of, min_size=least, max_size=max_sections))
    named = draw(st.sampled_from((True, True, True, False)))
    mids = (
        draw(st.lists(_TOKEN, min_size=len(kinds), max_size=len(kinds), unique=True))
        if named
        else [None] * len(kinds)
    )
    sections = [draw(_section(kind, mid)) for kind, mid in zip(kinds, mids, strict=True)]
    for section in sections:
        if section.codecs and draw(st.booleans()):
            _with_codec(section)
    if not any(section.usable for section in sections):
        kind = draw(st.sampled_from(("audio", "video")))
        extra = draw(_section(kind, draw(_TOKEN.filter(lambda mid: mid not in mids)) if named else None))
        sections.insert(draw(st.integers(0, len(sections))), _with_codec(extra))
    groups = draw(_groups(sections)) if named else []
    shared = draw(_transport()) if draw(st.booleans()) else None
    for section in sections:
        _add_transport(draw, section, groups, shared)
    direction = draw(st.sampled_from((None, None, "sendonly", "recvonly")))
    return Offer(_text(draw, sections, groups, shared, direction), sections, groups, direction)


def _with_codec(section: Section) -> Section:
    """Make a section usable."""
    free = next(number for number in range(96, 128) if str(number) not in section.formats)
    line = f"a=rtpmap:{free} {'opus/48000/2' if section.kind == 'audio' else 'VP8/90000'}"
    section.codecs.append(Codec(free, [line], True))
    section.formats.append(str(free))
    section.lines.append(line)
    section.live = True
    return section


@st.composite
def _groups(draw: st.DrawFn, sections: list[Section]) -> list[list[str]]:
    """No, one or two BUNDLE groups. Each section is in at most one."""
    mids = draw(
        st.permutations(
            [one.mid for one in sections if one.live and one.mid and one.kind in ("audio", "video", "application")]
        )
    )
    match draw(st.sampled_from(("all", "all", "all", "all", "none", "some", "two", "two"))):
        case "all":
            return [mids] if mids else []
        case "some":
            return [mids[: draw(st.integers(0, len(mids)))]]
        case "two":
            middle = draw(st.integers(0, len(mids)))
            return [mids[:middle], mids[middle:]]
    return []


def _add_transport(draw: st.DrawFn, section: Section, groups: list[list[str]], shared: list[str] | None) -> None:
    tagged = {group[0] for group in groups if group}
    members = {mid for group in groups for mid in group}
    if section.protocol in ("udptl",) or (not section.live and draw(st.booleans())):
        return
    if section.mid in members and section.mid not in tagged and draw(st.booleans()):
        section.bundle_only = True
        section.lines.append("a=bundle-only")
        if draw(st.booleans()):
            return
    if shared is None:
        section.lines += draw(_transport())
    if section.kind != "application":
        section.lines.append("a=rtcp-mux")


def _text(
    draw: st.DrawFn, sections: list[Section], groups: list[list[str]], shared: list[str] | None, direction: str | None
) -> str:
    session = [f"a=group:BUNDLE {' '.join(group)}".rstrip() for group in groups]
    session += draw(st.lists(_SESSION, max_size=4, unique=True)) + (shared or [])
    if direction is not None:
        session.append(f"a={direction}")
    in_session = draw(st.booleans())
    lines = [
        "v=0",
        draw(st.sampled_from(("o=- 1 2 IN IP4 127.0.0.1", "o=alice 2890844526 2890844526 IN IP6 ::1"))),
        draw(st.sampled_from(("s=-", "s= ", "s=A call"))),
        *draw(st.sampled_from(((), ("i=about",), ("u=http://example.com/", "e=a@example.com", "p=+1 617 555-6011")))),
        *([draw(_CONNECTIONS)] if in_session else []),
        *draw(st.sampled_from(((), ("b=AS:512",)))),
        draw(st.sampled_from(("t=0 0", "t=3034423619 3042462419"))),
        *draw(st.permutations(session)),
    ]
    for section in sections:
        port: Any = 0 if section.bundle_only or not section.live else draw(st.sampled_from((9, 1, 50_000, 65_535)))
        lines.append(f"m={section.kind} {port} {section.protocol} {' '.join(section.formats)}")
        lines += draw(st.sampled_from(((), ("i=a camera",))))
        if not in_session or draw(st.booleans()):
            lines.append(draw(_CONNECTIONS))
        lines += draw(st.sampled_from(((), ("b=AS:2000",), ("b=TIAS:64000", "b=RS:0", "b=RR:0"))))
        lines += draw(st.permutations(section.lines))
    end = draw(st.sampled_from(("\r\n", "\r\n", "\n")))
    return "".join(f"{line}{end}" for line in lines)
