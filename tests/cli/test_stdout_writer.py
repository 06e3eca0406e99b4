"""Lines that wait for a reader."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from peer.cli import stdout_writer
from peer.cli.stdout_writer import Writer, write_all

DEADLINE = 20.0


class _Reader:
    """Takes lines, or not."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.asked, self.reads = threading.Event(), threading.Event()

    def __call__(self, line: bytes) -> None:
        self.asked.set()
        assert self.reads.wait(DEADLINE)
        self.lines.append(line)


def test_all_lines_come_in_order() -> None:
    reader = _Reader()
    reader.reads.set()
    written = Writer(reader, lambda: None)
    lines = [str(number).encode() for number in range(500)]
    for line in lines:
        written.put(line)
    written.close()
    assert reader.lines == lines


def test_statistics_are_left_out_first_then_what_is_old(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdout_writer, "_LINES", 3)
    reader = _Reader()
    written = Writer(reader, lambda: None)
    written.put(b"taken")
    assert reader.asked.wait(DEADLINE)
    for line in (b"1", b"s1", b"2", b"s2", b"3", b"4"):
        written.put(line, expendable=line.startswith(b"s"))
    assert written.dropped == 3
    reader.reads.set()
    written.close()
    assert reader.lines == [b"taken", b"2", b"3", b"4"]
    assert [record.message for record in caplog.records] == [
        "nobody reads the output: lines are left out, statistics first",
        "3 lines of output were not read and are lost",
    ]


def test_the_end_does_not_wait_for_a_reader_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdout_writer, "_STUCK", 0.05)
    reader = _Reader()
    written = Writer(reader, lambda: None)
    written.put(b"1")
    written.put(b"2")
    assert reader.asked.wait(DEADLINE)
    written.close()
    assert reader.lines == []
    assert "2 lines of output were not read and are lost" in caplog.text
    reader.reads.set()


def test_a_reader_that_has_gone_is_told_once() -> None:
    gone = threading.Event()
    read, write = os.pipe()
    os.close(read)
    try:
        written = Writer(lambda line: write_all(write, line), gone.set)
        written.put(b"1")
        assert gone.wait(DEADLINE)
        written.put(b"2")
        written.close()
        assert written.gone
    finally:
        os.close(write)


def test_a_full_disk_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with open("/dev/full", "wb") as full, caplog.at_level(logging.WARNING):
        written = Writer(lambda line: write_all(full.fileno(), line), lambda: None)
        for _ in range(50):
            written.put(b"1")
        written.close()
    assert not written.gone
    assert [record.message for record in caplog.records] == [
        "standard output: No space left on device; going on without it"
    ]


def test_more_than_a_pipe_holds_is_written_whole_also_to_one_that_does_not_block() -> None:
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
