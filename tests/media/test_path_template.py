"""Placeholders in paths, and ids that would climb out of the folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.path_template import expand

NOW = datetime(2026, 1, 31, 17, 45, 2)


def test_peer_and_time_are_filled_in() -> None:
    assert expand("calls/{peer}-{time}.mkv", peer="door", now=NOW) == Path("calls/door-20260131-174502.mkv")


def test_a_path_without_placeholders_stays_as_it_is() -> None:
    assert expand("a%Y b.mkv", peer="door", now=NOW) == Path("a%Y b.mkv")


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("..", "__"),
        (".", "_"),
        (".hidden", "_hidden"),
        ("a.b", "a.b"),
        ("~root", "_root"),
        ("~.", "__"),
        ("a~", "a~"),
    ],
)
def test_an_id_cannot_leave_the_folder_or_hide(peer: str, name: str) -> None:
    assert expand("calls/{peer}/x.mkv", peer=peer, now=NOW) == Path("calls") / name / "x.mkv"


def test_an_unknown_placeholder_is_the_users_mistake() -> None:
    with pytest.raises(MediaError, match=r"\{id\} is not known; use \{peer\} and \{time\}"):
        expand("{id}.mkv", peer="door", now=NOW)


def test_home_is_known() -> None:
    assert expand("~/x.png", peer="door", now=NOW) == Path.home() / "x.png"


@pytest.mark.parametrize("peer", ["~", "~root", "~nobody-of-that-name"])
def test_an_id_is_never_somebodys_home(peer: str) -> None:
    assert expand("{peer}", peer=peer, now=NOW) == Path("_" + peer[1:])
    assert expand("{peer}/x.mkv", peer=peer, now=NOW) == Path("_" + peer[1:], "x.mkv")


@pytest.mark.parametrize("pattern", ["~nobody-of-that-name/x.mkv", "~{peer}/x.mkv"])
def test_a_home_that_is_not_there_is_the_users_mistake(pattern: str) -> None:
    with pytest.raises(MediaError, match="no such home folder"):
        expand(pattern, peer="root", now=NOW)


def test_a_tilde_behind_a_dot_is_a_name() -> None:
    assert expand("./~{peer}/x.mkv", peer="root", now=NOW) == Path("~root/x.mkv")
