"""How much of the disk jobs take: beyond its bound a job is ended, before it fills the disk for everybody.

A walk through a job's folders is dear, so most looks ask the file system alone: as long as less was written on the
whole disk since the last walk than a job had left then, that job cannot be beyond its bound. As others may have removed
something meanwhile, a job is walked through now and then all the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from headframe.engines.agent_roles import Holding

JOB_BYTES = 100 << 30  # what a job may write unless told otherwise
WALK_SECONDS = 600.0  # so old may be what is known of a job
ENTRY_BYTES = 1024  # the least that a file or folder counts, as the disk has room for so many only
GRACE_US = 10_000_000


def taken(folders: Iterable[Path], limit: int) -> int:
    """Bytes on the disk of all that lies in some folders; it stops counting beyond `limit`. No link is followed.

    What cannot be looked into (gone meanwhile, too deep for a path) counts as one entry: the job may be at work.
    """
    whole = 0
    pending = [os.fspath(folder) for folder in folders]
    while pending and whole <= limit:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                whole += ENTRY_BYTES
                with contextlib.suppress(OSError):
                    seen = entry.stat(follow_symlinks=False)
                    folder = entry.is_dir(follow_symlinks=False)
                    # A file with several names, such as one that was uploaded, is shared by them.
                    names = 1 if folder else max(seen.st_nlink, 1)
                    whole += max(seen.st_blocks * 512 - ENTRY_BYTES, 0) // names
                    if folder:
                        pending.append(entry.path)
                if whole > limit:
                    break
    return whole


@dataclass(slots=True)
class Walked:
    """What the last walk through a job's folders found, and how full the disk was then."""

    bytes: int
    disk_bytes: int
    at: float


class Disk:
    """The looks at the disk. Belongs to the loop's thread; walks are done on another, one at a time."""

    def __init__(
        self,
        data: Path,
        limit_bytes: int,
        in_thread: Callable[[Callable[[], None]], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._data, self._limit = data, limit_bytes
        self._in_thread, self._post = in_thread, post
        self._known: dict[str, Walked] = {}
        self._walking = False

    def look(self, held: Iterable[Holding]) -> None:
        """Look at all that run; walk through those that could be beyond their bound."""
        running = {one.record.allocation_id: one for one in held if one.active and not one.preparing}
        self._known = {name: known for name, known in self._known.items() if name in running}
        if not running or self._walking:
            return
        there = os.statvfs(self._data)
        disk_bytes = (there.f_blocks - there.f_bfree) * there.f_frsize
        doubtful = [one for name, one in sorted(running.items()) if self._may_be_beyond(name, one, disk_bytes)]
        if doubtful:
            self._walking = True
            self._in_thread(lambda: self._walk(doubtful, disk_bytes))

    def bound(self, held: Holding) -> int:
        """What a job may take: what it asked for, where that is more than the bound of all."""
        return max(self._limit, held.record.disk_mib << 20)

    def _may_be_beyond(self, name: str, held: Holding, disk_bytes: int) -> bool:
        known = self._known.get(name)
        if known is None or time.monotonic() - known.at > WALK_SECONDS:
            return True
        return known.bytes + disk_bytes - known.disk_bytes > self.bound(held)

    def _walk(self, doubtful: list[Holding], disk_bytes: int) -> None:
        found: list[tuple[Holding, int]] = []
        try:
            for one in doubtful:
                record, folders = one.record, one.host.folders
                job = folders.job(record.job_id)
                own = (folders.attempt(record.job_id, record.generation), job / "outputs", job / "checkpoints")
                found.append((one, taken(own, self.bound(one))))
        finally:
            self._post(lambda: self._walked(found, disk_bytes))

    def _walked(self, found: list[tuple[Holding, int]], disk_bytes: int) -> None:
        self._walking = False
        for held, whole in found:
            self._known[held.record.allocation_id] = Walked(whole, disk_bytes, time.monotonic())
            bound = self.bound(held)
            if whole > bound and held.active and not held.record.beyond:
                text = f"disk_limit: its work folders, outputs and checkpoints hold more than {bound >> 20} MiB"
                held.end_beyond(text, GRACE_US)
