"""``peer devices``"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from .. import exit_codes as exits
from ..command import Command
from ..options import output_options
from ..settings import Settings

if TYPE_CHECKING:
    from ...media.sources.devices import Camera
    from ...media.sources.v4l2 import Mode


@click.command("devices", cls=Command)
@output_options
def command(**params: Any) -> int:
    """Show the cameras, microphones and speakers of this machine.

    The first word of each line is what --video, --audio and --speaker take. Nothing is opened but to ask for its
    formats, so a device that is in use shows too.
    """
    from ...media.sources.devices import list_cameras, list_microphones, list_speakers
    from ..output import Output

    out = Output(as_json=Settings.read(params).as_json)
    now = round(time.time(), 3)
    out.text("Cameras (--video)")
    cameras = list_cameras()
    for camera in cameras:
        modes = [_mode(mode) for mode in camera.modes]
        body = {"kind": "camera", "device": camera.device, "name": camera.name, "modes": modes}
        out.object({"event": "device", "time": now} | body | ({"problem": camera.problem} if camera.problem else {}))
        out.text(f"  {camera.device}  {camera.name}" + (f" ({camera.problem})" if camera.problem else ""))
        for line in _formats(camera):
            out.text(f"      {line}")
    if not cameras:
        out.text("  none: --video auto only receives; --video test needs none")
    sounds = (
        ("microphone", "Microphones (--audio)", list_microphones(), "--audio auto is mute; --audio test needs none"),
        ("speaker", "Speakers (--speaker)", list_speakers(), "--speaker auto is silent"),
    )
    for kind, title, devices, without in sounds:
        out.text(title)
        for device in devices:
            out.object({"event": "device", "time": now, "kind": kind, "device": device.device, "name": device.name})
            out.text(f"  {device.device}  {device.name}")
        if not devices:
            out.text(f"  none: {without}")
    return exits.DONE


def _mode(mode: Mode) -> dict[str, Any]:
    return {"format": mode.format, "sizes": [f"{w}x{h}" for w, h in mode.sizes], "rates": list(mode.rates)}


def _formats(camera: Camera) -> list[str]:
    """One line a format: its sizes, each with its fastest rate."""
    lines: dict[str, list[str]] = {}
    for mode in camera.modes:
        sizes = " to ".join(f"{width}x{height}" for width, height in mode.sizes)
        fastest = f" at {max(mode.rates):g}" if mode.rates else ""
        lines.setdefault(mode.format, []).append(sizes + fastest)
    return [f"{name}: {', '.join(sizes)}" for name, sizes in lines.items()]
