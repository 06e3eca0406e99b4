"""Files as sources."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from peer.errors import MediaError
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources import files
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.handoff import Captured, Media
from peer.media.sources.passthrough import StreamInfo
from peer.media.test_pattern import beep_onsets, dominant_frequency, read_pattern
from tests.media.clips import real_clip, write_clip, write_h264

BOTH = Constraints(video=True, audio=True)
VIDEO = Constraints(video=True, audio=False)
AUDIO = Constraints(video=False, audio=True)


def _arrivals(frames: Iterator[Media]) -> list[tuple[float, Media]]:
    return [(media_time(), frame) for frame in frames]


def _video_only(frames: list[tuple[float, Media]]) -> list[tuple[float, av.VideoFrame]]:
    return [(time, frame) for time, frame in frames if isinstance(frame, av.VideoFrame)]


def _encoded(frames: list[Captured]) -> list[EncodedFrame]:
    return [frame for frame in frames if isinstance(frame, EncodedFrame)]


def _samples(frames: list[tuple[float, Media]]) -> np.ndarray:
    parts = [frame.to_ndarray().reshape(-1, 2)[:, 0] for _, frame in frames if isinstance(frame, av.AudioFrame)]
    return np.concatenate(parts)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable skipping of late frames: this machine may be busy with other tests."""
    monkeypatch.setattr(files, "_MAX_LATE", 10.0)
    monkeypatch.setattr(files, "_RESCHEDULE_AFTER", 10.0)


def test_file_plays_all_frames_in_real_time_and_in_sync(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=1.5)
    started = media_time()
    frames = _arrivals(files.play(str(clip), BOTH, threading.Event()))
    assert media_time() - started == pytest.approx(2.0, abs=0.7)
    video = _video_only(frames)
    readings = [read_pattern(image.to_ndarray(format="gray")) for _, image in video]
    assert [reading.frame for reading in readings if reading is not None] == list(range(45))
    assert all(frame.pict_type == 0 for _, frame in video)
    # Each frame is delivered at its capture time: never early, hardly late.
    lateness = [time - frame.time for time, frame in frames]
    assert min(lateness) > -0.03
    assert float(np.median(lateness)) < 0.1
    # The second flash and the second beep start at the same time.
    flash = next(image.time for (_, image), r in list(zip(video, readings, strict=True))[10:] if r and r.flash)
    first_sound = next(frame.time for _, frame in frames if isinstance(frame, av.AudioFrame))
    assert first_sound + beep_onsets(_samples(frames))[-1] == pytest.approx(flash, abs=0.04)


def test_file_audio_is_framed_and_continuous(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=1, video=False)
    frames = _arrivals(files.play(str(clip), AUDIO, threading.Event()))
    pts = [frame.pts for _, frame in frames]
    assert {second - first for first, second in pairwise(pts)} == {960}
    assert dominant_frequency(_samples(frames)) == pytest.approx(440, abs=2)


def test_file_loop_has_no_gap(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=0.4)
    stop = threading.Event()
    frames: list[tuple[float, Media]] = []
    for frame in files.play(str(clip), BOTH, stop, loop=True):
        frames.append((media_time(), frame))
        if len(_video_only(frames)) == 30:
            stop.set()
    times = [image.time for _, image in _video_only(frames)]
    assert len(times) == 30
    assert times == sorted(set(times))
    assert max(np.diff(times)) < 0.12
    audio_pts = [frame.pts for _, frame in frames if isinstance(frame, av.AudioFrame)]
    assert min(np.diff(audio_pts)) >= 960


def test_file_name_may_have_a_colon(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=0.2).rename(tmp_path / "rec-12:30:00.mkv")
    files.check(str(clip), BOTH)
    assert _video_only(_arrivals(files.play(str(clip), VIDEO, threading.Event())))


