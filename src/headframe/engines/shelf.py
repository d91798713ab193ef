"""Where environments stand ready: who takes one, who makes one and who clears one away keep out of each other's way.

In `envs/<organization>/` an environment lies at `<digest>/`. Its marker `<digest>.json` says that it is complete; when
it was written last is when it was used last. Whoever takes an environment holds `<digest>.lock` together with others,
who makes or removes it holds it alone. The cache of packages, `.uv-cache`, has such a lock of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headframe.control.ports import Stored
from headframe.engines.agent_disk import taken
from headframe.engines.removal import remove_tree

CACHE = ".uv-cache"
ENVIRONMENTS, CACHES = "environments", "packages"
_ALL = 1 << 62
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def lock_of(organization: Path, name: str) -> Path:
    """The lock of an environment, or of the cache."""
    return organization / f"{name}.lock"


def marker_of(organization: Path, digest: str) -> Path:
    return organization / f"{digest}.json"


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock against other threads and other processes, or together with those who only take."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                fcntl.flock(handle, how)
            if not _is_still(handle, path):
                continue  # it was cleared away with what it locks, while we waited
            yield
            return
        finally:
            os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def take(organization: Path, digest: str) -> bool:
    """Whether an environment is complete; it counts as used then. The lock is held by whoever asks."""
    marker = marker_of(organization, digest)
    # exists() follows the link to the interpreter, which may have been removed since.
    if not (marker.exists() and (organization / digest / "bin/python").exists()):
        return False
    os.utime(marker)
    return True


def standing(envs: Path) -> list[Stored]:
    """The environments and caches of all organizations, and when each was used last."""
    found: list[Stored] = []
    for organization in sorted(path for path in _entries(envs) if path.is_dir() and not path.is_symlink()):
        for path in sorted(_entries(organization)):
            if path.suffix == ".json":
                found.append(_stored(ENVIRONMENTS, organization, path.stem, path))
            elif path.name == CACHE:
                found.append(_stored(CACHES, organization, CACHE, lock_of(organization, CACHE)))
    return [one for one in found if one.used_us]


def _stored(kind: str, organization: Path, name: str, sign: Path) -> Stored:
    used_us = 0
    with contextlib.suppress(FileNotFoundError):
        used_us = sign.stat().st_mtime_ns // 1000
    return Stored(kind, name, organization.name, used_us, taken((organization / name,), _ALL) if used_us else 0)


def clear(envs: Path, one: Stored) -> bool:
    """Remove an environment or a cache, unless it was used since it was looked at, or is used right now."""
    organization = envs / one.organization_id
    lock = lock_of(organization, one.subject)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        sign = lock if one.kind == CACHES else marker_of(organization, one.subject)
        if not _is_still(handle, lock) or not sign.exists() or sign.stat().st_mtime_ns // 1000 != one.used_us:
            return False
        if one.kind == ENVIRONMENTS:
            sign.unlink()
        here = os.open(organization, _FOLDER)
        try:
            remove_tree(here, one.subject)
        finally:
            os.close(here)
        lock.unlink()
    finally:
        os.close(handle)
    return True


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
