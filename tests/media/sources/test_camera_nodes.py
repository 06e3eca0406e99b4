"""Identity of cameras, read from a copy of /sys and /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.media.sources.camera_nodes import list_nodes, stable_names
from tests.media.sources.camera_tree import CameraTree


@pytest.fixture
def tree(tmp_path: Path) -> CameraTree:
    return CameraTree(tmp_path)


def test_usb_camera_has_serial_product_port_and_links(tree: CameraTree) -> None:
    path = tree.plug(0, "HD Webcam", port="1-1.2", serial="AB12")
    (node,) = list_nodes(tree.dev, tree.sysfs)
    assert (node.path, node.name, node.index, node.serial, node.product) == (
        path,
        "HD Webcam",
        0,
        "AB12",
        "046d:0825",
    )
    assert node.port.endswith("/1-1.2/1-1.2:1.0")
    assert [link.removeprefix(f"{tree.dev}/v4l/") for link in node.links] == [
        "by-id/usb-HD_Webcam-AB12-video-index0",
        "by-path/pci-1-1.2-video-index0",
    ]


def test_virtual_camera_is_identified_by_its_path(tree: CameraTree) -> None:
    (tree.sysfs / "video5").mkdir()
    (tree.sysfs / "video5" / "name").write_text("Loopback\n")
    (tree.dev / "video5").touch()
    (node,) = list_nodes(tree.dev, tree.sysfs)
    assert (node.name, node.serial, node.product, node.port) == ("Loopback", "", "", node.path)


def test_nodes_are_ordered_by_number_without_missing_ones(tree: CameraTree) -> None:
    for number in (10, 2, 1):
        tree.plug(number, port=f"1-{number}")
    (tree.dev / "video1").unlink()  # in a container that was given the others only
    assert [node.path[-7:] for node in list_nodes(tree.dev, tree.sysfs)] == ["/video2", "video10"]


def test_stable_name_is_the_link_by_serial_number(tree: CameraTree) -> None:
    first = tree.plug(0, serial="A", port="1-1")
    second = tree.plug(1, serial="B", port="1-2")
    names = stable_names(list_nodes(tree.dev, tree.sysfs))
    assert Path(names[first]).name == "usb-HD_Webcam-A-video-index0"
    assert Path(names[second]).name == "usb-HD_Webcam-B-video-index0"


def test_stable_name_of_two_alike_is_the_link_by_port(tree: CameraTree) -> None:
    paths = [tree.plug(0, port="1-1"), tree.plug(1, port="1-2")]
    names = stable_names(list_nodes(tree.dev, tree.sysfs))
    assert [Path(names[path]).name for path in paths] == ["pci-1-1-video-index0", "pci-1-2-video-index0"]


def test_stable_name_without_links_is_the_unique_name(tree: CameraTree) -> None:
    path = tree.plug(0)
    for link in (tree.dev / "v4l").glob("*/*"):
        link.unlink()
    assert stable_names(list_nodes(tree.dev, tree.sysfs)) == {path: "HD Webcam"}
    other = tree.plug(1, port="1-2")
    for link in (tree.dev / "v4l").glob("*/*"):
        link.unlink()
    assert stable_names(list_nodes(tree.dev, tree.sysfs)) == {path: path, other: other}
