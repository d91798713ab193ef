"""Limits and meters of a task through Linux control groups: one small interface, two writers (v2, and v1 with its
several trees). A task has one group; all of its paths are kept on record so that a later agent finds them again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
LEAST_CPU_MILLI = 100  # less and a shell takes seconds to start
_V1_TREES = ("memory", "cpu", "cpuacct", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use. None: no bound."""

    memory_mib: int | None
    cpu_milli: int
    cpu_max_milli: int | None
    pids: int = 4096

    @property
    def quota_milli(self) -> int:
        return max(LEAST_CPU_MILLI, self.cpu_max_milli or self.cpu_milli)


@dataclass(frozen=True, slots=True)
class Use:
    cpu_us: int = 0
    memory_peak_mib: int = 0
    out_of_memory: int = 0  # how many processes the kernel killed for want of memory
    memory_mib: int = 0  # now, without what the kernel keeps of files and can let go of

    def plain(self) -> tuple[int, int, int]:
        return self.cpu_us, self.memory_peak_mib, self.out_of_memory


class Writer(Protocol):
    """Makes, reads and removes groups. `folders` are the paths of one task's group."""

    version: int

    def make(self, name: str, limits: Limits) -> list[str]: ...

    def use(self, folders: Sequence[str]) -> Use: ...

    def for_container(self, name: str) -> tuple[str, list[str]]:
        """The group below which podman shall make a container's, as podman names it, and its folders. Podman makes
        them, and sets the limits."""
        ...

    def own(self) -> list[Path]:
        """The groups that are ours as long as this agent lives."""
        ...

    def parents(self) -> list[Path]:
        """The folders in which our groups are, and those of other agents beside them."""
        ...

    def leave(self) -> None:
        """Remove our own group when no task is left in it."""
        ...


def join_paths(folders: Sequence[str]) -> list[bytes]:
    """The files into which a fresh process writes `0` to join its group.

    In v1 that is `tasks`, not `cgroup.procs`: moving a single thread spares the kernel's global lock (a process that
    has just been forked has one thread only).
    """
    files = []
    for folder in folders:
        name = "cgroup.procs" if os.path.exists(f"{folder}/cgroup.events") else "tasks"
        files.append(os.fsencode(f"{folder}/{name}"))
    return files


class V2:
    """The unified tree. `base` is a group whose children get the controllers."""

    version = 2

    def __init__(self, base: Path) -> None:
        self.base = base

    def make(self, name: str, limits: Limits) -> list[str]:
        group = self.base / name
        group.mkdir(exist_ok=True)
        if limits.memory_mib is not None:
            _write(group / "memory.max", str(limits.memory_mib << 20))
            _try_write(group / "memory.swap.max", "0")
        _write(group / "cpu.max", f"{limits.quota_milli * PERIOD_US // 1000} {PERIOD_US}")
        _write(group / "pids.max", str(limits.pids))
        return [str(group)]

    def use(self, folders: Sequence[str]) -> Use:
        group = Path(folders[0])
        return Use(
            _keyed(group / "cpu.stat").get("usage_usec", 0),
            _number(group / "memory.peak") >> 20,
            _keyed(group / "memory.events").get("oom_kill", 0),
            _working(_number(group / "memory.current"), _keyed(group / "memory.stat").get("inactive_file", 0)),
        )

    def for_container(self, name: str) -> tuple[str, list[str]]:
        group = self.base / name
        return f"/{group.relative_to(ROOT)}", [str(group)]

    def own(self) -> list[Path]:
        return [self.base, self.base.with_name(f"{self.base.name}-agent")]

    def parents(self) -> list[Path]:
        return [self.base.parent]

    def leave(self) -> None:
        remove([str(self.base)])  # the agent itself is in the leaf: the next one clears that away


