"""Whose our control groups are: a note on each says which agent made it, so that a later one can clear away what is
left of those that are gone.

The note is an extended attribute of the group itself: it goes with the group, and with the machine's last start. What
bears no note, or one of another pid namespace, proves nothing and stays, as does all in which anything lives.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from headframe.engines.cgroups import members, remove

NOTE = "user.headframe"
_NAME = re.compile(r"headframe-[0-9a-f]{12}(?:-agent)?")


def sign(folders: Iterable[Path]) -> None:
    """Write down that these groups are ours. Where that cannot be, they are never cleared away by others."""
    note = _note(os.getpid())
    for folder in folders:
        try:
            os.setxattr(folder, NOTE, note)
        except OSError:
            continue


def clear(own: str, parents: Sequence[Path]) -> None:
    """Remove the groups in these folders whose agents are gone and in which nothing lives.

    `own` is the beginning of our groups' names.
    """
    gone: set[str] = set()
    held: set[str] = set()
    for parent in parents:
        for name in _names(parent):
            if not name.startswith(own):
                (gone if _is_gone(parent / name) else held if _owner(parent / name) else set()).add(name)
    for name in sorted(gone - held):
        there = [str(parent / name) for parent in parents if (parent / name).is_dir()]
        if not any(members([folder]) for folder in there):
            remove(there)


def _names(parent: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(parent) if _NAME.fullmatch(name))
    except OSError:
        return []


def _note(pid: int) -> bytes:
    """Which process that is: its number, its pid namespace, and when it started. Raises `OSError` when it is gone."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return json.dumps({"pid": pid, "space": os.stat("/proc/self/ns/pid").st_ino, "started": started}).encode()


def _owner(folder: Path) -> bytes:
    try:
        return os.getxattr(folder, NOTE)
    except OSError:
        return b""


def _is_gone(folder: Path) -> bool:
    """Whether the agent that made a group has certainly ended."""
    note = _owner(folder)
    try:
        owner = json.loads(note)
        if owner["space"] != os.stat("/proc/self/ns/pid").st_ino:
            return False
        return _note(int(owner["pid"])) != note
    except FileNotFoundError:
        return True  # nobody has that number
    except (OSError, ValueError, TypeError, KeyError):
        return False
