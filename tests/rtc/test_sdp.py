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
