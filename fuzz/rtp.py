"""Target: the RTP of one stream, from a sender that breaks every rule.

    python -m fuzz rtp --seconds 60

- A packet and its payload are parsed as aiortc parses them, or rejected where aiortc rejects them.
- Video and audio frames come out in order and once, each made of consecutive packets; buffered data is bounded; only
  missing packets are NACKed, and no counter overflows.
- aiortc's bandwidth estimator accepts its input.
"""

from __future__ import annotations

import math
from struct import unpack_from
from typing import Any, Final
from unittest.mock import patch

from aiortc.codecs.h264 import H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtp import RtpPacket, unpack_header_extensions

from peer.rtp import frame_assembler
from peer.rtp.depacketizer import ParsedPayload, depacketize
from peer.rtp.frame_assembler import FrameAssembler
from peer.rtp.nack import MAX_MISSING, NackGenerator
from peer.rtp.packet import Packet, parse
from peer.rtp.remb import RembThrottler
from peer.rtp.reorder_buffer import CAPACITY as MAX_WAITING_AUDIO
from peer.rtp.reorder_buffer import ReorderBuffer
from peer.rtp.sequence import TimestampUnwrapper
from peer.rtp.statistics import StreamStatistics

SEND_TIME: Final = 3
CAPACITY, MAX_BYTES, LARGE = 12, 6000, 400
STEPS: Final = (0, 1, 1, 1, 1, 2, 3, 5, 100, 0x7FFF, 0x8000, 0xFFFF)
SEEDS = [
    b"\0\x80\x60\0\1\0\0\0\1\0\0\0\2hello",
    b"\0\x90\xe0\0\1\0\0\0\1\0\0\0\2\xbe\xde\0\1\x32\1\2\3\x10\x20",
    b"\0\xb0\x60\0\1\0\0\0\1\0\0\0\2\x10\0\0\2\3\3\1\2\3\0\0\0abc\3",
    b"\1\x90\xe0\x85\x11\x22\x30\x10\x20",
    b"\2\x78\0\2\x67\x42\0\2\x65\x88",
    b"\2\x7c\x85\x88\x99",
    b"\3\1\x13\0\1\x03\0\1\x03\0\1\x23\1\1\x13\0\3\x13\0",
    b"\3" + bytes((1, 3, 0)) * 15,
]


def test_one(data: bytes) -> None:
    match data[0] % 4 if data else 0:
        case 0:
            _packet(data[1:])
        case 1:
            _vp8(data[1:])
        case 2:
            _h264(data[1:])
        case _:
            _Stream(data[1:]).play()


def _packet(data: bytes) -> None:
    try:
        packet = parse(data, SEND_TIME)
    except ValueError:
        packet = None
    try:
        expected = RtpPacket.parse(data)
    except ValueError as exc:
        if "header extension" in str(exc):
            return  # aiortc drops a packet with a truncated element; we drop only the element
        expected = None
    assert (packet is None) is (expected is None), "only one of the two parsers accepts it"
    if packet is None or expected is None:
        return
    assert _fields(packet) == _fields(expected) and packet.padding == expected.padding_size
    if data[0] & 0x10:
        at = 12 + 4 * (data[0] & 15)
        profile, words = unpack_from("!HH", data, at)
        elements = unpack_header_extensions(profile, data[at + 4 : at + 4 + 4 * words])
        ids = [number for number, _ in elements]
        # RFC 8285: 15 ends the list (4.2); the lower bits of the two-byte form's profile are arbitrary (4.3)
        if profile in (0xBEDE, 0x1000) and 15 not in ids and ids.count(SEND_TIME) < 2:
            sent = [int.from_bytes(value) for number, value in elements if number == SEND_TIME and len(value) == 3]
            assert packet.abs_send_time == (sent[0] if sent else None)


def _fields(packet: Any) -> tuple[Any, ...]:
    return (
        *(packet.payload_type, packet.sequence_number, packet.timestamp, packet.ssrc),
        *(bool(packet.marker), packet.payload),
    )


def _vp8(data: bytes) -> None:
    try:
        parsed = depacketize("vp8", data)
    except ValueError:
        parsed = None
    try:
        descriptor, rest = VpxPayloadDescriptor.parse(data)
    except ValueError:
        return
    if parsed is not None and data:
        assert parsed.data == rest
        assert parsed.starts_frame is (
            bool(rest) and descriptor.partition_start == 1 and descriptor.partition_id & 7 == 0
        )
        assert parsed.key_frame is (parsed.starts_frame and not rest[0] & 1)


def _h264(data: bytes) -> None:
    try:
        parsed = depacketize("h264", data)
    except ValueError:
        return
    if not data:
        assert parsed == (b"", False, False)
        return
    try:
        descriptor, rest = H264PayloadDescriptor.parse(data)
    except ValueError:
        return
    assert parsed.data == rest
    assert not parsed.starts_frame or descriptor.first_fragment


