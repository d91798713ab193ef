"""Files in the folder of an attempt, which may be a Unix user's own: whatever that user puts there in their place, no
link is followed, nothing is waited for, and no more is read than such a file can hold.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_plain(folder: Path, *names: str, flags: int = os.O_RDONLY) -> int:
    """Open the file that these names lead to from a folder; raises `OSError`, also for all that is no plain file."""
    above = os.open(folder, _FOLDER)
    try:
        for name in names[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=above)
            os.close(above)
            above = inner
        found = os.open(names[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    seen = os.fstat(found)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
        os.close(found)
        raise OSError(errno.EINVAL, "is no plain file", names[-1])
    return found


def read_plain(folder: Path, *names: str) -> tuple[str, int]:
    """Its text, and when it was written (microseconds); raises `OSError`. It is opened, so that the file server is
    asked."""
    with open(open_plain(folder, *names), "rb") as file:
        return file.read(MOST_BYTES).decode("utf-8", "replace"), os.fstat(file.fileno()).st_mtime_ns // 1000
