"""Ends tasks that nobody watches over: their record is damaged or gone, so the server will start their job again.

Left alone they would go on without being told to stop, without being paid for, and would write into the same outputs
and checkpoints as the attempt that takes their place.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Collection
from pathlib import Path

from headframe.engines.agent_state import STATUS_FD, Folders, status

_RUN = re.compile(r"([^/]+)/attempts/([0-9]+)/([0-9]+)/run/status")


def end_orphans(folders: Folders, known: Collection[tuple[str, int]]) -> list[str]:
    """Kill the tasks of this data folder that belong to none of the `known` (job id, generation); what they were.

    Only leaders and the programs of their sandbox hold a task's status open, so that no task can name another here.
    """
    jobs = f"{os.path.realpath(folders.data / 'jobs')}/"
    found: dict[str, list[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/{pid}/fd/{STATUS_FD}")
            match = _RUN.fullmatch(path.removeprefix(jobs)) if path.startswith(jobs) else None
            if match is not None and (match[1], int(match[2])) not in known:
                found.setdefault(path, []).append(pid)
    for path, holders in sorted(found.items()):
        _end(Path(path).parent, holders)
    return sorted(path.removeprefix(jobs).removesuffix("/run/status") for path in found)


def _end(run: Path, holders: Collection[int]) -> None:
    """Kill the sandbox's first process, with which its whole namespace ends, and those outside of it."""
    seen = status(run)
    victims = set(holders)
    if seen.inside is not None and seen.space is not None and _space(seen.inside) == seen.space:
        victims.add(seen.inside)
    else:
        victims |= {int(name) for name in os.listdir("/proc") if name.isdigit() and _session(int(name)) in holders}
    for pid in sorted(victims):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _space(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
