"""The camera that --video names is found again after a replug, and no other one is taken for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.sources.camera_locator import REPLACED_AFTER, CameraLocator
from peer.media.sources.camera_nodes import list_nodes
from tests.media.sources.camera_tree import CameraTree


@pytest.fixture
def tree(tmp_path: Path) -> CameraTree:
    return CameraTree(tmp_path)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def locator(tree: CameraTree, target: str, clock: Clock | None = None) -> CameraLocator:
    return CameraLocator(target, partial(list_nodes, tree.dev, tree.sysfs), clock or Clock())


def cause(found: CameraLocator) -> str:
    with pytest.raises(MediaError) as raised:
        found.candidates()
    return raised.value.cause


def test_path_is_a_candidate_whether_it_exists_or_not(tree: CameraTree) -> None:
    path = str(tree.dev / "video0")
    found = locator(tree, path)
    assert (found.candidates(), found.present()) == ([path], False)
    tree.plug(0)
    assert (found.candidates(), found.present()) == ([path], True)


@pytest.mark.parametrize("target", ["HD Webcam", "hd webcam", "AB12"])
def test_name_or_serial_number_finds_the_camera(tree: CameraTree, target: str) -> None:
    assert cause(locator(tree, target)) == "missing"
    tree.plug(0, "Other", port="1-9")
    path = tree.plug(3, serial="AB12")
    assert locator(tree, target).candidates() == [path]


def test_unknown_name_error_says_what_to_try(tree: CameraTree) -> None:
    with pytest.raises(MediaError, match="Door: no camera has this name or serial number; `peer devices` lists"):
        locator(tree, "Door").candidates()


def test_auto_takes_any_camera_and_waits_for_one(tree: CameraTree) -> None:
    found = locator(tree, "")
    assert (cause(found), found.present()) == ("missing", False)
    paths = [tree.plug(0), tree.plug(1, port="1-2")]
    assert (found.candidates(), found.present()) == (paths, True)


def test_auto_tries_a_camera_that_stays_mute_last(tree: CameraTree) -> None:
    found = locator(tree, "")
    mute, other = tree.plug(0), tree.plug(1, port="1-2")
    found.opening(mute)
    assert found.candidates() == [other, mute]


@pytest.mark.parametrize(("serial", "port"), [("AB12", "1-1"), ("AB12", "2-4"), ("", "1-1"), ("", "2-4")])
@pytest.mark.parametrize("by", ["path", "auto"])
def test_camera_is_found_under_another_number(tree: CameraTree, by: str, serial: str, port: str) -> None:
    path = tree.plug(0, serial=serial)
    found = locator(tree, path if by == "path" else "")
    found.opening(path)
    found.delivers(path)
    tree.unplug(0)
    assert (cause(found), found.present()) == ("gone", False)
    other = tree.plug(2, serial=serial, port=port)
    assert (found.candidates(), found.present()) == ([other], True)


@pytest.mark.parametrize(("own", "serial"), [("AB12", "CD34"), ("", "")])
def test_other_camera_of_the_model_is_not_mistaken(tree: CameraTree, own: str, serial: str) -> None:
    path = tree.plug(0, serial=own)
    tree.plug(1, serial=serial, port="1-2")
    found = locator(tree, path)
    found.delivers(path)
    tree.unplug(0)
    assert (cause(found), found.present()) == ("gone", False)


@pytest.mark.parametrize("by", ["path", "auto"])
def test_other_camera_takes_the_place_after_a_while(tree: CameraTree, by: str) -> None:
    clock, path = Clock(), tree.plug(0, "Old", serial="A")
    found = locator(tree, path if by == "path" else "", clock)
    found.delivers(path)
    tree.unplug(0)
    tree.plug(0, "New", port="1-2", serial="B")
    assert cause(found) == "gone"
    clock.now += REPLACED_AFTER
    assert found.candidates() == [path]
    found.delivers(path)
    assert found.present()


def test_known_camera_at_its_old_path_is_preferred(tree: CameraTree) -> None:
    for number in (0, 1):
        (tree.sysfs / f"video{number}").mkdir()
        (tree.sysfs / f"video{number}" / "name").write_text("Loopback\n")
        (tree.dev / f"video{number}").touch()
    path = str(tree.dev / "video1")
    found = locator(tree, path)
    found.delivers(path)
    assert found.candidates() == [path]


def test_link_is_followed_to_the_camera_that_it_leads_to(tree: CameraTree) -> None:
    tree.plug(0, serial="AB12")
    link = str(tree.dev / "v4l" / "by-id" / "usb-HD_Webcam-AB12-video-index0")
    found = locator(tree, link)
    assert found.candidates() == [link]
    found.delivers(link)
    tree.unplug(0)
    path = tree.plug(4, serial="AB12")
    assert found.candidates() == [path]
