"""Removes folders that jobs have filled: however deep they are, and while the job may still be at it.

`shutil.rmtree` calls itself for every level, so that a tree of a thousand ends it with a RecursionError. Here every
folder is moved up before it is emptied; nothing but what can be reached through open descriptors is ever touched.
"""

from __future__ import annotations

import itertools
import os

MOVED = ".removed."  # the beginning of the names that folders have meanwhile; an interrupted removal leaves such
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(here: int, name: str) -> None:
    """Remove a folder in the open folder `here`, with all that is in it. Raises `OSError` when something stays."""
    taken = set(os.listdir(here))
    fresh = (spare for number in itertools.count() if (spare := f"{MOVED}{number}") not in taken)
    pending = [name]
    while pending:
        current = pending.pop()
        handle = os.open(current, _FOLDER, dir_fd=here)
        try:
            with os.scandir(handle) as entries:
                for entry in list(entries):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(next(fresh))
                        os.rename(entry.name, pending[-1], src_dir_fd=handle, dst_dir_fd=here)
                    else:
                        os.unlink(entry.name, dir_fd=handle)
        finally:
            os.close(handle)
        os.rmdir(current, dir_fd=here)
