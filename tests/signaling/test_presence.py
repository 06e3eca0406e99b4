"""Presence: which peers are in the room, and what each report of the relay changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.signaling.presence import Presence

ids = st.sampled_from(["me", "a", "b", "c", "d"])


def test_presence_initially_is_empty() -> None:
    presence = Presence("me")
    assert presence.peers == ()
    assert "a" not in presence


def test_add_unknown_peer_returns_true_once() -> None:
    presence = Presence("me")
    assert presence.add("a") is True
    assert presence.add("a") is False
    assert presence.peers == ("a",)


def test_add_own_id_is_ignored() -> None:
    presence = Presence("me")
    assert presence.add("me") is False
    assert "me" not in presence


def test_remove_peer_returns_whether_it_was_present() -> None:
    presence = Presence("me")
    presence.add("a")
    assert presence.remove("a") is True
    assert presence.remove("a") is False
    assert presence.peers == ()


def test_peers_are_listed_in_join_order() -> None:
    presence = Presence("me")
    for peer in ("c", "a", "b"):
        presence.add(peer)
    presence.remove("c")
    presence.add("c")
    assert presence.peers == ("a", "b", "c")


def test_replace_returns_who_came_and_who_left() -> None:
    presence = Presence("me")
    presence.replace(["a", "b"])
    assert presence.replace(["b", "c", "d"]) == (["c", "d"], ["a"])
    assert presence.peers == ("b", "c", "d")


def test_replace_with_own_id_and_duplicates_lists_peers_once() -> None:
    presence = Presence("me")
    assert presence.replace(["a", "me", "a"]) == (["a"], [])
    assert presence.peers == ("a",)


def test_replace_with_same_list_reports_nothing() -> None:
    presence = Presence("me")
    presence.replace(["a", "b"])
    assert presence.replace(["b", "a"]) == ([], [])


@given(st.lists(st.one_of(st.tuples(st.sampled_from(["add", "remove"]), ids), st.lists(ids)), max_size=30))
def test_reported_changes_always_add_up_to_the_list(reports: list[tuple[str, str] | list[str]]) -> None:
    """A reader that only sees the reported changes has the same peers as ``peers``."""
    presence = Presence("me")
    seen: set[str] = set()
    for report in reports:
        if isinstance(report, list):
            came, left = presence.replace(report)
            assert not seen & set(came) and set(left) <= seen
            seen = seen - set(left) | set(came)
        elif report[0] == "add":
            assert presence.add(report[1]) is (report[1] not in seen and report[1] != "me")
            seen |= {report[1]} - {"me"}
        else:
            assert presence.remove(report[1]) is (report[1] in seen)
            seen -= {report[1]}
        assert set(presence.peers) == seen
        assert all(peer in presence for peer in seen)
