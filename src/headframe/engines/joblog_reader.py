"""The log of a job on disk, the reading side: pieces by offset, without locks, beside the writer.

What cannot be read (a cut middle, a damaged index, missing bytes) becomes a visible piece of the stream "system";
reading goes on behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headframe.control.ports import LogPiece
from headframe.engines.joblog import RECORD, STREAMS, Mark, index_path, raw_path, segment_starts, unpack

PIECE_BYTES = 64 << 10  # the longest piece
_SYSTEM = STREAMS.index("system")


@dataclass(slots=True)
class Segment:
    """One open pair of files."""

    start: int
    end: int
    raw: int
    index: int
    marks: int  # how many records the index holds

    def close(self) -> None:
        os.close(self.raw)
        if self.index >= 0:
            os.close(self.index)

    def mark(self, number: int) -> Mark | None:
        """The mark with this number, or None when it is damaged or lies outside of the segment."""
        if self.index < 0 or not 0 <= number < self.marks:
            return None
        mark = unpack(os.pread(self.index, RECORD, number * RECORD))
        return mark if mark is not None and self.start <= mark.offset <= self.end else None

    def find(self, position: int) -> int:
        """The number of the last sound mark that starts at or before `position`; -1 when there is none."""
        low, high, best = 0, self.marks - 1, -1
        while low <= high:
            middle = (low + high) // 2
            sound = middle
            while sound >= low and self.mark(sound) is None:
                sound -= 1
            mark = self.mark(sound) if sound >= low else None
            if mark is None:
                low = middle + 1  # everything up to the middle is damaged
            elif mark.offset <= position:
                best, low = sound, middle + 1
            else:
                high = sound - 1
        return best

    def run(self, position: int) -> tuple[Mark, int, bool]:
        """Whose byte stands at `position`, up to where, and whether a damaged record lies in between."""
        number = self.find(position)
        mark = self.mark(number) if number >= 0 else None
        damaged = mark is None
        until, following = self.end, number + 1
        while following < self.marks:
            after = self.mark(following)
            if after is None:
                damaged = True
            elif after.offset > position:
                until = after.offset
                break
            elif mark is None or after.offset >= mark.offset:
                mark = after
            following += 1
        return mark or Mark(position, 0, 0, 0, _SYSTEM), until, damaged


def open_segment(folder: Path, start: int) -> Segment | None:
    try:
        raw = os.open(raw_path(folder, start), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # dropped just now
    try:
        index = os.open(index_path(folder, start), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        index = -1
    # The bytes first, then the index: a mark is written before its bytes, so every byte seen has its mark.
    end = start + os.fstat(raw).st_size
    marks = os.fstat(index).st_size // RECORD if index >= 0 else 0
    return Segment(start, end, raw, index, marks)


class _Reading:
    """One call of `read`: collects pieces until the budget is used up."""

    def __init__(self, position: int, limit: int) -> None:
        self.position = position
        self.budget = limit
        self.pieces: list[LogPiece] = []
        self.at_us = 0
        self.owner = (0, 0, _SYSTEM)
        self.carried = b""  # the beginning of a character that the next piece of the same owner may complete

    def wants_more(self) -> bool:
        """A character that has only begun is worth going on for when nothing else was read."""
        return self.budget > 0 or (bool(self.carried) and not self.pieces)

    def note(self, text: str, until: int) -> None:
        """Say something in the log's place from `position` to `until`."""
        self._flush()
        self.pieces.append(
            LogPiece(self.position, until, self.at_us, self.owner[0], self.owner[1], "system", f"[{text}]\n")
        )
        self.position = until

    def add(self, mark: Mark, content: bytes) -> None:
        if mark.owner != self.owner:
            self._flush()
        self.owner, self.at_us = mark.owner, mark.at_us
        start = self.position - len(self.carried)
        content = self.carried + content
        whole = len(content) - _unfinished(content)
        self.position = start + len(content)
        self.budget -= len(content)
        self.carried = content[whole:]
        if whole:
            self._append(start, content[:whole])

    def _append(self, start: int, content: bytes) -> None:
        attempt, rank, stream = self.owner
        text = content.decode("utf-8", "replace")
        self.pieces.append(LogPiece(start, start + len(content), self.at_us, attempt, rank, STREAMS[stream], text))

    def _flush(self) -> None:
        if self.carried:
            start = self.position - len(self.carried)
            self._append(start, self.carried)
            self.carried = b""

    def finish(self) -> tuple[list[LogPiece], int]:
        """An unfinished character at the end waits for its rest, unless nothing else was read."""
        if not self.pieces:
            self._flush()
        return self.pieces, self.position - len(self.carried)


