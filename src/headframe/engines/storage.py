"""What lies in the data folder: how much of each kind, and the removal of what jobs that are over have left."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headframe.base.errors import StoreFailed
from headframe.control.ports import Stored
from headframe.engines import shelf
from headframe.engines.agent_disk import taken
from headframe.engines.removal import remove_tree

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ALL = 1 << 62
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LOG = "log"
RESULTS = ("outputs", "checkpoints")  # a job's "files"; its "logs" are its log and the working folders of attempts
_OF_JOBS = {LOG: "logs"} | {name: name for name in RESULTS}
_BESIDE = {"blobs": "uploads", "datasets": "datasets", "columns": "columns"}


class Storage:
    """Implements `control.ports.Storage`. Jobs may have left hostile names and links: none is followed."""

    def __init__(self, data: Path) -> None:
        self._data, self._jobs, self._envs = data, data / "jobs", data / "envs"

    def piles(self) -> Sequence[Stored]:
        """How much there is of each kind, in a fixed order."""
        sizes: dict[str, list[int]] = {}

        def add(kind: str, size: int) -> None:
            sizes.setdefault(kind, []).append(size)

        for path in sorted(self._data.glob("headframe.db*")):
            with contextlib.suppress(OSError):
                add("store", path.stat().st_size)
        for job_id in self.jobs():
            for name in self._left(job_id):
                size = self._size(job_id, [name])
                if size:
                    add(_OF_JOBS.get(name, "working folders"), size)
        for one in shelf.standing(self._envs):
            add(one.kind, one.bytes)
        for name, kind in _BESIDE.items():
            if (self._data / name).is_dir():
                for path in sorted((self._data / name).iterdir()):
                    add(kind, taken((path,), _ALL) if path.is_dir() else path.stat().st_size)
        return [Stored(kind, bytes=sum(each), count=len(each)) for kind, each in sizes.items()]

    def jobs(self) -> Sequence[str]:
        """The jobs that have a folder here, by id."""
        try:
            with os.scandir(self._jobs) as entries:
                folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(name for name in folders if _JOB.fullmatch(name))

    def has(self, job_id: str, kind: str) -> bool:
        """Whether a job has "logs" or "files"."""
        return next(self._of(job_id, kind), None) is not None

    def size_bytes(self, job_id: str, kind: str) -> int:
        """How much room they take; 0 for folders with nothing in them."""
        return self._size(job_id, self._of(job_id, kind))

    def remove(self, job_id: str, kind: str) -> None:
        """Remove them, and the job's folder with the last of it."""
        try:
            here = os.open(self._jobs / job_id, _FOLDER)
        except OSError:
            return
        try:
            for name in self._of(job_id, kind):
                try:
                    os.unlink(name, dir_fd=here)
                except IsADirectoryError:
                    remove_tree(here, name)
        except OSError as error:
            raise StoreFailed(
                f"What the job {job_id} left cannot be removed: {error.strerror}.",
                next_step=f"See who may write in {self._jobs / job_id}.",
            ) from error
        finally:
            os.close(here)
        with contextlib.suppress(OSError):  # something is left
            os.rmdir(self._jobs / job_id)

    def environments(self) -> Sequence[Stored]:
        """The environments and package caches that are there."""
        return shelf.standing(self._envs)

    def remove_environment(self, one: Stored) -> bool:
        """Remove one of them; False when it was used meanwhile."""
        try:
            return shelf.clear(self._envs, one)
        except OSError as error:
            raise StoreFailed(
                f"The environment {one.subject} cannot be removed: {error.strerror}.",
                next_step=f"See who may write in {self._envs / one.organization_id}.",
            ) from error

    def _size(self, job_id: str, names: Iterable[str]) -> int:
        places = (self._jobs / job_id / name for name in names)
        return taken((place for place in places if not place.is_symlink()), _ALL)

    def _left(self, job_id: str) -> list[str]:
        try:
            return sorted(os.listdir(self._jobs / job_id)) if _JOB.fullmatch(job_id) else []
        except OSError:
            return []

    def _of(self, job_id: str, kind: str) -> Iterator[str]:
        return (name for name in self._left(job_id) if (name in RESULTS) is (kind == "files"))
