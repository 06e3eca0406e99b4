"""The writer thread: order, drops, and readers that are slow, stuck or closed."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from peer.cli import stdout_writer
from peer.cli.stdout_writer import StdoutWriter, write_all

DEADLINE = 20.0


class _Reader:
    """A reader that blocks until ``reads`` is set, then takes lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.called, self.reads = threading.Event(), threading.Event()

    def __call__(self, line: bytes) -> None:
        self.called.set()
        assert self.reads.wait(DEADLINE)
        self.lines.append(line)


def test_writer_keeps_the_order_of_lines() -> None:
    reader = _Reader()
    reader.reads.set()
    writer = StdoutWriter(reader, lambda: None)
    lines = [str(number).encode() for number in range(500)]
    for line in lines:
        writer.put(line)
    writer.close()
    assert reader.lines == lines


def test_full_queue_drops_statistics_first_then_the_oldest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdout_writer, "_MAX_LINES", 3)
    reader = _Reader()
    writer = StdoutWriter(reader, lambda: None)
    writer.put(b"taken")
    assert reader.called.wait(DEADLINE)
    for line in (b"1", b"s1", b"2", b"s2", b"3", b"4"):
        writer.put(line, droppable=line.startswith(b"s"))
    assert writer.dropped == 3
    reader.reads.set()
    writer.close()
    assert reader.lines == [b"taken", b"2", b"3", b"4"]
    assert [record.message for record in caplog.records] == [
        "the reader of standard output is too slow; dropping lines, statistics first",
        "3 lines of output were lost, because the reader was too slow",
    ]


def test_close_does_not_wait_for_a_stuck_reader(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdout_writer, "_STUCK_AFTER", 0.05)
    reader = _Reader()
    writer = StdoutWriter(reader, lambda: None)
    writer.put(b"1")
    writer.put(b"2")
    assert reader.called.wait(DEADLINE)
    writer.close()
    assert reader.lines == []
    assert "2 lines of output were lost, because the reader was too slow" in caplog.text
    reader.reads.set()


def test_closed_pipe_calls_back_and_discards_the_rest() -> None:
    closed = threading.Event()
    read, write = os.pipe()
    os.close(read)
    try:
        writer = StdoutWriter(lambda line: write_all(write, line), closed.set)
        writer.put(b"1")
        assert closed.wait(DEADLINE)
        writer.put(b"2")
        writer.close()
        assert writer.reader_closed
    finally:
        os.close(write)


def test_full_disk_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with open("/dev/full", "wb") as full, caplog.at_level(logging.WARNING):
        writer = StdoutWriter(lambda line: write_all(full.fileno(), line), lambda: None)
        for _ in range(50):
            writer.put(b"1")
        writer.close()
    assert not writer.reader_closed
    assert [record.message for record in caplog.records] == [
        "cannot write to standard output: No space left on device; continuing without it"
    ]


def test_write_all_fills_a_non_blocking_pipe_repeatedly() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data, got = os.urandom(300_000), bytearray()

    def drain() -> None:
        while chunk := os.read(read, 65536):
            got.extend(chunk)

    reader = threading.Thread(target=drain, name="reader")
    reader.start()
    write_all(write, data)
    os.close(write)
    reader.join(DEADLINE)
    os.close(read)
    assert bytes(got) == data
