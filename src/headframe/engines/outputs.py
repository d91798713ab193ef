"""Shows what jobs left in their outputs and checkpoint folders.

Jobs write there with hostile names and links. Everything is opened part by part from the job's folder on, without
following a link, so that no name leads out of it, not even one that is changed at the wrong moment.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headframe.base.errors import NotFound, StoreFailed
from headframe.engines.agent_disk import taken
from headframe.engines.content import Content

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_CHECKPOINTS = "checkpoints/"
_Items = list[dict[str, Any]]  # named here because `list` is a method below
_MOST_FILES = 100_000
_DEEPEST = 64
_ALL = 1 << 62
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Outputs:
    """Implements `control.ports.Outputs` in the data folder.

    Paths are those below `outputs`; checkpoints stand under `checkpoints/`, and hide outputs of that name.
    """

    def __init__(self, data: Path) -> None:
        self._jobs = data / "jobs"

    def list(self, job_id: str) -> _Items:
        """path, size_bytes and modified_us of each plain file, sorted by path; at most 100,000 of each folder."""
        found = {item["path"]: item for item in self._below(job_id, "outputs", "")}
        found.update({item["path"]: item for item in self._below(job_id, "checkpoints", _CHECKPOINTS)})
        return [found[path] for path in sorted(found)]

    def address(self, job_id: str, path: str) -> str:
        """Where the job itself finds a path of its outputs."""
        return f"file:{self._jobs.resolve() / job_id / 'outputs' / path}"

    def open(self, job_id: str, path: str) -> tuple[int, Content]:
        """(size in bytes, content); raises `NotFound` for all that is not a plain file of the job."""
        handle = -1
        if path.startswith(_CHECKPOINTS):
            handle = self._open(job_id, "checkpoints", path.removeprefix(_CHECKPOINTS))
        if handle < 0:
            handle = self._open(job_id, "outputs", path)
        if handle < 0:
            raise NotFound(f"The job has no output {path[:200]!r}.", next_step="List its outputs to see what there is.")
        content = Content(handle)
        return content.size, content

    def jobs(self) -> Sequence[str]:
        """The jobs that have a folder here, by id."""
        try:
            return sorted(name for name in os.listdir(self._jobs) if _JOB.fullmatch(name))
        except OSError:
            return []

    def size_bytes(self, job_id: str, folder: str) -> int:
        """What a job's "outputs" or "checkpoints" take on the disk. No link is followed."""
        place = self._jobs / job_id / folder
        return 0 if not _JOB.fullmatch(job_id) or place.is_symlink() else taken((place,), _ALL)

    def _below(self, job_id: str, folder: str, prefix: str) -> _Items:
        found: _Items = []
        root = self._root(job_id, folder)
        if root < 0:
            return found
        try:
            for path, folders, files, here in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                folders.sort()
                if path.count("/") >= _DEEPEST:
                    folders.clear()
                for name in sorted(files):
                    if len(found) >= _MOST_FILES:
                        return found
                    item = _item(here, name, prefix + os.path.normpath(os.path.join(path, name)))
                    if item is not None:
                        found.append(item)
        except OSError as error:
            raise StoreFailed(
                f"The outputs of {job_id} cannot be listed: {error.strerror}.", next_step="Check the machine's disk."
            ) from error
        finally:
            os.close(root)
        return found

    def _root(self, job_id: str, folder: str) -> int:
        """A descriptor of the job's folder; -1 when there is none."""
        if not _JOB.fullmatch(job_id):
            return -1
        try:
            return os.open(self._jobs / job_id / folder, _FOLDER)
        except OSError:
            return -1

    def _open(self, job_id: str, folder: str, path: str) -> int:
        """A descriptor of a plain file below the job's folder; -1 when there is none of that name."""
        *folders, name = path.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in (*folders, name)) or len(folders) > _DEEPEST:
            return -1
        here = self._root(job_id, folder)
        if here < 0:
            return -1
        try:
            for part in folders:
                above = here
                here = os.open(part, _FOLDER, dir_fd=above)
                os.close(above)
            handle = os.open(name, _FILE, dir_fd=here)
        except (OSError, UnicodeEncodeError):
            return -1
        finally:
            os.close(here)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        return -1


def _item(here: int, name: str, path: str) -> dict[str, Any] | None:
    try:
        # A name that is no text cannot be written into an answer nor asked for.
        path.encode()
        seen = os.stat(name, dir_fd=here, follow_symlinks=False)
    except (OSError, UnicodeEncodeError):
        return None
    if not stat.S_ISREG(seen.st_mode):
        return None
    return {"path": path, "size_bytes": seen.st_size, "modified_us": seen.st_mtime_ns // 1000}
