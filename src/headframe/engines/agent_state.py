"""What the agent knows, on disk: it is crash-only, so nothing that it must know lies in memory alone.

Under `agent/state/` one file for each allocation (without environment and secrets); in each task's run folder who it is
(`pid`), how it ended (`status`) and its pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATUS_FD = 4  # under this number a task's leader holds the status file open
CONTAINER = "container"  # where podman writes the pid of a container's first process
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def now_us() -> int:
    """Microseconds since 1970: the one place where the agent reads the clock."""
    return time.time_ns() // 1000


def safe(name: str) -> str:
    """An id that is going to be part of a path; raises `ValueError` when it could lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not an id")
    return name


@dataclass(frozen=True, slots=True)
class Folders:
    """Where things lie in the data folder."""

    data: Path

    @property
    def agent(self) -> Path:
        return self.data / "agent"

    @property
    def state(self) -> Path:
        return self.data / "agent" / "state"

    @property
    def jobs(self) -> Path:
        return self.data / "jobs"

    def job(self, job_id: str) -> Path:
        return self.jobs / safe(job_id)

    def log(self, job_id: str) -> Path:
        return self.job(job_id) / "log"

    def attempt(self, job_id: str, generation: int) -> Path:
        return self.job(job_id) / "attempts" / str(int(generation))

    def rank(self, job_id: str, generation: int, rank: int) -> Path:
        return self.attempt(job_id, generation) / str(int(rank))


@dataclass(slots=True)
class Record:
    """What is kept of an allocation. `groups` are the control group paths by rank; `end` is the last observation."""

    allocation_id: str
    generation: int
    job_id: str
    organization_id: str
    ranks: list[int]
    sandboxed: bool
    contained: bool = False  # by podman; such a task counts as sandboxed too
    keep: int = 0  # how many checkpoints stay; 0: the job keeps none
    groups: dict[str, list[str]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # limits in MiB by rank
    done: dict[str, list[Any]] = field(default_factory=dict)  # ends of tasks by rank
    story: list[str] = field(default_factory=list)
    resumed_from: str = ""
    running_us: int = 0
    gpus: list[list[Any]] = field(default_factory=list)  # [what CUDA is told, thousandths held, whether pretended]
    sampled: dict[str, int] = field(default_factory=dict)  # how busy it was: `engine_words.SAMPLED`
    busy: list[str] = field(default_factory=list)  # those of `gpus` that were ever busy
    reported: int = 0  # how far what the job reports has been read, in bytes
    disk_mib: int = 0  # asked for, all tasks together
    beyond: str = ""  # why the agent itself ended it
    stop: dict[str, Any] | None = None  # {"signal", "deadline_us", "why"}
    end: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        path = folder / f"{safe(self.allocation_id)}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}))
        fresh.replace(path)

    def drop(self, folder: Path) -> None:
        (folder / f"{safe(self.allocation_id)}.json").unlink(missing_ok=True)


def load_records(folder: Path) -> tuple[list[Record], list[str]]:
    """All records, in order of their ids, and the names of files that cannot be read (moved aside)."""
    records, damaged = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(Record(**json.loads(path.read_text())))
        except (ValueError, TypeError):
            path.replace(path.with_suffix(".damaged"))
            damaged.append(path.name)
    return records, damaged


@dataclass(frozen=True, slots=True)
class Identity:
    """A task's leader, told from a later process with the same number by the file that it holds open."""

    pid: int
    run: Path

    def alive(self) -> bool:
        """Whether this very process runs (a zombie holds nothing)."""
        try:
            return os.path.samefile(f"/proc/{self.pid}/fd/{STATUS_FD}", self.run / "status")
        except OSError:
            return False


def identity(run: Path) -> Identity | None:
    """Who runs or ran a task; None when it was never started."""
    try:
        return Identity(int((run / "pid").read_text()), run)
    except (OSError, ValueError):
        return None


def bar(run: Path) -> None:
    """Keep a leader that has not written down who it is from ever starting the task."""
    with contextlib.suppress(OSError):
        os.close(os.open(run / "pid", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@dataclass(frozen=True, slots=True)
class Status:
    """What is on file of a task. `inside` is the pid of its pid namespace's first process, `space` that namespace."""

    inside: int | None = None
    space: int | None = None
    exit_code: int | None = None  # of what runs in the sandbox
    leader_code: int | None = None  # of the sandbox program itself, or of the task where there is no sandbox
    at_us: int = 0  # when the last of it was written


_MOST = 1 << 53  # of numbers that can be meant


def status(run: Path) -> Status:
    try:
        with open(run / "status", "rb") as stream:
            text = stream.read().decode("utf-8", "replace")
            at_us = os.fstat(stream.fileno()).st_mtime_ns // 1000
    except OSError:
        return Status()
    return status_of(text, at_us, run)


def status_of(text: str, at_us: int, run: Path | None = None) -> Status:
    """What the text of a task's status file says, as far as it can be meant so; `run`: where its container is noted."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line) if line.strip() else {}
            if isinstance(told, dict):
                found |= {key: value for key, value in told.items() if type(value) is int and 0 <= value < _MOST}
    for name in ("exit-code", "leader-code"):
        if found.get(name, 0) > 255:
            del found[name]
    if not found and run is not None:
        found = _container(run)
    return Status(
        found.get("child-pid"), found.get("pid-namespace"), found.get("exit-code"), found.get("leader-code"), at_us
    )


def _container(run: Path) -> dict[str, int]:
    """The first process of the task's container, while it lives. Its number alone could mean another by now: it is
    known by the task's script, which its command line ends with, and by not being of our own pid namespace."""
    try:
        pid = int((run / CONTAINER).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        space = os.stat(f"/proc/{pid}/ns/pid").st_ino
        if os.fsencode(run.parent / "task" / "script") in words and space != os.stat("/proc/self/ns/pid").st_ino:
            return {"child-pid": pid, "pid-namespace": space}
    except (OSError, ValueError):
        pass
    return {}


def last_sign_of_life(folders: Folders, record: Record) -> int:
    """The last moment at which something of the allocation is known to have lived."""
    moments = [record.running_us]
    paths = [folders.agent / "alive", *folders.log(record.job_id).glob("*.raw")]
    for path in paths:
        with contextlib.suppress(OSError):
            moments.append(path.stat().st_mtime_ns // 1000)
    return min(max(moments), now_us())
