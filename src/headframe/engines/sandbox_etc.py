"""The /etc that tasks see: copies of the few files of the machine that programs need, in one folder for each user.

One folder means one mount: twenty single ones would take longer than all the rest of a task's start.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

REFRESH_SECONDS = 30.0  # name servers and certificates may change under a running agent
_NAMES = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf",
    "ssl", "ca-certificates", "pki", "localtime", "timezone", "alternatives", "mime.types", "protocols", "services",
    "OpenCL", "vulkan", "profile",
)  # fmt: skip


class Etc:
    """The folders, made on demand and kept fresh. `uid` None: tasks run as ourselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked: dict[int | None, float] = {}
        self._lock = threading.Lock()  # tasks are prepared by several threads

    def of(self, uid: int | None) -> Path:
        """The folder for tasks of a user."""
        with self._lock:
            return self._fresh(uid)

    def _fresh(self, uid: int | None) -> Path:
        folder = self._folder / ("own" if uid is None else str(uid))
        looked = self._looked.get(uid)
        if looked is None or time.monotonic() - looked > REFRESH_SECONDS:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            names = _NAMES if uid is not None else (*_NAMES, "passwd", "group")
            for name in names:
                # What is only a link at the top (resolv.conf often is) may lead to where tasks see nothing.
                _copy(os.path.realpath(f"/etc/{name}"), str(folder / name))
            if uid is not None:
                _write(folder / "passwd", passwd(uid).encode())
                _write(folder / "group", group(uid).encode())
            self._looked[uid] = time.monotonic()
        return folder


def passwd(uid: int) -> str:
    """So that programs which ask for their own name get one."""
    return f"root:x:0:0:root:/root:/usr/sbin/nologin\nheadframe:x:{uid}:{uid}::/tmp:/bin/sh\n"


def group(uid: int) -> str:
    return f"root:x:0:\nheadframe:x:{uid}:\n"


def _copy(source: str, target: str) -> None:
    """Bring `target` up to date, of files and folders that everybody may read. Nothing is removed."""
    try:
        seen = os.lstat(source)
        if stat.S_ISLNK(seen.st_mode):
            if not os.path.islink(target) or os.readlink(target) != os.readlink(source):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(target)
                os.symlink(os.readlink(source), target)
        elif stat.S_ISDIR(seen.st_mode) and seen.st_mode & stat.S_IXOTH:
            os.makedirs(target, exist_ok=True)
            for name in sorted(os.listdir(source)):
                _copy(f"{source}/{name}", f"{target}/{name}")
        elif stat.S_ISREG(seen.st_mode) and seen.st_mode & stat.S_IROTH and _differs(target, seen):
            _write(Path(target), Path(source).read_bytes())
            os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    except OSError:
        return  # an oddity of the machine's /etc is no reason to start nothing


def _differs(target: str, seen: os.stat_result) -> bool:
    try:
        held = os.lstat(target)
    except FileNotFoundError:
        return True
    return (held.st_size, held.st_mtime_ns) != (seen.st_size, seen.st_mtime_ns)


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole: running tasks see it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.replace(path)
