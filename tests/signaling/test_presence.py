"""Presence: which peers are in the room, what each report of the relay changes, and which peers were restarted."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peer.signaling.presence import MAX_DEPARTED, Changes, Presence

ids = st.sampled_from(["me", "a", "b", "c", "d"])


def test_presence_initially_is_empty() -> None:
    presence = Presence("me")
    assert presence.peers == ()
    assert "a" not in presence


def test_add_unknown_peer_reports_it_once() -> None:
    presence = Presence("me")
    assert presence.add("a", None) == Changes(came=("a",))
    assert presence.add("a", None) == Changes()
    assert presence.peers == ("a",)


def test_add_own_id_is_ignored() -> None:
    presence = Presence("me")
    assert presence.add("me", "1") == Changes()
    assert "me" not in presence


def test_remove_present_peer_reports_it_once() -> None:
    presence = Presence("me")
    presence.add("a", None)
    assert presence.remove("a") == Changes(left=("a",))
    assert presence.remove("a") == Changes()
    assert presence.peers == ()


def test_peers_are_listed_in_join_order() -> None:
    presence = Presence("me")
    for peer in ("c", "a", "b"):
        presence.add(peer, None)
    presence.remove("c")
    presence.add("c", None)
    assert presence.peers == ("a", "b", "c")


def test_replace_reports_who_came_and_who_left() -> None:
    presence = Presence("me")
    presence.replace(["a", "b"], {})
    assert presence.replace(["b", "c", "d"], {}) == Changes(["a"], [], ["c", "d"])
    assert presence.peers == ("b", "c", "d")


def test_replace_with_own_id_and_duplicates_lists_peers_once() -> None:
    presence = Presence("me")
    assert presence.replace(["a", "me", "a"], {"me": "1"}) == Changes([], [], ["a"])
    assert presence.peers == ("a",)


def test_replace_with_same_list_reports_nothing() -> None:
    presence = Presence("me")
    presence.replace(["a", "b"], {"a": "1"})
    assert presence.replace(["b", "a"], {"a": "1"}) == Changes([], [], [])


# --- restarted peers ---


def test_join_with_another_instance_reports_a_restart() -> None:
    presence = Presence("me")
    presence.add("a", "1")
    assert presence.remove("a") == Changes(left=("a",))
    assert presence.add("a", "2") == Changes((), ("a",), ("a",))


def test_join_with_the_same_instance_reports_no_restart() -> None:
    presence = Presence("me")
    presence.add("a", "1")
    presence.remove("a")
    assert presence.add("a", "1") == Changes(came=("a",))


def test_join_of_present_peer_with_another_instance_replaces_it() -> None:
    """The relay's ``peer-left`` was lost with the connection to it."""
    presence = Presence("me")
    presence.replace(["a", "b"], {"a": "1", "b": "1"})
    assert presence.add("a", "2") == Changes(("a",), ("a",), ("a",))
    assert presence.peers == ("b", "a")


def test_list_with_another_instance_reports_a_restart() -> None:
    presence = Presence("me")
    presence.replace(["a", "b", "c"], {"a": "1", "b": "1", "c": "1"})
    presence.remove("b")
    assert presence.replace(["a", "b", "c"], {"a": "2", "b": "2", "c": "1"}) == Changes(["a"], ["a", "b"], ["a", "b"])


def test_missing_instance_reports_no_restart_and_is_remembered() -> None:
    """A relay without ``instance`` in between does not hide that the process is another one."""
    presence = Presence("me")
    presence.add("a", None)
    assert presence.add("a", "1") == Changes()
    assert presence.replace(["a"], {}) == Changes([], [], [])
    presence.remove("a")
    assert presence.add("a", None) == Changes(came=("a",))
    assert presence.replace(["a"], {"a": "2"}) == Changes(["a"], ["a"], ["a"])


def test_departed_peers_beyond_the_limit_are_forgotten() -> None:
    presence = Presence("me")
    presence.replace([f"p{number}" for number in range(MAX_DEPARTED + 1)], {"p0": "1", "p1": "1"})
    for number in range(MAX_DEPARTED + 1):
        presence.add(f"p{number}", "1")
        presence.remove(f"p{number}")
    assert presence.add("p0", "2").restarted == ()
    assert presence.add("p1", "2").restarted == ("p1",)
    assert presence.replace([], {}).restarted == []


def test_list_that_replaces_many_peers_reports_every_restart() -> None:
    presence = Presence("me")
    peers = [f"p{number}" for number in range(MAX_DEPARTED + 9)]
    presence.replace(peers, dict.fromkeys(peers, "1"))
    assert presence.replace(peers, dict.fromkeys(peers, "2")) == Changes(peers, peers, peers)


instances = st.sampled_from([None, "1", "2"])
reports = st.one_of(
    st.tuples(st.sampled_from(["add", "remove"]), ids, instances),
    st.lists(st.tuples(ids, instances)),
)


@given(st.lists(reports, max_size=30))
def test_reported_changes_always_add_up_to_the_list(reports: list[Any]) -> None:
    """A reader that only sees the changes has the same peers as ``peers``, and hears of each new process once."""
    presence = Presence("me")
    seen: set[str] = set()
    process: dict[str, str] = {}  # the last known instance
    for report in reports:
        listed = dict(report) if isinstance(report, list) else {report[1]: report[2]}
        listed.pop("me", None)
        if isinstance(report, list):
            changes = presence.replace([peer for peer, _ in report], {peer: i for peer, i in listed.items() if i})
        elif report[0] == "add":
            changes = presence.add(report[1], report[2])
        else:
            changes, listed = presence.remove(report[1]), {}
        assert set(changes.left) <= seen
        assert set(changes.restarted) <= set(changes.came)
        other = {peer for peer, i in listed.items() if i and process.get(peer, i) != i}
        assert set(changes.restarted) == other
        seen -= set(changes.left)
        assert not seen & set(changes.came)
        seen |= set(changes.came)
        process |= {peer: i for peer, i in listed.items() if i}
        assert set(presence.peers) == seen
        assert all(peer in presence for peer in seen)