def test_file_default_audio_is_played_not_the_first(tmp_path: Path) -> None:
    clip, both = write_clip(tmp_path / "clip.mkv", seconds=0.6), tmp_path / "both.mkv"
    silence = "anullsrc=r=48000:cl=stereo"
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "lavfi", "-i", silence, "-t", "0.6"]
    command += ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy"]
    command += ["-disposition:a:0", "0", "-disposition:a:1", "default", str(both)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    samples = _samples(_arrivals(files.play(str(both), AUDIO, threading.Event())))
    assert np.abs(samples).max() > 1000


def test_file_ends_on_stop(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=1)
    stop = threading.Event()
    playing = files.play(str(clip), VIDEO, stop)
    next(playing)
    stop.set()
    assert list(playing) == []


def test_file_late_video_is_skipped_and_audio_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_LATE", 0.1)
    clip = write_clip(tmp_path / "clip.mkv", seconds=1)
    frames = []
    for frame in files.play(str(clip), BOTH, threading.Event()):
        frames.append(frame)
        if len(frames) == 10:
            threading.Event().wait(0.5)  # simulates a machine that is too slow
    video = [frame for frame in frames if isinstance(frame, av.VideoFrame)]
    audio_pts = [frame.pts for frame in frames if isinstance(frame, av.AudioFrame)]
    assert 3 < len(video) < 24
    assert set(np.diff(audio_pts).tolist()) == {960}


def test_file_respects_maximum_size_and_rate(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=1, audio=False)
    constraints = Constraints(video=True, audio=False, size=(160, 160), fps=10)
    frames = list(files.play(str(clip), constraints, threading.Event()))
    assert {(frame.width, frame.height) for frame in frames if isinstance(frame, av.VideoFrame)} == {(160, 90)}
    assert 9 <= len(frames) <= 11


def test_real_clip_plays_both_kinds_in_order() -> None:
    path = real_clip()
    stop = threading.Event()
    kinds: dict[type, list[float]] = {av.VideoFrame: [], av.AudioFrame: []}
    for frame in files.play(str(path), BOTH, stop):
        kinds[type(frame)].append(frame.time)
        if len(kinds[av.VideoFrame]) == 20:
            stop.set()
    assert np.diff(kinds[av.VideoFrame]) == pytest.approx([0.04] * 19, abs=0.001)
    assert np.diff(kinds[av.AudioFrame]) == pytest.approx([0.02] * (len(kinds[av.AudioFrame]) - 1), abs=0.0001)
    assert kinds[av.AudioFrame][-1] == pytest.approx(kinds[av.VideoFrame][-1], abs=0.1)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_file_rotated_clip_is_played_upright(tmp_path: Path, degrees: int) -> None:
    """Compares with FFmpeg's own rotation."""
    clip, rotated, shown = (str(tmp_path / name) for name in ("clip.mp4", "rotated.mp4", "expected.png"))
    write_clip(Path(clip), seconds=0.1, audio=False)
    for command in (
        ("-i", clip, "-c", "copy", "-metadata:s:v", f"rotate={degrees}", rotated),
        ("-i", rotated, "-frames:v", "1", shown),
    ):
        subprocess.run(["ffmpeg", "-v", "error", *command], check=True, timeout=60)
    frame = next(files.play(rotated, VIDEO, threading.Event()))
    with av.open(shown) as image:
        expected = next(image.decode(video=0)).to_ndarray(format="gray").astype(int)
    assert np.abs(frame.to_ndarray(format="gray").astype(int) - expected).mean() < 3


def test_file_check_missing_kind_raises(tmp_path: Path) -> None:
    mute = write_clip(tmp_path / "mute.mkv", seconds=0.2, audio=False)
    blind = write_clip(tmp_path / "blind.mkv", seconds=0.2, video=False)
    files.check(str(mute), VIDEO)
    files.check(str(blind), AUDIO)
    with pytest.raises(MediaError, match="no audio"):
        files.check(str(mute), BOTH)
    with pytest.raises(MediaError, match="no video"):
        files.check(str(blind), VIDEO)


def test_file_check_of_no_media_raises(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a film")
    with pytest.raises(av.error.FFmpegError):
        files.check(str(text), VIDEO)


def test_file_loop_without_frames_raises(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    with av.open(str(empty), "w") as container:
        container.add_stream("pcm_s16le", rate=48_000)
        container.start_encoding()
    with pytest.raises((MediaError, av.error.FFmpegError)):
        list(files.play(str(empty), AUDIO, threading.Event(), loop=True))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_file_h264_comes_encoded_and_decoded_at_the_same_time(tmp_path: Path, suffix: str) -> None:
    clip = write_h264(tmp_path / f"clip.{suffix}", seconds=1, gop=10)
    arrivals: list[tuple[float, Captured]] = []
    for frame in files.play(str(clip), VIDEO, threading.Event(), flags=DecodeFlags()):
        arrivals.append((media_time(), frame))
    encoded = _encoded([frame for _, frame in arrivals])
    video = [frame for _, frame in arrivals if isinstance(frame, av.VideoFrame)]
    assert isinstance(arrivals[0][1], StreamInfo)
    assert len(encoded) == 25
    assert [frame.timestamp for frame in encoded] == pytest.approx([image.pts for image in video], abs=1)
    assert [n for n, frame in enumerate(encoded) if frame.key] == [0, 10, 20]
    lateness = [at - frame.timestamp / 90_000 for at, frame in arrivals if isinstance(frame, EncodedFrame)]
    assert min(lateness) > -0.03


def test_file_undecoded_media_keeps_its_pace(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=1)
    flags = DecodeFlags(video=False, audio=False)
    started = media_time()
    frames = list(files.play(str(clip), BOTH, threading.Event(), flags=flags))
    assert media_time() - started > 0.9
    assert len(_encoded(frames)) == 30
    assert len(frames) == 31
    assert flags.decoded_packets == 0


def test_file_vp8_undecoded_keeps_its_pace(tmp_path: Path) -> None:
    """Otherwise a loop would spin."""
    clip = write_h264(tmp_path / "clip.webm", seconds=0.4, codec="libvpx")
    started = media_time()
    frames = list(files.play(str(clip), VIDEO, threading.Event(), flags=DecodeFlags(video=False)))
    assert media_time() - started > 0.3
    assert frames == [StreamInfo("vp8")]


def test_file_new_video_reader_gets_current_frame(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=1.2)
    flags = DecodeFlags(video=False)
    numbers = []
    passed = 0
    for frame in files.play(str(clip), VIDEO, threading.Event(), flags=flags):
        passed += isinstance(frame, EncodedFrame)
        flags.video = passed >= 15
        if isinstance(frame, av.VideoFrame):
            reading = read_pattern(frame.to_ndarray(format="gray"))
            assert reading is not None
            numbers.append(reading.frame)
    assert numbers[0] in (15, 16)
    assert numbers == list(range(numbers[0], 30))
    assert flags.decoded_packets == 30


def test_file_h264_loop_timestamps_go_on_with_a_key_frame(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.4)
    stop = threading.Event()
    frames: list[EncodedFrame] = []
    for frame in files.play(str(clip), VIDEO, stop, loop=True, flags=DecodeFlags(video=False)):
        frames += _encoded([frame])
        if len(frames) == 25:
            stop.set()
    assert np.diff([frame.timestamp for frame in frames]) == pytest.approx([3600] * 24, abs=2)
    assert [n for n, frame in enumerate(frames) if frame.key] == [0, 10, 20]


def test_file_b_frames_come_in_decoding_order(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=1, profile="high", b_frames=2)
    frames = list(files.play(str(clip), VIDEO, threading.Event(), flags=DecodeFlags()))
    stamps = [frame.timestamp for frame in _encoded(frames)]
    assert stamps != sorted(stamps)
    assert np.diff(sorted(stamps)) == pytest.approx([3600] * 24, abs=2)
    video = [frame for frame in frames if isinstance(frame, av.VideoFrame)]
    readings = [read_pattern(image.to_ndarray(format="gray")) for image in video]
    assert [reading.frame for reading in readings if reading is not None] == list(range(25))


def test_file_h264_without_timestamps_plays_at_25_fps(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.h264", seconds=0.4)
    frames = _encoded(list(files.play(str(clip), VIDEO, threading.Event(), flags=DecodeFlags(video=False))))
    assert np.diff([frame.timestamp for frame in frames]) == pytest.approx([3600] * 9, abs=2)


def test_file_check_returns_stream_info(tmp_path: Path) -> None:
    stream_info = files.check(str(write_h264(tmp_path / "clip.mp4", seconds=3, gop=75)), VIDEO)
    assert stream_info is not None
    assert stream_info.key_interval == pytest.approx(74 / 25, abs=0.01)
    mute = write_clip(tmp_path / "tone.mkv", seconds=0.2, video=False)
    assert files.check(str(mute), AUDIO) is None


def _with_cover(path: Path, clip: Path) -> Path:
    """Write the audio of ``clip`` as MP3 with a red cover of 64x64."""
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "lavfi", "-i", "color=red:s=64x64", "-map", "0:a"]
    command += [
        "-t",
        "2.5",
        "-map",
        "1:v",
        "-frames:v",
        "1",
        "-c:v",
        "png",
        "-disposition:v",
        "attached_pic",
        str(path),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return path


def test_file_cover_of_a_song_is_shown_to_a_late_reader(tmp_path: Path) -> None:
    song = _with_cover(tmp_path / "song.mp3", write_clip(tmp_path / "clip.mkv", seconds=2.5, video=False))
    flags, stop = DecodeFlags(video=False), threading.Event()
    audio, video = 0, []
    for frame in files.play(str(song), BOTH, stop, hold=True, flags=flags):
        audio += isinstance(frame, av.AudioFrame)
        flags.video = audio > 25
        if isinstance(frame, av.VideoFrame):
            video.append(frame)
            if len(video) == 6:
                stop.set()
    assert {(frame.width, frame.height) for frame in video} == {(64, 64)}
    assert np.diff([frame.time for frame in video]) == pytest.approx([0.5] * 5, abs=0.05)
    assert audio > 110


@pytest.mark.parametrize("decoded", [True, False])
def test_file_last_picture_stays_after_the_end(tmp_path: Path, decoded: bool) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.6, profile="high", b_frames=2)
    flags, stop = DecodeFlags(video=decoded), threading.Event()
    numbers, times, passed = [], [], 0
    for frame in files.play(str(clip), VIDEO, stop, hold=True, flags=flags):
        passed += isinstance(frame, EncodedFrame)
        flags.video = decoded or passed == 15
        if isinstance(frame, av.VideoFrame) and passed == 15:
            reading = read_pattern(frame.to_ndarray(format="gray"))
            numbers.append(reading.frame if reading is not None else None)
            times.append(frame.time)
            if len(numbers) == 6:
                stop.set()
    assert numbers[-4:] == [14] * 4
    assert np.diff(times[-4:]) == pytest.approx([0.5] * 3, abs=0.05)


def _jumping(path: Path, first: Path, offset: float) -> Path:
    """Write ``first``, 60 s into a transport stream, and then the same with a clock ``offset`` seconds later."""
    parts = []
    for number, start in enumerate((60.0, 60.0 + offset)):
        part = path.with_suffix(f".{number}.ts")
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            str(first),
            "-c",
            "copy",
            "-output_ts_offset",
            str(start),
            str(part),
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("offset", [30.0, -30.0, 30_000.0, -3.0])
def test_file_clock_that_jumps_costs_no_time(tmp_path: Path, offset: float) -> None:
    clip = _jumping(tmp_path / "clip.ts", write_clip(tmp_path / "clip.mkv", seconds=1.2), offset)
    started = media_time()
    frames = list(files.play(str(clip), BOTH, threading.Event(), flags=DecodeFlags()))
    assert media_time() - started < 3.8
    video = [frame for frame in frames if isinstance(frame, av.VideoFrame)]
    readings = [read_pattern(frame.to_ndarray(format="gray")) for frame in video]
    assert [reading.frame for reading in readings if reading is not None] == [*range(36), *range(36)]
    assert max(np.diff([frame.time for frame in video])) < 0.6
    assert min(np.diff([frame.time for frame in video])) > 0
    stamps = [frame.timestamp for frame in _encoded(frames)]
    assert len(stamps) == 72
    assert max(np.diff(stamps)) < 0.6 * 90_000
    # Audio and video stay in sync: the second flash and the second beep come at the same time.
    flashes = [frame.time for frame, reading in zip(video, readings, strict=True) if reading and reading.flash]
    audio = [frame for frame in frames if isinstance(frame, av.AudioFrame)]
    loud = [frame.time for frame in audio if np.abs(frame.to_ndarray()).max() > 1000]
    for flash in flashes:
        assert min(abs(time - flash) for time in loud) < 0.06


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_file_anamorphic_video_gets_square_pixels(tmp_path: Path, suffix: str) -> None:
    """In MP4 the container has the pixel aspect ratio too; in a transport stream only the codec has it."""
    clip = write_h264(tmp_path / "clip.mkv", seconds=0.2, **{"x264-params": "sar=4/3"})
    wide = tmp_path / f"wide.{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy", str(wide)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    info = files.check(str(wide), VIDEO)
    assert info is not None
    assert info.pixel_aspect == Fraction(4, 3)
    frames = [frame for frame in files.play(str(wide), VIDEO, threading.Event()) if isinstance(frame, av.VideoFrame)]
    assert {(frame.width, frame.height) for frame in frames} == {(426, 180)}
