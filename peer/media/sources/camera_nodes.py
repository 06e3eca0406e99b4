"""The V4L2 device nodes of this machine and what identifies their cameras, from sysfs and /dev/v4l. Opens none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

DEV: Final = Path("/dev")
SYSFS: Final = Path("/sys/class/video4linux")

_MAX_PARENTS: Final = 8
"""Maximum number of parent devices searched for USB attributes. A camera behind 6 hubs (the maximum) needs two."""


@dataclass(frozen=True, slots=True)
class CameraNode:
    """One device node of a camera. A camera may have several, told apart by ``index``."""

    path: str
    """Such as ``/dev/video0``. Changes when cameras are plugged in another order."""
    name: str
    index: int = 0
    serial: str = ""
    """USB serial number; empty if the camera has none."""
    product: str = ""
    """USB vendor and product, such as ``046d:0825``; empty for other cameras."""
    port: str = ""
    """The device's place in the tree of the kernel's devices: which USB port it is plugged into. A virtual device has
    none; here is its path instead."""
    links: tuple[str, ...] = ()
    """The links in /dev/v4l/by-id and /dev/v4l/by-path that lead to the node, in this order."""

    def is_same_model(self, other: CameraNode) -> bool:
        """Whether the two may be one camera, or another one of the same model."""
        return (self.name, self.index, self.product) == (other.name, other.index, other.product)

    def is_same_camera(self, other: CameraNode) -> bool:
        """Whether the two have one serial number. Without one, whether one model is at one port."""
        if not self.is_same_model(other) or self.serial != other.serial:
            return False
        return bool(self.serial) or self.port == other.port


def list_nodes(dev: Path = DEV, sysfs: Path = SYSFS) -> list[CameraNode]:
    """List all V4L2 device nodes, ordered by number. A node that disappears meanwhile is left out."""
    links = _links(dev)
    found = []
    for entry in sorted(sysfs.glob("video*"), key=lambda entry: int(re.sub(r"\D", "", entry.name) or 0)):
        path = dev / entry.name
        if path.exists():
            found.append(replace(_identity(str(path), entry), links=tuple(links.get(entry.name, ()))))
    return found


def stable_names(nodes: list[CameraNode]) -> dict[str, str]:
    """Return, by path, the value for ``--video`` that names the same camera after a replug and a restart.

    This is the link by serial number if the camera has one, or if it is the only one of its model. For others it is
    the link by USB port, or the name, or the path if there is nothing better.
    """
    names = {}
    for node in nodes:
        alike = [other for other in nodes if other.is_same_model(node)]
        by_id = next((link for link in node.links if "/by-id/" in link), None)
        by_path = next((link for link in node.links if "/by-path/" in link), None)
        unique_name = node.name if len([other for other in nodes if other.name == node.name]) == 1 else None
        if not node.serial and len(alike) > 1:
            by_id = None  # udev gives both the same link, which leads to one of them
        names[node.path] = by_id or by_path or unique_name or node.path
    return names


def _links(dev: Path) -> dict[str, list[str]]:
    """Return the links that udev has made, by the name of the node that they lead to."""
    links: dict[str, list[str]] = {}
    for folder in ("by-id", "by-path"):
        for link in sorted((dev / "v4l" / folder).glob("*")):
            try:
                links.setdefault(os.path.basename(os.readlink(link)), []).append(str(link))
            except OSError:  # removed meanwhile
                continue
    return links


def _identity(path: str, entry: Path) -> CameraNode:
    device = Path(os.path.realpath(entry / "device")) if (entry / "device").exists() else None
    node = CameraNode(
        path, _read(entry / "name") or entry.name, int(_read(entry / "index") or 0), port=str(device or path)
    )
    for parent in (device, *device.parents[:_MAX_PARENTS]) if device is not None else ():
        if vendor := _read(parent / "idVendor"):
            product = f"{vendor}:{_read(parent / 'idProduct')}"
            return replace(node, serial=_read(parent / "serial"), product=product)
    return node


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