class V1:
    """The separate trees. `bases` maps controllers to groups under which tasks get theirs."""

    version = 1

    def __init__(self, bases: dict[str, Path]) -> None:
        self.bases = bases

    def make(self, name: str, limits: Limits) -> list[str]:
        # Sorted names; trees that are mounted together (cpu,cpuacct) share one folder.
        folders = sorted({os.path.realpath(self.bases[tree] / "") + f"/{name}" for tree in self.bases})
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
        if limits.memory_mib is not None:
            memory = self.bases["memory"] / name
            _write(memory / "memory.limit_in_bytes", str(limits.memory_mib << 20))
            _try_write(memory / "memory.memsw.limit_in_bytes", str(limits.memory_mib << 20))
        _write(self.bases["cpu"] / name / "cpu.cfs_period_us", str(PERIOD_US))
        _write(self.bases["cpu"] / name / "cpu.cfs_quota_us", str(limits.quota_milli * PERIOD_US // 1000))
        _write(self.bases["pids"] / name / "pids.max", str(limits.pids))
        return folders

    def use(self, folders: Sequence[str]) -> Use:
        cpu = peak = killed = now = 0
        for folder in map(Path, folders):
            files = _keyed(folder / "memory.stat").get("total_inactive_file", 0)
            now = now or _working(_number(folder / "memory.usage_in_bytes"), files)
            peak = peak or _number(folder / "memory.max_usage_in_bytes") >> 20  # only one of the trees has it
            killed = killed or _keyed(folder / "memory.oom_control").get("oom_kill", 0)
            cpu = cpu or _number(folder / "cpuacct.usage") // 1000
        return Use(cpu, peak, killed, now)

    def for_container(self, name: str) -> tuple[str, list[str]]:
        # Podman uses one path in all trees, also in those where our own is another.
        base = self.bases["cpu"]
        own = Path(*base.parts[len(ROOT.parts) + 1 :], name)
        return f"/{own}", [str(tree / own) for tree in sorted(ROOT.iterdir()) if tree.is_dir()]

    def own(self) -> list[Path]:
        return list(self.bases.values())

    def parents(self) -> list[Path]:
        _parent, others = self.for_container("")
        return sorted({base.parent for base in (*self.bases.values(), *map(Path, others))})

    def leave(self) -> None:
        remove([str(base) for base in self.bases.values()])
        _parent, others = self.for_container("")
        remove(others)


def _working(used: int, files: int) -> int:
    return max(used - files, 0) >> 20


def of_processes(pids: Sequence[int]) -> Use:
    """What processes use, where there are no groups: with what they have waited for, without what left them."""
    ticks = memory = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(word) for word in words[11:15])  # user and system, of its own and of children that ended
            memory += int(words[21])
    pages = os.sysconf("SC_PAGE_SIZE")
    return Use(ticks * 1_000_000 // os.sysconf("SC_CLK_TCK"), memory_mib=memory * pages >> 20)


def members(folders: Sequence[str]) -> list[int]:
    """The processes in a group, in order."""
    found: set[int] = set()
    for folder in folders[:1]:
        for inner, _folders, _files in os.walk(folder):  # a container has groups of its own below
            with contextlib.suppress(OSError):
                found.update(map(int, Path(inner, "cgroup.procs").read_text().split()))
    return sorted(found - {0})


def kill(folders: Sequence[str], rounds: int = 100) -> None:
    """Kill every process of the group: at once where the kernel can, else until none is left that we can see."""
    for folder in folders:
        if _try_write(Path(folder, "cgroup.kill"), "1"):
            return
    for _round in range(rounds):
        pids = members(folders)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def remove(folders: Sequence[str]) -> bool:
    """Remove the group; False while something still lives in it."""
    gone = True
    for folder in folders:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            gone = _remove_tree(folder) and gone
    return gone


def _remove_tree(folder: str) -> bool:
    """Remove a group with those that a container left below it."""
    try:
        for inner, _folders, _files in os.walk(folder, topdown=False):
            os.rmdir(inner)
    except OSError:
        return False
    return True


def usable(tag: str, root: Path = ROOT, own: str | None = None) -> tuple[Writer | None, str]:
    """The writer that works on this machine, and a sentence about it. `tag` names our group: one for a data folder."""
    groups = _own_groups(own if own is not None else Path("/proc/self/cgroup").read_text())
    try:
        if (root / "cgroup.controllers").exists():
            return _usable_v2(tag, root, groups.get("", "/"))
        bases = {}
        for tree in _V1_TREES:
            base = root / tree / groups.get(tree, "/").lstrip("/") / f"headframe-{tag}"
            base.mkdir(exist_ok=True)
            bases[tree] = base
        writer = V1(bases)
        _prove(writer)
    except OSError as problem:
        return None, f"control groups cannot be used here ({problem.strerror or problem}): no limits on memory and CPU"
    return writer, "control groups v1"


def _usable_v2(tag: str, root: Path, own: str) -> tuple[Writer | None, str]:
    """Try our own group, then the top of the tree. A group that gives controllers to its children may hold no process
    of its own (except the top one), so the agent moves itself into a leaf first."""
    reasons = []
    for parent in (root / own.lstrip("/"), root):
        base = parent / f"headframe-{tag}"
        try:
            if parent != root:
                leaf = parent / f"headframe-{tag}-agent"
                leaf.mkdir(exist_ok=True)
                _write(leaf / "cgroup.procs", "0")
            base.mkdir(exist_ok=True)
            for group in (parent, base):
                _write(group / "cgroup.subtree_control", "+cpu +memory +pids")
            writer = V2(base)
            _prove(writer)
        except OSError as problem:
            reasons.append(f"{parent}: {problem.strerror or problem}")
            continue
        return writer, "control groups v2"
    return None, f"control groups cannot be used here ({'; '.join(reasons)}): no limits on memory and CPU"


def _prove(writer: Writer) -> None:
    """Make and remove a group, so that what is missing shows at the start and not with the first job."""
    folders = writer.make("probe", Limits(memory_mib=64, cpu_milli=1000, cpu_max_milli=None))
    remove(folders)


def _own_groups(text: str) -> dict[str, str]:
    """Controller ("" for the unified tree) to our own path, from /proc/self/cgroup."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        number, names, path = line.split(":", 2)
        for name in names.split(",") if number != "0" else [""]:
            groups[name] = path
    return groups


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _try_write(path: Path, text: str) -> bool:
    try:
        _write(path, text)
    except OSError:
        return False
    return True


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 65536)
    finally:
        os.close(handle)


def _number(path: Path) -> int:
    try:
        return int(_read(path))
    except (OSError, ValueError):
        return 0


def _keyed(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in _read(path).decode().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
