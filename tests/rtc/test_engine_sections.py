"""The engine's sections over several offers: removed, moved, recycled and added ones."""

from __future__ import annotations

import re

import pytest

from peer.rtc.engine_sections import EngineSections
from peer.rtc.remote_description import RemoteDescription, normalize_offer
from peer.rtc.sdp import SdpError
from tests.rtc.descriptions import AUDIO, HEAD, SUPPORTED, VIDEO, offer, replaced

REMOVED = (f"m=audio 0 {AUDIO[0].partition(' 9 ')[2]}", *AUDIO[1:])


def _offer(*sections: tuple[str, ...]) -> RemoteDescription:
    mids = [
        line[6:] for section in sections for line in section if line.startswith("a=mid:") and " 0 " not in section[0]
    ]
    return normalize_offer(offer(*sections, head=(*HEAD, f"a=group:BUNDLE {' '.join(mids)}")), SUPPORTED)


def _named(section: tuple[str, ...], mid: str) -> tuple[str, ...]:
    return replaced(section, "a=mid:", f"a=mid:{mid}")


def _shape(text: str) -> list[tuple[str, str, str]]:
    """Kind, identification and direction of each section."""
    found = []
    for section in re.split("^(?=m=)", text, flags=re.MULTILINE)[1:]:
        mid, direction = (
            re.search(r"^a=mid:(.*)\r", section, re.M),
            re.search(r"^a=(send|recv|inact)\w+", section, re.M),
        )
        assert mid is not None and direction is not None
        found.append((section[2:7], mid[1], direction[0][2:]))
    return found


def _local(sections: EngineSections, text: str) -> str:
    """Return a description of the engine's with the sections of ``text``."""
    return "v=0\r\n" + "".join(f"m={kind} 9 x 0\r\na=mid:{mid}\r\n" for kind, mid, _ in _shape(text))


def test_first_offer_is_passed_on_unchanged() -> None:
    remote = _offer(AUDIO, VIDEO)
    assert EngineSections().apply(remote) == (remote.text, {})


def test_removed_section_is_inactive_and_left_out_of_the_answer() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO, VIDEO))
    remote = _offer(REMOVED, VIDEO)
    text, renamed = sections.apply(remote)
    assert _shape(text) == [("audio", "0", "inactive"), ("video", "1", "sendrecv")]
    assert renamed == {} and "a=group:BUNDLE 0 1\r\n" in text
    assert text.count("a=ice-ufrag:") == text.count("a=fingerprint:") == 2
    assert sections.select(_local(sections, text), remote) == "v=0\r\nm=video 9 x 0\r\na=mid:1\r\n"


def test_moved_sections_keep_their_order_in_the_engine() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO, VIDEO))
    remote = _offer(VIDEO, AUDIO)
    text, _ = sections.apply(remote)
    assert [mid for _, mid, _ in _shape(text)] == ["0", "1"]
    selected = sections.select(_local(sections, text), remote)
    assert re.findall("a=mid:(.)", selected) == ["1", "0"]


def test_added_section_is_appended() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO))
    text, renamed = sections.apply(_offer(VIDEO, AUDIO))
    assert [mid for _, mid, _ in _shape(text)] == ["0", "1"] and renamed == {}


def test_recycled_section_takes_the_place_of_an_unused_one() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO, VIDEO))
    sections.apply(_offer(REMOVED, VIDEO))
    text, renamed = sections.apply(_offer(_named(AUDIO, "new"), VIDEO))
    assert _shape(text) == [("audio", "new", "sendrecv"), ("video", "1", "sendrecv")]
    assert renamed == {"0": "new"}


def test_sections_are_bounded_over_many_offers() -> None:
    sections = EngineSections()
    for number in range(20):
        kinds = (AUDIO, VIDEO)[number % 2 : number % 2 + 1] * 8
        text, _ = sections.apply(_offer(*(_named(one, f"{number}-{i}") for i, one in enumerate(kinds))))
    assert len(_shape(text)) == 16


def test_further_offer_changes_no_dtls_role() -> None:
    sections = EngineSections()
    assert "a=setup:actpass" in sections.apply(_offer(AUDIO))[0]
    assert "a=setup:actpass" in sections.apply(_offer(replaced(AUDIO, "a=setup", "a=setup:active")))[0]


def test_inactive_section_gets_the_credentials_of_a_restart() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO, VIDEO))
    text, _ = sections.apply(_offer(REMOVED, replaced(VIDEO, "a=ice-ufrag", "a=ice-ufrag:next")))
    assert re.findall("a=ice-ufrag:(.*)\r", text) == ["next", "next"]


def test_section_whose_kind_changes_raises() -> None:
    sections = EngineSections()
    sections.apply(_offer(AUDIO, VIDEO))
    with pytest.raises(SdpError, match="a=mid:0 is video now, and was audio before"):
        sections.apply(_offer(_named(VIDEO, "0"), _named(VIDEO, "1")))
