"""``peer devices``: cameras with their formats, microphones and speakers."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from .. import exit_codes as exits
from ..command import Command, option
from ..options import output_options
from ..settings import Settings

if TYPE_CHECKING:
    from ...media.sources.devices import Camera
    from ...media.sources.v4l2 import Mode
    from ...media.sources.v4l2_controls import Control


@click.command("devices", cls=Command)
@option("--controls", is_flag=True, help="List the controls of each camera, for --camera-control.")
@output_options
def command(controls: bool, **params: Any) -> int:
    """List the cameras, microphones and speakers of this machine.

    The first word of each line is the value for --video, --audio or --speaker. It names the same device after it was
    plugged in again. Devices in use are listed too, because no camera is opened for capture.
    """
    from ...media.sources.devices import list_cameras, list_microphones, list_speakers
    from ..output import Output

    out = Output(as_json=Settings.read(params).as_json)
    now = round(time.time(), 3)
    out.text("Cameras (--video)")
    cameras = list_cameras()
    for camera in cameras:
        modes = [_mode(mode) for mode in camera.modes]
        body = {
            "kind": "camera", "device": camera.device, "stable": camera.stable, "name": camera.name, "modes": modes
        }  # fmt: skip
        details = {"serial": camera.serial, "problem": camera.problem}
        out.object({"event": "device", "time": now} | body | {key: text for key, text in details.items() if text})
        out.text(_line(camera))
        for line in _formats(camera):
            out.text(f"      {line}")
        for control in _controls(camera) if controls else []:
            out.object({"event": "control", "time": now, "device": camera.device} | _body(control))
            default = f", default {control.default}" if control.default != control.value else ""
            out.text(f"      {control.name}={control.value}  ({control.choices()}{default})")
    if not cameras:
        out.text("  none: --video auto sends no video; --video test sends a test pattern")
    audio_devices = (
        (
            "microphone",
            "Microphones (--audio)",
            list_microphones(),
            "--audio auto sends no audio; --audio test sends a tone",
        ),
        ("speaker", "Speakers (--speaker)", list_speakers(), "--speaker auto plays nothing"),
    )
    for kind, title, devices, consequence in audio_devices:
        out.text(title)
        for device in devices:
            out.object({"event": "device", "time": now, "kind": kind, "device": device.device, "name": device.name})
            out.text(f"  {device.device}  {device.name}")
        if not devices:
            out.text(f"  none: {consequence}")
    return exits.DONE


def _line(camera: Camera) -> str:
    facts = [camera.device] if camera.stable != camera.device else []
    facts += [f"serial number {camera.serial}"] if camera.serial else []
    facts += [camera.problem] if camera.problem else []
    return f"  {shlex.quote(camera.stable)}  {camera.name}" + (f" ({', '.join(facts)})" if facts else "")


def _controls(camera: Camera) -> list[Control]:
    from ...media.sources.v4l2_controls import list_controls

    try:
        return list_controls(camera.device)
    except OSError:  # the camera's problem is listed
        return []


def _body(control: Control) -> dict[str, Any]:
    items = {"items": {str(number): name for number, name in control.items}} if control.items else {}
    return {
        "name": control.name, "kind": control.kind, "value": control.value, "default": control.default,
        "minimum": control.minimum, "maximum": control.maximum, "step": control.step,
    } | items  # fmt: skip


def _mode(mode: Mode) -> dict[str, Any]:
    return {"format": mode.format, "sizes": [f"{w}x{h}" for w, h in mode.sizes], "rates": list(mode.rates)}


def _formats(camera: Camera) -> list[str]:
    """One line per format: its sizes, each with its maximum frame rate."""
    lines: dict[str, list[str]] = {}
    for mode in camera.modes:
        sizes = " to ".join(f"{width}x{height}" for width, height in mode.sizes)
        max_rate = f" at {max(mode.rates):g}" if mode.rates else ""
        lines.setdefault(mode.format, []).append(sizes + max_rate)
    return [f"{name}: {', '.join(sizes)}" for name, sizes in lines.items()]
