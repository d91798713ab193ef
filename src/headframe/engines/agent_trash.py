"""Folders of attempts that are done with: put aside at once, removed when the machine is quiet.

Removing them at once is what slows a burst most: ext4 looks at every inode that was freed in the last minutes before it
gives out a new one, so that a thousand removals make each following start milliseconds dearer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from headframe.engines.removal import remove_tree

QUIET_SECONDS = 5.0  # without a launch, before removal begins
MOST = 20_000  # folders kept aside; beyond that they are removed whatever goes on


class Trash:
    """A folder beside the jobs', on the same file system. What a dead agent left in it, the next one removes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.count = len(os.listdir(folder))
        self._launched = 0.0

    def launched(self) -> None:
        """Something starts: removal waits."""
        self._launched = time.monotonic()

    def put(self, path: Path, name: str) -> None:
        """Take a folder out of the way; `name` is unique. One that is not there is no matter."""
        try:
            os.rename(path, self._folder / name)
            self.count += 1
        except FileNotFoundError:
            return
        except OSError:
            above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):
                remove_tree(above, path.name)
            os.close(above)

    def is_due(self) -> bool:
        """Whether to remove now."""
        return self.count > MOST or time.monotonic() - self._launched >= QUIET_SECONDS

    def sweep(self, tell: Callable[[int], None]) -> None:
        """Remove what is there while it is due (in a thread of its own); `tell` hears how many were removed."""
        removed = 0
        here = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(here):
                if not self.is_due():
                    break
                with contextlib.suppress(OSError):
                    remove_tree(here, name)
                removed += 1
        finally:
            os.close(here)
        tell(removed)
