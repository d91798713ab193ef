"""Brings what tasks wrote on a cluster's nodes into the logs of their jobs.

A task writes into two files of its run folder, on the shared file system; here they are moved into the job's log, each
byte once. How far that has come stands beside the log, as of a certain end of it: what is behind that end was moved by
a server that died before it could note so, and the log's own index says whose bytes they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import threading
from pathlib import Path

from headframe.engines.agent_state import Folders, now_us
from headframe.engines.joblog import STREAMS, LogWriter, segment_starts
from headframe.engines.joblog_reader import open_segment
from headframe.engines.slurm_plain import open_plain

CHUNK_BYTES = 256 << 10
PUNCH_BYTES = 8 << 20  # so much of a file that has been moved is given back to the disk at once
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_LIBC = ctypes.CDLL(None, use_errno=True)


class JobLog:
    """One job's log, with all that its attempts on the cluster write. Every call may come from any thread."""

    def __init__(self, folders: Folders, job_id: str, bound: int) -> None:
        self._folders, self._job_id, self._bound = folders, job_id, bound
        self._lock = threading.Lock()
        self._writer: LogWriter | None = None
        self._moved: dict[str, int] = {}  # "attempt.rank.stream" -> bytes
        self._noted = folders.log(job_id) / "moved.json"

    def say(self, text: str, attempt: int, stream: str = "system") -> None:
        """A line of ours."""
        with self._lock:
            writer = self._open()
            writer.say(text, attempt, stream=stream)
            self._note(writer)

    def bring(self, attempt: int, ranks: list[int]) -> bool:
        """Move all that is there now; whether that was anything."""
        grew = False
        for rank in ranks:
            for stream in (0, 1):
                while self._move(attempt, rank, stream):
                    grew = True
        return grew

    def close(self) -> None:
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _move(self, attempt: int, rank: int, stream: int) -> bool:
        """One chunk; False when there is no more."""
        folder, names = self._folders.attempt(self._job_id, attempt), (str(rank), "run", STREAMS[stream])
        key = f"{attempt}.{rank}.{stream}"
        with self._lock:
            moved = self._moved.get(key, 0) if self._writer is not None else -1
            try:
                size = folder.joinpath(*names).lstat().st_size
                if size == moved or (size == 0 and moved < 0):
                    return False
                writer = self._open()
                moved = self._moved.get(key, 0)
                with open(open_plain(folder, *names, flags=os.O_RDWR), "r+b", buffering=0) as file:
                    size = os.fstat(file.fileno()).st_size  # as of the opening, which asks the file server
                    if size < moved:
                        writer.say("some output was cut here: the task has truncated it", attempt, rank)
                        moved = self._moved[key] = 0
                    chunk = os.pread(file.fileno(), CHUNK_BYTES, moved)
                    if not chunk:
                        return False
                    writer.put(chunk, attempt, rank, stream)
                    self._moved[key] = moved + len(chunk)
                    self._note(writer)
                    if (moved + len(chunk)) // PUNCH_BYTES > moved // PUNCH_BYTES:
                        _give_back(file.fileno(), (moved + len(chunk)) // PUNCH_BYTES * PUNCH_BYTES)
            except OSError:
                return False  # gone, or the disk is full: what waits there is moved later
        return True

    def _open(self) -> LogWriter:
        if self._writer is not None:
            return self._writer
        writer = self._writer = LogWriter(self._folders.log(self._job_id), now_us, self._bound)
        self._moved, end = {}, 0
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            noted = json.loads(self._noted.read_text())
            self._moved, end = {str(key): int(value) for key, value in noted["moved"].items()}, int(noted["end"])
        for (attempt, rank, stream), count in _owners(self._folders.log(self._job_id), end).items():
            key = f"{attempt}.{rank}.{stream}"
            self._moved[key] = self._moved.get(key, 0) + count
        return writer

    def _note(self, writer: LogWriter) -> None:
        """In one small write, so that it is never found half-done by a later server."""
        text = json.dumps({"end": writer.end, "moved": self._moved}).encode()
        fresh = self._noted.with_suffix(".new")
        fresh.write_bytes(text)
        fresh.replace(self._noted)


def _owners(folder: Path, position: int) -> dict[tuple[int, int, int], int]:
    """How many bytes behind `position` belong to each (attempt, rank, stream) of tasks."""
    found: dict[tuple[int, int, int], int] = {}
    for start in segment_starts(folder):
        segment = open_segment(folder, start)
        if segment is None:
            continue
        try:
            position = max(position, segment.start)
            while position < segment.end:
                mark, until, _damaged = segment.run(position)
                if mark.stream < 2:
                    found[mark.owner] = found.get(mark.owner, 0) + until - position
                position = until
        finally:
            segment.close()
    return found


def _give_back(handle: int, until: int) -> None:
    """Free the blocks at a file's beginning, where the file system can; its size stays."""
    with contextlib.suppress(OSError, AttributeError):
        _LIBC.fallocate(handle, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(until))