def _unfinished(content: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not complete."""
    for back in range(1, min(3, len(content)) + 1):
        byte = content[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < need else 0
    return 0


def _read_segment(reading: _Reading, segment: Segment) -> None:
    while reading.position < segment.end and reading.wants_more():
        mark, until, damaged = segment.run(reading.position)
        # Said once, where the run begins, whatever offset the reader comes from.
        if damaged and reading.position in (mark.offset, segment.start):
            reading.note("the index of the log is damaged here: times and streams may be wrong", reading.position)
        size = min(until - reading.position, max(reading.budget, 4096), PIECE_BYTES)
        content = os.pread(segment.raw, size, reading.position - segment.start)
        if not content:
            reading.note("the log cannot be read here", segment.end)
            return
        if len(content) == size < until - reading.position:
            content = content[: content.rfind(b"\n") + 1] or content
        reading.add(mark, content)


def read_log(folder: Path, offset: int, limit: int) -> tuple[list[LogPiece], int]:
    """Pieces from `offset` on, about `limit` bytes of them, and the offset to go on from."""
    reading = _Reading(max(0, offset), limit)
    for start, following in _segments(folder):
        if following is not None and following <= reading.position:
            continue
        if not reading.wants_more():
            break
        segment = open_segment(folder, start)
        if segment is None:
            continue
        try:
            if reading.position < segment.start:
                cut = segment.start - reading.position
                reading.note(f"{cut} bytes of output were cut here: the log had reached its bound", segment.start)
            _read_segment(reading, segment)
        except OSError as problem:
            reading.note(f"the log cannot be read here: {problem.strerror}", max(segment.end, reading.position))
        finally:
            segment.close()
    return reading.finish()


def _segments(folder: Path) -> list[tuple[int, int | None]]:
    starts = segment_starts(folder)
    return list(zip(starts, [*starts[1:], None], strict=False))


def log_end(folder: Path) -> int:
    """The offset behind the last byte."""
    for start in reversed(segment_starts(folder)):
        try:
            return start + raw_path(folder, start).stat().st_size
        except FileNotFoundError:
            continue
    return 0


def log_tail(folder: Path, lines: int) -> int:
    """The offset from which about the last `lines` lines can be read; never crosses a cut."""
    end = log_end(folder)
    position, wanted = end, lines + 1  # the newline before the first line wanted
    for start in reversed(segment_starts(folder)):
        segment = open_segment(folder, start)
        if segment is None:
            continue
        try:
            if segment.end < position:
                return position
            while position > segment.start:
                size = min(PIECE_BYTES, position - segment.start)
                block = os.pread(segment.raw, size, position - size - segment.start)
                if position == end and not block.endswith(b"\n"):
                    wanted -= 1  # the last line is still open
                found = _nth_newline_from_end(block, wanted)
                if found >= 0:
                    return position - size + found + 1
                wanted -= block.count(b"\n")
                position -= size
        finally:
            segment.close()
    return position


def _nth_newline_from_end(block: bytes, count: int) -> int:
    """Where the `count`-th newline from the end stands in the block; -1 when it holds fewer."""
    if count <= 0:
        return len(block) - 1
    position = len(block)
    for _one in range(count):
        position = block.rfind(b"\n", 0, position)
        if position < 0:
            return -1
    return position


class Follows:
    """Who wants to know when a job's log grows. `tell` is asked to begin (True) or end (False) telling of a job."""

    def __init__(self, tell: Callable[[str, bool], None]) -> None:
        self._tell = tell
        self._wakes: dict[str, dict[int, Callable[[], None]]] = {}
        self._next = 0

    def jobs(self) -> list[str]:
        return sorted(self._wakes)

    def add(self, job_id: str, wake: Callable[[], None]) -> int:
        self._next += 1
        first = job_id not in self._wakes
        self._wakes.setdefault(job_id, {})[self._next] = wake
        if first:
            self._tell(job_id, True)
        return self._next

    def drop(self, job_id: str, number: int) -> None:
        wakes = self._wakes.get(job_id, {})
        if wakes.pop(number, None) is not None and not wakes:
            del self._wakes[job_id]
            self._tell(job_id, False)

    def wakes(self, job_id: str) -> list[Callable[[], None]]:
        return list(self._wakes.get(job_id, {}).values())
