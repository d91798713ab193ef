"""The log of a job on disk, the writing side: one logical run of bytes over all its attempts, tasks and streams.

In the log's folder lie segments: `<start offset, 20 digits>.raw` holds the bytes, `.idx` one fixed record for each
piece: where it starts, when, whose it is. A piece reaches to the start of the next one, the last to the end of the
bytes. The record is written before the bytes, and the kernel moves the bytes from the pipe into the file in one step
(`splice`), so a writer that is killed anywhere leaves no gap, no duplicate and no byte without an owner, and there is
nothing to repair.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STREAMS = ("stdout", "stderr", "system", "progress")
DEFAULT_BOUND = 64 << 20  # bytes of one job's log on the disk
SEGMENTS = 8  # the bound is cut into so many: the first and the newest seven stay
MERGE_US = 20_000  # output within this span becomes one piece, unless a line ends

_BODY = struct.Struct("<QQIIB3x")  # offset, at_us, attempt, rank, stream
RECORD = _BODY.size + 4  # with a CRC-32 behind


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a piece starts and whose it is."""

    offset: int
    at_us: int
    attempt: int
    rank: int
    stream: int

    @property
    def owner(self) -> tuple[int, int, int]:
        return (self.attempt, self.rank, self.stream)


def pack(mark: Mark) -> bytes:
    body = _BODY.pack(mark.offset, mark.at_us, mark.attempt, mark.rank, mark.stream)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(record: bytes) -> Mark | None:
    """The mark, or None when the record is damaged."""
    body = record[: _BODY.size]
    if len(record) != RECORD or zlib.crc32(body) != int.from_bytes(record[_BODY.size :], "little"):
        return None
    mark = Mark(*_BODY.unpack(body))
    return mark if mark.stream < len(STREAMS) else None


def segment_starts(folder: Path) -> list[int]:
    """Start offsets of the segments, ascending."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[:20]) for name in names if len(name) == 24 and name.endswith(".raw") and name[:20].isdigit())


def raw_path(folder: Path, start: int) -> Path:
    return folder / f"{start:020d}.raw"


def index_path(folder: Path, start: int) -> Path:
    return folder / f"{start:020d}.idx"


class LogWriter:
    """Appends to a job's log. One writer at a time: the agent holds the lock of the data folder."""

    def __init__(self, folder: Path, now_us: Callable[[], int], bound: int = DEFAULT_BOUND) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._now_us = now_us
        self._segment_bytes = max(4096, bound // SEGMENTS)
        self._owner: tuple[int, int, int] | None = None
        self._piece_us = 0
        self._line_open = False
        self._raw = self._index = -1
        starts = segment_starts(folder)
        self._open(starts[-1] if starts else 0)

    def _open(self, start: int) -> None:
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._index = os.open(index_path(self.folder, start), flags | os.O_APPEND, 0o600)
        self._raw = os.open(raw_path(self.folder, start), flags, 0o600)
        self._start = start
        self.end = start + os.fstat(self._raw).st_size
        self._owner = None
        size = os.fstat(self._index).st_size // RECORD * RECORD
        # After a loss of power the index may know more than the bytes: marks behind the end would claim later bytes.
        while size:
            mark = unpack(os.pread(self._index, RECORD, size - RECORD))
            if mark is None or mark.offset <= self.end:
                break
            size -= RECORD
        os.ftruncate(self._index, size)
        self._marked = size

    def close(self) -> None:
        for handle in (self._raw, self._index):
            if handle >= 0:
                os.close(handle)
        self._raw = self._index = -1

    def _begin(self, owner: tuple[int, int, int]) -> None:
        """Begin a new piece unless what comes goes on with the one before."""
        now = self._now_us()
        if self._room() <= RECORD and self.end > self._start:
            self._open(self.end)
            self._drop_middle()
        if owner == self._owner and self._line_open and 0 <= now - self._piece_us < MERGE_US:
            return
        self._marked += os.write(self._index, pack(Mark(self.end, now, *owner)))
        self._owner, self._piece_us = owner, now

    def _room(self) -> int:
        """How many bytes the segment still takes, with what says whose they are."""
        return self._segment_bytes - self._marked - (self.end - self._start)

    def _drop_middle(self) -> None:
        for start in segment_starts(self.folder)[1 : -(SEGMENTS - 1)]:
            for path in (index_path(self.folder, start), raw_path(self.folder, start)):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def take(self, pipe: int, attempt: int, rank: int, stream: int, limit: int) -> int:
        """Move up to `limit` bytes from a pipe; 0 at its end; `BlockingIOError` when it is empty for now."""
        self._begin((attempt, rank, stream))
        limit = min(limit, max(1, self._room()))
        try:
            moved = os.splice(pipe, self._raw, limit, offset_dst=self.end - self._start, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            self._owner = None
            raise
        except OSError as problem:
            if problem.errno not in (22, 38, 95):  # EINVAL, ENOSYS, EOPNOTSUPP: a file system that cannot splice
                self._owner = None
                raise
            chunk = os.read(pipe, limit)
            os.pwrite(self._raw, chunk, self.end - self._start)
            moved = len(chunk)
        self.end += moved
        self._line_open = moved > 0 and os.pread(self._raw, 1, self.end - self._start - 1) != b"\n"
        return moved

    def put(self, content: bytes, attempt: int, rank: int, stream: int) -> None:
        """Append what a task has written elsewhere."""
        view = memoryview(content)
        while view:
            self._begin((attempt, rank, stream))
            written = os.pwrite(self._raw, view[: max(1, self._room())], self.end - self._start)
            self.end += written
            self._line_open = view[written - 1] != 0x0A
            view = view[written:]

    def say(self, text: str, attempt: int, rank: int = 0, stream: str = "system") -> None:
        """Append lines of our own."""
        self._owner = None
        content = text.encode("utf-8", "replace") if text.endswith("\n") else text.encode("utf-8", "replace") + b"\n"
        self.put(content, attempt, rank, STREAMS.index(stream))
        self._owner = None
