"""Session descriptions: the error, and edits of our own ones."""

from __future__ import annotations

import pytest

from peer.rtc import sdp

END = "a=end-of-candidates"
OFFER = "\r\n".join(("v=0", "s=-", "m=audio 9 x 0", "a=candidate:1", END, "m=video 9 x 96", END, ""))


def test_announce_trickle_adds_the_option_to_the_session_level() -> None:
    text = sdp.announce_trickle(OFFER)
    session = text.partition("\r\nm=")[0]
    assert session.endswith("\r\na=ice-options:trickle")
    assert text.count("a=ice-options:trickle") == 1
    assert END not in text and "a=candidate:1\r\n" in text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (sdp.SdpError("no video"), "no video"),
        (sdp.SdpError("no video", rule="RFC 8866 5"), "no video (RFC 8866 5)"),
        (sdp.SdpError("no video", line="m=\n" + "x" * 100), "no video: 'm=\\n" + "x" * 77 + "'"),
    ],
)
def test_error_names_the_rule_and_the_start_of_the_line(error: sdp.SdpError, text: str) -> None:
    assert str(error) == text


def test_origin_keeps_its_session_id_and_raises_its_version() -> None:
    origin = sdp.Origin()
    written = [origin.write(f"v=0\r\no=- {seconds} {seconds} IN IP4 0.0.0.0\r\ns=-\r\n") for seconds in (70, 75, 75)]
    assert [text.splitlines()[1] for text in written] == [
        f"o=- 70 {version} IN IP4 0.0.0.0" for version in (70, 71, 72)
    ]


@pytest.mark.parametrize("lite", [False, True])
def test_ice_parameters_are_read_from_the_first_section(lite: bool) -> None:
    head = "v=0\r\ns=-\r\n" + "a=ice-lite\r\n" * lite
    text = head + "m=audio 9 x 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n"
    assert sdp.ice_parameters(text) == sdp.IceParameters("abcd", "secret", lite)


def test_sections_are_split_and_joined_again() -> None:
    head, sections = sdp.split_sections(OFFER)
    assert head == "v=0\r\ns=-\r\n" and [section[:7] for section in sections] == ["m=audio", "m=video"]
    assert head + "".join(sections) == OFFER


@pytest.mark.parametrize(("mids", "line"), [(("1", "a"), "a=group:BUNDLE 1 a\r\n"), ((), "")])
def test_bundle_group_is_replaced_or_removed(mids: tuple[str, ...], line: str) -> None:
    head = "v=0\r\n{}a=msid-semantic:WMS *\r\n"
    assert sdp.replace_bundle(head.format("a=group:BUNDLE 0 1\r\n"), mids) == head.format(line)
