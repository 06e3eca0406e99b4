"""Captured frames on their way from a thread into an event loop that may be gone."""

from __future__ import annotations

import asyncio

from peer.media.mailbox import Mailbox
from peer.media.pattern import Pattern


def test_a_loop_that_closes_before_it_takes_a_frame_wants_no_more_of_them() -> None:
    """A reader that is told otherwise reads for ever."""
    picture = Pattern(64, 64, 30).picture(0)
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop, lambda frame: None)
    assert mailbox.post(picture)
    loop.close()
    assert not mailbox.post(picture)
    assert not Mailbox(loop, lambda frame: None).post(picture)
