"""CPU of passthrough compared with transcoding: a node that sends an H.264 file, 720p30, to four viewers.

    python benchmarks/passthrough.py [--container mp4|ts|mkv] [--rounds 1]

``passthrough`` is a file that any viewer can decode (constrained baseline, one key frame per second), sent to
viewers that accept H.264. ``to vp8`` is the same file, sent to viewers that accept only VP8; ``to h264`` is the
same video in a file that cannot be forwarded because it has B-frames. What arrives shows whether the file was
forwarded: its bitrate, and its 60 key frames per minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import lab
from av.video.frame import PictureType
from lab import OURS, machine, real_clip
from viewers import Result, add_measuring, median, undisturbed

FPS = 30
GOAL = 0.15
VIEWERS = 4
PLAIN = {"profile": "baseline", "bf": "0"}
REORDERED = {"profile": "main", "bf": "2"}


def write_h264(path: Path, options: dict[str, str], bitrate: int = 2_000_000) -> int:
    """Write the real clip, forwards and backwards, with one key frame per second; return its bitrate."""
    with av.open(str(real_clip())) as container:
        frames = list(container.decode(video=0))
    size = 0
    with av.open(str(path), "w") as container:
        settings = {"preset": "veryfast", "g": str(FPS), "keyint_min": str(FPS), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=FPS, options=settings | options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.bit_rate = bitrate
        wanted = [*frames, *frames[-2:0:-1]]
        wanted = wanted[: len(wanted) // FPS * FPS]  # whole seconds, because it is played in a loop
        for number, frame in enumerate(wanted):
            shown = frame.reformat(format="yuv420p")
            shown.pts, shown.time_base, shown.pict_type = number, Fraction(1, FPS), PictureType.NONE
            for packet in stream.encode(shown):
                size += packet.size
                container.mux(packet)
        for packet in stream.encode(None):
            size += packet.size
            container.mux(packet)
    return round(size * 8 / (len(wanted) / FPS))


async def compare(options: argparse.Namespace, folder: Path) -> None:
    plain, reordered = folder / f"plain.{options.container}", folder / f"reordered.{options.container}"
    bitrate = write_h264(plain, PLAIN)
    write_h264(reordered, REORDERED)
    ways = {"passthrough": (plain, "h264"), "to vp8": (plain, "vp8"), "to h264": (reordered, "h264")}
    print(f"{machine()}; {options.container}, {bitrate / 1000:.0f} kbit/s, {VIEWERS} viewers\n")
    print("| mode | CPU of a core | passthrough relative to it | fps | kbit/s | key frames/min | viewers | others |")
    print("|---|---|---|---|---|---|---|---|")
    results: dict[str, list[Result | None]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, (path, codec) in ways.items():
            command = (*OURS, "--video", f"{path}?loop", "--fps", str(FPS))
            results[way].append(await undisturbed(command, VIEWERS, argparse.Namespace(**vars(options), codec=codec)))
    forwarded = median(results["passthrough"])
    for way, taken in results.items():
        result = median(taken)
        if result is None:
            print(f"| {way} | not all viewers connect | | | | | | |")
            continue
        ratio = forwarded.ratio(result) if forwarded is not None and way != "passthrough" else ""
        print(f"| {way} | {result.verdict} | {ratio} | {result.figures()} |")
    print(f"\ngoal: at most {GOAL} of the transcoding path")
    if forwarded is not None and not (45 <= forwarded.keys <= 75):
        sys.exit("not forwarded: the key frames differ from the file's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--container", choices=("mp4", "ts", "mkv"), default="mp4")
    parser.add_argument("--rounds", type=int, default=1)
    add_measuring(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="passthrough-") as folder:
        lab.run(compare(options, Path(folder)))


if __name__ == "__main__":
    main()
