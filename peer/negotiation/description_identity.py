"""Identity of a session description: whose transport it describes, and whether a second offer keeps it. Pure.

A second offer of the remote either changes the media of its connection, restarts ICE on it, or comes from another
connection (RFC 9429 5.2.2). The values that decide this are read from the BUNDLE-tagged section, or from the session
level where that section has none (RFC 8843 7, RFC 8839 5). Everything else in the description is skipped. It is not
validated here: ``peer.rtc`` does that before it is applied.

The text comes from the remote and is as large as the relay permits (256 kB). Reading it takes linear time.
``server/web/description_identity.js`` does the same.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

MAX_LINES: Final = 1_000
"""Maximum number of relevant lines read; later ones are skipped. A description of 60 kB has some 200."""

MAX_VALUE: Final = 256
"""Maximum size of a ufrag or password, in characters (RFC 8839 5.4). A longer one counts as absent, and so does a
longer session id or ``tls-id``."""

MAX_FINGERPRINTS: Final = 16
"""Maximum number of fingerprints of one section that are read. Real descriptions have one or two."""

MAX_UFRAGS: Final = 64
"""Maximum number of different ufrags that are read. With BUNDLE there is one; otherwise, one per section."""

_LINE: Final = re.compile(
    r"\n(m=|o=|a=group:BUNDLE |a=mid:|a=ice-ufrag:|a=ice-pwd:|a=fingerprint:|a=tls-id:)([^\r\n]{0,4096})"
)
_WORD: Final = re.compile(r"[^ \t]+")


class SecondOffer(enum.Enum):
    """What an offer does to the connection whose remote description is known (rule 3)."""

    RENEGOTIATION = "renegotiation"
    """Keeps its ICE session: a track added or removed, hold, or the same offer again."""
    ICE_RESTART = "ice-restart"
    """Keeps its DTLS association, on new ICE credentials."""
    REPLACEMENT = "replacement"
    """Comes from another connection: the remote restarted, or hung up and called again."""


@dataclass(frozen=True, slots=True)
class DescriptionIdentity:
    """The values of a description that identify its connection. ``None`` and empty if absent.

    ``ufrags`` are those of all sections and of the session level: candidates may carry any of them.
    ``fingerprints`` are in lower case, each as ``hash-function hex``, because both are case-insensitive (RFC 8122 5).
    """

    ufrag: str | None = None
    password: str | None = None
    fingerprints: frozenset[str] = frozenset()
    session_id: str | None = None
    tls_id: str | None = None
    ufrags: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Level:
    """The relevant lines of the session level or of one section."""

    rejected: bool = False
    mid: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    fingerprints: list[str] = field(default_factory=list)


@functools.lru_cache(maxsize=1)  # an offer is asked for it when it is admitted and when it is processed
def read_identity(sdp: str) -> DescriptionIdentity:
    """Read the identity of ``sdp``, which may be any text. Never raises."""
    session = level = _Level()
    sections: list[_Level] = []
    bundle: list[str] = []
    session_id: str | None = None
    ufrags: list[str] = []
    for line in islice(_LINE.finditer(f"\n{sdp}"), MAX_LINES):
        name, words = line[1], _WORD.findall(line[2])
        first = words[0] if words else ""
        if name == "m=":
            level = _Level(rejected=words[1:2] == ["0"])
            sections.append(level)
        elif name == "o=":
            session_id = _bounded(words[1] if len(words) > 1 else "")
        elif name == "a=group:BUNDLE ":
            bundle = bundle or words
        elif name == "a=mid:":
            level.mid = level.mid or first
        elif name == "a=fingerprint:":
            if len(level.fingerprints) < MAX_FINGERPRINTS:
                level.fingerprints.append(" ".join(words[:2]).lower())
        elif name not in level.values and _bounded(first) is not None:
            level.values[name] = first
            if name == "a=ice-ufrag:" and first not in ufrags and len(ufrags) < MAX_UFRAGS:
                ufrags.append(first)
    tagged = _tagged(sections, bundle) or session
    values = session.values | tagged.values
    return DescriptionIdentity(
        ufrag=values.get("a=ice-ufrag:"),
        password=values.get("a=ice-pwd:"),
        fingerprints=frozenset(tagged.fingerprints or session.fingerprints),
        session_id=session_id,
        tls_id=values.get("a=tls-id:"),
        ufrags=frozenset(ufrags),
    )


def _bounded(value: str) -> str | None:
    return value if 0 < len(value) <= MAX_VALUE else None


def _tagged(sections: list[_Level], bundle: list[str]) -> _Level | None:
    """Return the section that the BUNDLE group names first; without a group, the first one that is not rejected."""
    by_mid = {section.mid: section for section in reversed(sections) if section.mid}
    for mid in bundle:
        if mid in by_mid:
            return by_mid[mid]
    return next((section for section in sections if not section.rejected), None)


def classify(described: DescriptionIdentity, offer: DescriptionIdentity, *, continues: bool = False) -> SecondOffer:
    """Return what ``offer`` does to the connection whose last remote description is ``described`` (rule 3).

    ``continues``: the offer names the current call and a higher round. Then its fingerprint alone keeps the DTLS
    association (RFC 8842 5.1). Otherwise the session id has to be the same too: gateways use one certificate for all
    their calls.
    """
    if offer.ufrag is None or offer.fingerprints != described.fingerprints:
        return SecondOffer.REPLACEMENT
    if (offer.ufrag, offer.password) == (described.ufrag, described.password):
        return SecondOffer.RENEGOTIATION
    same_session = offer.session_id is not None and offer.session_id == described.session_id
    if not offer.fingerprints or not (same_session or continues):
        return SecondOffer.REPLACEMENT
    if None not in (offer.tls_id, described.tls_id) and offer.tls_id != described.tls_id:
        return SecondOffer.REPLACEMENT  # RFC 8842 5.1: a new DTLS association
    return SecondOffer.ICE_RESTART
