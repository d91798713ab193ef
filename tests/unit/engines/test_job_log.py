"""The log on disk: order, owners, bounds, damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.engines.joblog import RECORD, LogWriter
from headframe.engines.joblog_reader import log_end, log_tail, read_log


class Pen:
    """Writes through a pipe, as tasks do, on a clock of its own."""

    def __init__(self, folder: Path, bound: int = 64 << 20) -> None:
        self.now_us = 1_000_000
        self.folder, self.bound = folder, bound
        self.writer = LogWriter(folder, lambda: self.now_us, bound)
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)

    def write(self, content: bytes, *, attempt: int = 1, rank: int = 0, stream: int = 0) -> None:
        self.now_us += 30_000
        os.write(self.write_end, content)
        left = len(content)
        while left:
            left -= self.writer.take(self.read_end, attempt, rank, stream, 1 << 16)

    def close(self) -> None:
        self.writer.close()
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def pen(tmp_path: Path) -> Iterator[Pen]:
    pen = Pen(tmp_path / "log")
    yield pen
    pen.close()


def whole(folder: Path, limit: int) -> str:
    """The text as a reader in small steps finds it; every piece begins where the one before ended."""
    text, offset = "", 0
    while True:
        pieces, following = read_log(folder, offset, limit)
        for piece in pieces:
            assert piece.offset == offset
            offset = piece.next
            text += piece.text
        assert offset == following
        if not pieces:
            return text


def test_pieces_say_whose_they_are_and_when(pen: Pen) -> None:
    pen.write(b"one\n")
    pen.write(b"two\n", attempt=2, rank=3, stream=1)
    pen.writer.say("three", attempt=2)
    pieces, following = read_log(pen.folder, 0, 1000)
    assert [(piece.attempt, piece.rank, piece.stream, piece.text) for piece in pieces] == [
        (1, 0, "stdout", "one\n"),
        (2, 3, "stderr", "two\n"),
        (2, 0, "system", "three\n"),
    ]
    assert [piece.at_us for piece in pieces] == [1_030_000, 1_060_000, 1_060_000]
    assert following == log_end(pen.folder) == 14


@pytest.mark.parametrize("limit", [1, 7, 4096, 1 << 20])
def test_characters_are_never_torn(pen: Pen, limit: int) -> None:
    text = "".join(f"{number} äöü€🎉" for number in range(2000))
    content = text.encode()
    for start in range(0, len(content), 997):
        pen.write(content[start : start + 997])
    assert whole(pen.folder, limit) == text


def test_bytes_that_are_no_text_are_shown_as_such(pen: Pen) -> None:
    pen.write(b"\xff\xfe ok \xf0\x9f")
    assert whole(pen.folder, 1000) == "\ufffd\ufffd ok \ufffd"


def test_beyond_its_bound_the_middle_is_cut_visibly(tmp_path: Path) -> None:
    pen = Pen(tmp_path, bound=64 << 10)
    lines = [f"line {number:06d}\n" for number in range(20_000)]
    for start in range(0, len(lines), 100):
        pen.write("".join(lines[start : start + 100]).encode())
    text = whole(tmp_path, 5000)
    head, _, tail = text.partition("[")
    assert head == "".join(lines[: head.count("\n")])
    assert "bytes of output were cut here" in tail
    assert text.endswith(lines[-1])
    assert sum(path.stat().st_size for path in tmp_path.glob("*.raw")) <= 64 << 10
    assert log_end(tmp_path) == sum(map(len, lines))
    pen.close()


def test_a_character_between_two_segments_is_not_torn(tmp_path: Path) -> None:
    pen = Pen(tmp_path, bound=32 << 10)
    for _ in range(12):
        pen.write(b"x" + "äöü€🎉".encode() * 100)
    assert len(list(tmp_path.glob("*.raw"))) > 2
    assert whole(tmp_path, 1 << 20) == ("x" + "äöü€🎉" * 100) * 12
    pen.close()


@pytest.mark.parametrize("content", [b"x" * (60 << 10), b"y\n"])
def test_the_bound_holds_for_endless_lines_and_for_tiny_ones(tmp_path: Path, content: bytes) -> None:
    """What says whose the bytes are counts too: of tiny pieces it is far more than the bytes."""
    bound = 64 << 10
    pen = Pen(tmp_path, bound)
    for _ in range(6000 if len(content) < 10 else 10):
        pen.write(content)
        pen.now_us -= 30_000  # all at one moment
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= bound
    assert whole(tmp_path, 5000).endswith(content[-1000:].decode())
    pen.close()


def test_the_tail_begins_at_a_line(pen: Pen) -> None:
    pen.write(b"one\ntwo\nthree\nfour")
    for lines, expected in ((1, "four"), (2, "three\nfour"), (9, "one\ntwo\nthree\nfour")):
        assert "".join(piece.text for piece in read_log(pen.folder, log_tail(pen.folder, lines), 100)[0]) == expected
    assert read_log(pen.folder / "none", 0, 10) == ([], 0)


def test_the_next_writer_goes_on_where_the_last_was_killed(pen: Pen) -> None:
    pen.write(b"one\n")
    with open(pen.folder / f"{0:020d}.idx", "ab") as index:
        index.write(b"torn")  # a record that was being written
    pen.writer.close()
    pen.writer = LogWriter(pen.folder, lambda: pen.now_us)
    pen.write(b"two\n", stream=1)
    assert [(piece.stream, piece.text) for piece in read_log(pen.folder, 0, 100)[0]] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
    ]


@pytest.mark.parametrize("record", [0, 1, 2])
def test_a_damaged_index_is_told_and_read_over(pen: Pen, record: int) -> None:
    for line in (b"one\n", b"two\n", b"three\n"):
        pen.write(line)
    with open(pen.folder / f"{0:020d}.idx", "r+b") as index:
        index.seek(record * RECORD + 3)
        index.write(b"\xff\xff")
    pieces, _next = read_log(pen.folder, 0, 1000)
    assert "".join(
        piece.text for piece in pieces if piece.stream == "stdout" or not piece.text.startswith("[")
    ).endswith("one\ntwo\nthree\n")
    assert any("damaged" in piece.text for piece in pieces)


def test_missing_bytes_are_told(pen: Pen) -> None:
    pen.write(b"one\n")
    (pen.folder / f"{0:020d}.raw").rename(pen.folder / f"{100:020d}.raw")
    assert "cut" in read_log(pen.folder, 0, 1000)[0][0].text
