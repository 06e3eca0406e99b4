"""A /dev and a /sys of a machine whose cameras a test plugs in and unplugs."""

from __future__ import annotations

import os
from pathlib import Path


class CameraTree:
    """Folders that look like ``dev`` and ``sysfs`` (/sys/class/video4linux) below ``root``."""

    def __init__(self, root: Path) -> None:
        self.dev, self.sysfs, self._devices = root / "dev", root / "class", root / "devices"
        for folder in (self.dev, self.sysfs, self._devices):
            folder.mkdir()

    def plug(
        self, number: int, name: str = "HD Webcam", *, port: str = "1-1", serial: str = "", index: int = 0
    ) -> str:
        """Plug a USB camera in and return the path of its device node."""
        usb = self._devices / port
        interface = usb / f"{port}:1.{index}"
        interface.mkdir(parents=True, exist_ok=True)
        (usb / "idVendor").write_text("046d\n")
        (usb / "idProduct").write_text("0825\n")
        if serial:
            (usb / "serial").write_text(f"{serial}\n")
        entry = self.sysfs / f"video{number}"
        entry.mkdir()
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{index}\n")
        (entry / "device").symlink_to(interface)
        node = self.dev / f"video{number}"
        node.touch()
        for folder, link in (("by-id", f"usb-{name.replace(' ', '_')}-{serial}"), ("by-path", f"pci-{port}")):
            (self.dev / "v4l" / folder).mkdir(parents=True, exist_ok=True)
            path = self.dev / "v4l" / folder / f"{link}-video-index{index}"
            path.unlink(missing_ok=True)  # udev gives the link to the device that came last
            path.symlink_to(f"../../video{number}")
        return str(node)

    def unplug(self, number: int) -> None:
        """Remove the camera's node, its links and its entry in sysfs."""
        (self.dev / f"video{number}").unlink()
        for link in (self.dev / "v4l").glob("*/*"):
            if os.path.basename(os.readlink(link)) == f"video{number}":
                link.unlink()
        entry = self.sysfs / f"video{number}"
        for name in ("name", "index", "device"):
            (entry / name).unlink()
        entry.rmdir()
