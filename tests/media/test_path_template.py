"""Path templates, and ids that would escape from the folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.path_template import expand

NOW = datetime(2026, 1, 31, 17, 45, 2)


def test_expand_fills_in_peer_and_time() -> None:
    assert expand("calls/{peer}-{time}.mkv", peer="door", now=NOW) == Path("calls/door-20260131-174502.mkv")


def test_expand_without_placeholders_changes_nothing() -> None:
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
def test_expand_id_cannot_leave_the_folder_or_hide_the_file(peer: str, name: str) -> None:
    assert expand("calls/{peer}/x.mkv", peer=peer, now=NOW) == Path("calls") / name / "x.mkv"


def test_expand_unknown_placeholder_raises() -> None:
    with pytest.raises(MediaError, match=r"\{id\} is not known; use \{peer\} and \{time\}"):
        expand("{id}.mkv", peer="door", now=NOW)


def test_expand_tilde_is_the_home_folder() -> None:
    assert expand("~/x.png", peer="door", now=NOW) == Path.home() / "x.png"


@pytest.mark.parametrize("peer", ["~", "~root", "~nobody-of-that-name"])
def test_expand_id_with_tilde_names_no_home_folder(peer: str) -> None:
    assert expand("{peer}", peer=peer, now=NOW) == Path("_" + peer[1:])
    assert expand("{peer}/x.mkv", peer=peer, now=NOW) == Path("_" + peer[1:], "x.mkv")


@pytest.mark.parametrize("pattern", ["~nobody-of-that-name/x.mkv", "~{peer}/x.mkv"])
def test_expand_unknown_home_folder_raises(pattern: str) -> None:
    with pytest.raises(MediaError, match="no such home folder"):
        expand(pattern, peer="root", now=NOW)


def test_expand_tilde_after_dot_is_an_ordinary_character() -> None:
    assert expand("./~{peer}/x.mkv", peer="root", now=NOW) == Path("~root/x.mkv")