class _Stream:
    """One video and one audio stream with the same sequence numbers."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.now = 1000.0
        self.statistics = StreamStatistics(90_000)
        self.nacks = NackGenerator()
        self.assembler = FrameAssembler(CAPACITY)
        self.reorder_buffer = ReorderBuffer()
        self.timestamps = TimestampUnwrapper()
        self.remb = RembThrottler(RemoteBitrateEstimator())
        self.sent: dict[int, tuple[int, bytes]] = {}  # by extended number: timestamp and data of the first arrival
        self.order: list[int] = []  # sequence numbers of the packets in delivered frames
        self.audio_order: list[int] = []

    def play(self) -> None:
        with patch.object(frame_assembler, "MAX_BYTES", MAX_BYTES):  # so that a few packets reach the limit
            self._play()

    def _play(self) -> None:
        number, timestamp = 0xFFF0, 0xFFFFF000
        for at in range(0, len(self.data) - 2, 3):
            step, flags, more = self.data[at : at + 3]
            number = (number + STEPS[step % len(STEPS)]) & 0xFFFF
            if step & 0x80:
                number = (number - 3) & 0xFFFF
            timestamp = (timestamp + (flags >> 4) * 3000) & 0xFFFFFFFF
            self.now += (more >> 4) * 0.01
            self.packet(number, timestamp, flags, more)

    def packet(self, number: int, timestamp: int, flags: int, more: int) -> None:
        extended = self.statistics.add(number, timestamp, self.now)
        statistics = self.statistics
        assert statistics.jitter >= 0 and math.isfinite(statistics.jitter_seconds) and statistics.jitter < 2**32
        assert 0 <= statistics.fraction_lost <= 255 and 0 <= statistics.max_seq < 2**32
        assert -(2**23) <= statistics.packets_lost < 2**23
        send_time = int(self.now * 2**18) & 0xFFFFFF
        report = self.remb.add(Packet(96, number, timestamp, 1, bytes(100), abs_send_time=send_time), self.now)
        assert report is None or 0 <= report[0] < 2**50
        if extended is None:
            return
        data = f"<{extended}>".encode() if flags & 4 == 0 else b""
        if more & 15 == 15:
            data *= LARGE // len(data) if data else 1
        first = self.sent.setdefault(extended, (timestamp, data))
        requested = self.nacks.add(extended, self.now)
        assert all(one < extended and one not in self.sent for one in requested) and len(requested) <= MAX_MISSING
        for frame in self.assembler.add(
            extended, timestamp, bool(flags & 1), ParsedPayload(data, bool(flags & 2), more & 1 == 1)
        ):
            self.frame(frame.data, frame.timestamp)
        if self.nacks.missing:
            if self.assembler.next_number is not None:
                self.nacks.discard_below(self.assembler.next_number)
            delay = self.nacks.delay(self.now)
            assert delay is None or 0 <= delay < 1
            retries, give_up = self.nacks.due(self.now)
            assert not set(retries) & set(self.sent)
            if give_up:
                for frame in self.assembler.skip_missing():
                    self.frame(frame.data, frame.timestamp)
        assert len(self.assembler._buffered) <= CAPACITY and self.assembler.incomplete >= 0
        parts = [ParsedPayload(part, False, False) for part in self.assembler._parts]
        buffered = [payload for _, _, payload in self.assembler._buffered.values()]
        assert sum(map(frame_assembler._memory, parts)) == self.assembler._size
        assert sum(map(frame_assembler._memory, buffered)) == self.assembler._buffered_size
        assert self.assembler._size + self.assembler._buffered_size <= MAX_BYTES
        assert self.nacks.missing <= 2 * MAX_MISSING + 2 and 0 < self.nacks.rtt < 1e6
        for packet in self.reorder_buffer.add(extended, timestamp, first[1], self.now):
            self.timestamps.unwrap(packet.timestamp)
            self.audio_order += _numbers(packet.data)
        assert self.audio_order == sorted(set(self.audio_order))
        assert len(self.reorder_buffer._waiting) <= MAX_WAITING_AUDIO
        assert self.reorder_buffer.lost >= 0

    def frame(self, data: bytes, timestamp: int) -> None:
        numbers = _numbers(data)
        assert numbers, "an empty frame"
        assert all(self.sent[number] == (timestamp, self.sent[number][1]) for number in numbers), "two timestamps"
        assert b"".join(self.sent[number][1] for number in numbers) == data
        holes = set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
        assert all(self.sent[hole][1] == b"" for hole in holes), "a frame with a gap"
        self.order += numbers
        assert self.order == sorted(set(self.order)), "duplicate or out of order"


def _numbers(data: bytes) -> list[int]:
    return list(dict.fromkeys(int(part[1:]) for part in data.split(b">") if part))
