"""Chooses the checkpoint that an attempt resumes from, and clears away old ones.

The folder is the job's, so nothing in it is trusted: no link is followed, no pipe is waited for, and no more is
read into memory than a few MiB. Names that begin with `.` or end in `.tmp` or `.part` are unfinished.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headframe.engines import checkpoint_formats
from headframe.engines.removal import MOVED, remove_tree

Say = Callable[[str], None]

_UNREADABLE = ".unreadable"
_UNFINISHED = (".tmp", ".part")
_SIDECAR = ".sha256"
_MOST_FILES = 100_000
_DEEPEST = 12
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Entry:
    """One checkpoint. `changed_ns` is the last change of anything in it."""

    name: str
    changed_ns: int
    is_folder: bool


def choose(folder: Path, say: Say) -> Path | None:
    """The newest checkpoint that can be read, or None.

    One that cannot be read is moved to `.unreadable/`, `say` gets a sentence about it, and the one before is tried.
    """
    with _opened(folder) as here:
        if here is None:
            return None
        for entry in _newest_first(here):
            fault = _fault(here, entry, thorough=True)
            if fault is None:
                return folder / entry.name
            name = _shown(entry.name)
            try:
                _put_aside(here, entry.name)
                said = f"Checkpoint {name} cannot be read ({fault}); it was put aside in {_UNREADABLE}/"
            except OSError as error:
                said = f"Checkpoint {name} cannot be read ({fault}), nor put aside ({error.strerror})"
            say(f"{said}, and the one before it is used if there is one.")
    return None


def prune(folder: Path, keep: int, settled_us: int | None = None) -> None:
    """Remove all but the newest `keep` checkpoints, with their sidecars.

    One that is still being written does not count among those kept: its form shows that, or while the job runs, that
    it was changed after `settled_us`.
    """
    assert keep >= 1
    with _opened(folder) as here:
        if here is None:
            return
        for name in sorted(os.listdir(here)):
            if name.startswith(MOVED):  # of a removal that was interrupted
                with contextlib.suppress(OSError):
                    remove_tree(here, name)
        kept = 0
        for entry in _newest_first(here):
            fresh = settled_us is not None and entry.changed_ns // 1000 > settled_us
            if kept < keep or fresh:
                kept += not fresh and _fault(here, entry, thorough=False) is None
                continue
            with contextlib.suppress(OSError):
                if entry.is_folder:
                    remove_tree(here, entry.name)
                else:
                    os.unlink(entry.name, dir_fd=here)
                os.unlink(entry.name + _SIDECAR, dir_fd=here)


def newest_us(folder: Path) -> int | None:
    """When the newest checkpoint was last written, in microseconds since 1970; None when there is none."""
    with _opened(folder) as here:
        entries = [] if here is None else _newest_first(here)
        return entries[0].changed_ns // 1000 if entries else None


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    try:
        here = os.open(folder, _FOLDER)
    except OSError:
        yield None
        return
    try:
        yield here
    finally:
        os.close(here)


def _newest_first(here: int) -> list[_Entry]:
    found = []
    for name in os.listdir(here):
        if name.startswith(".") or name.endswith(_UNFINISHED) or name.endswith(_SIDECAR):
            continue
        with contextlib.suppress(OSError):
            seen = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode):
                found.append(_Entry(name, seen.st_mtime_ns, is_folder=False))
            elif stat.S_ISDIR(seen.st_mode):
                changed = [each.st_mtime_ns for _, _, each in _files(here, name)]
                found.append(_Entry(name, max([seen.st_mtime_ns, *changed]), is_folder=True))
    return sorted(found, key=lambda entry: (-entry.changed_ns, entry.name))


def _files(here: int, name: str) -> Iterator[tuple[int, str, os.stat_result]]:
    """(folder descriptor, name, what lstat says) of the plain files below a folder; bounded in number and depth."""
    count = 0
    for path, folders, files, below in os.fwalk(name, dir_fd=here, follow_symlinks=False):
        if path.count("/") >= _DEEPEST:
            folders.clear()
        folders.sort()
        for file in sorted(files):
            seen = os.stat(file, dir_fd=below, follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode):
                yield below, file, seen
            count += 1
            if count >= _MOST_FILES:
                return


def _fault(here: int, entry: _Entry, *, thorough: bool) -> str | None:
    """Why it cannot be read; None when it can. Thorough means: all of its content is read."""
    try:
        if not entry.is_folder:
            return _file_fault(here, entry.name, thorough=thorough)
        empty = True
        for below, name, _ in _files(here, entry.name):
            if name.endswith(_SIDECAR):
                continue
            empty = False
            fault = _file_fault(below, name, thorough=thorough, may_be_empty=True)
            if fault is not None:
                return f"{_shown(name)}: {fault}"
        return "it holds no file" if empty else None
    except OSError as error:
        return (error.strerror or "input/output error").lower()


def _file_fault(here: int, name: str, *, thorough: bool, may_be_empty: bool = False) -> str | None:
    with os.fdopen(os.open(name, _FILE, dir_fd=here), "rb") as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            return "it is not a plain file"
        if seen.st_size == 0:
            # Marker files in a folder, such as __init__.py or _SUCCESS, may well be empty; a model may not.
            known = name.lower().endswith(checkpoint_formats.KNOWN)
            return None if may_be_empty and not known else "it is empty"
        fault = checkpoint_formats.fault(file, name.lower(), seen.st_size, thorough=thorough)
        if fault is None and thorough:
            expected = _sidecar(here, name)
            if expected is not None and checkpoint_formats.sha256(file) != expected:
                return "its SHA-256 is not the one beside it"
        return fault


def _sidecar(here: int, name: str) -> str | None:
    """The SHA-256 that `<name>.sha256` states, in the form that sha256sum writes or alone."""
    try:
        handle = os.open(name + _SIDECAR, _FILE, dir_fd=here)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        match = re.match(rb"\\?([0-9a-fA-F]{64})(?![0-9a-fA-F])", file.read(200).strip())
    return match[1].decode().lower() if match else None


def _put_aside(here: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(_UNREADABLE, 0o755, dir_fd=here)
        with contextlib.suppress(PermissionError):
            ours = os.fstat(here)
            os.chown(_UNREADABLE, ours.st_uid, ours.st_gid, dir_fd=here, follow_symlinks=False)
    # A link laid there by the job is refused by O_NOFOLLOW: otherwise it would say where the move goes.
    aside = os.open(_UNREADABLE, _FOLDER, dir_fd=here)
    try:
        taken = set(os.listdir(aside))
        fresh = next(
            spare for spare in (name, *(f"{name}.{n}" for n in range(1, len(taken) + 2))) if spare not in taken
        )
        os.rename(name, fresh, src_dir_fd=here, dst_dir_fd=aside)
        with contextlib.suppress(OSError):
            os.rename(name + _SIDECAR, fresh + _SIDECAR, src_dir_fd=here, dst_dir_fd=aside)
    finally:
        os.close(aside)


def _shown(name: str) -> str:
    """A hostile name, fit for a sentence."""
    return "".join(char if char.isprintable() else "?" for char in name)[:120]
