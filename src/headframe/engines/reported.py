"""What a job reports of itself: lines of `metrics.jsonl` in its outputs, read as they are added.

The file is the job's and may hold anything: it may be a link, a pipe or endless, so it is opened with care, and read a
bounded piece at a time. Standard library alone: this runs in the agent.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from headframe.metrics.names import figures_in, step_in

NAME = "metrics.jsonl"
PIECE_BYTES = 256 << 10  # of one file in one look
MOST_BYTES = 256 << 20  # of one file in one attempt; beyond it nothing more is read
LONGEST_LINE = 64 << 10
Reported = tuple[str, str, int, float | None, int | None]  # name, part, microseconds, value, step


class ReportedFile:
    """One attempt's reading of the file, from `place` on."""

    def __init__(self, path: Path, place: int = 0) -> None:
        self.path, self.place = path, place
        self._read = 0
        self._told_us = 0  # when it was last read: what has no moment of its own lies between that and now
        self._skipping = False  # the rest of a line that is too long

    def more(self, begun_us: int, now_us: int) -> list[Reported]:
        """What was added since the last time, in at most `PIECE_BYTES`."""
        if self._read >= MOST_BYTES:
            return []
        piece = self._piece()
        end = piece.rfind(b"\n") + 1
        if not end:
            if len(piece) > LONGEST_LINE:
                self._skipping, end = True, len(piece)
                self._took(end)
            return []
        self._took(end)
        lines = piece[: end - 1].split(b"\n")
        if self._skipping:
            del lines[0]
            self._skipping = False
        before_us = max(self._told_us, begun_us)
        self._told_us = now_us
        width_us = max(now_us - before_us, 0)
        return [
            one
            for number, line in enumerate(lines, 1)
            for one in figures_of(line, begun_us, before_us + width_us * number // len(lines), now_us)
        ]

    def _took(self, size: int) -> None:
        self.place += size
        self._read += size

    def _piece(self) -> bytes:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            there = os.fstat(handle)
            if not stat.S_ISREG(there.st_mode):
                return b""
            if there.st_size < self.place:  # begun anew
                self.place = 0
            return os.pread(handle, PIECE_BYTES, self.place) if there.st_size > self.place else b""
        except OSError:
            return b""
        finally:
            os.close(handle)


def size_of(path: Path) -> int:
    """Where the file ends now: what an earlier attempt has written lies before."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def figures_of(line: bytes, begun_us: int, about_us: int, now_us: int) -> list[Reported]:
    """The figures of one line; none of what is no JSON object. The job's own word on when it was (`at`, seconds since
    1970) counts as far as it lies within the attempt; else it was `about_us`."""
    if not line or len(line) > LONGEST_LINE:
        return []
    try:
        row: Any = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(row, dict):
        return []
    at, rank = row.get("at"), row.get("rank")
    at_us = about_us
    if isinstance(at, int | float) and not isinstance(at, bool) and begun_us <= at * 1e6 <= now_us:
        at_us = int(at * 1e6)
    part = str(rank) if type(rank) is int and 0 < rank < 1_000_000 else ""
    step = step_in(row.get("step"))
    return [(name, part, at_us, value, step) for name, value in figures_in(row)]
