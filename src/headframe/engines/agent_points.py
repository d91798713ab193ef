"""What the agent measures over time: of the machine, of its accelerators, of each task, and what jobs report.

It is told to servers that ask for it, and kept for a while for one that comes later: what a server misses is a gap in a
chart, no more. Standard library alone.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headframe.engines.agent_roles import Holding
from headframe.engines.agent_state import now_us
from headframe.engines.agent_use import Reading
from headframe.engines.reported import NAME, ReportedFile, size_of

KEPT = 30_000  # points for a server that comes later
# A point: [subject, name, part, microseconds, value, step, whether the job told it]. The subject is a job, "" for the
# machine, or "gpu <what CUDA is told>"; so is the part of a task's accelerator.
Plain = list[Any]
GPU = "gpu "
LAST_PIECES = 16  # of a file, when its job has ended


class Points:
    """The newest points of one agent. Belongs to the loop's thread."""

    def __init__(self, data: Path, tell: Callable[[list[Plain]], None]) -> None:
        self._data, self._tell = data, tell
        self.kept: deque[Plain] = deque(maxlen=KEPT)
        self._jiffies: tuple[int, int] | None = None  # of all processors: busy, all
        self._cpu_us: dict[tuple[str, int], tuple[int, int]] = {}  # by allocation and rank: when, how much
        self._files: dict[str, ReportedFile] = {}

    def measure(self, held: list[Holding], readings: Mapping[str, Reading]) -> None:
        """Measure now; `readings` is what the driver has just told of the devices."""
        at_us = now_us()
        found = self._machine(at_us)
        for name, reading in sorted(readings.items()):
            found += [[GPU + name, meter, "", at_us, value, None, False] for meter, value in reading.figures()]
        for one in held:
            if one.active:
                found += self.task(one, at_us, readings)
        self._say(found)

    def last(self, held: Holding) -> None:
        """The end of an allocation: what its job has reported since it was looked at."""
        at_us = now_us()
        for _piece in range(LAST_PIECES):
            found = self._reported(held, at_us)
            self._say(found)
            if not found:
                break
        self._files.pop(held.record.allocation_id, None)
        for rank in held.record.ranks:
            self._cpu_us.pop((held.record.allocation_id, rank), None)

    def begin(self, held: Holding) -> None:
        """An allocation begins: what its job reported before is known already."""
        held.record.reported = size_of(self._file(held))
        self._files[held.record.allocation_id] = ReportedFile(self._file(held), held.record.reported)

    def task(self, held: Holding, at_us: int, readings: Mapping[str, Reading]) -> list[Plain]:
        """Points of one allocation, by rank and by device."""
        job, found, cores = held.record.job_id, [], 0
        memory = 0
        for task in held.tasks:
            use, part = task.use_now(), str(task.rank)
            memory += use.memory_mib
            key = (held.record.allocation_id, task.rank)
            before_us, before = self._cpu_us.get(key, (held.record.running_us, 0))
            if at_us > before_us and use.cpu_us >= before:
                milli = (use.cpu_us - before) * 1000 // (at_us - before_us)
                cores += milli
                found.append([job, "cpu_milli", part, at_us, milli, None, False])
            self._cpu_us[key] = (at_us, use.cpu_us)
            found.append([job, "memory_mib", part, at_us, use.memory_mib, None, False])
        for name, _milli, fake in held.record.gpus:
            if fake:  # pretended: as busy as the processors, and as full as the memory
                told: list[tuple[str, int]] = [("gpu_busy_milli", min(cores, 1000)), ("gpu_memory_mib", memory)]
                found += [[GPU + str(name), meter, "", at_us, value, None, False] for meter, value in told]
            else:
                told = readings[str(name)].figures() if str(name) in readings else []
            found += [[job, meter, GPU + str(name), at_us, value, None, False] for meter, value in told]
        return found + self._reported(held, at_us)

    def _reported(self, held: Holding, at_us: int) -> list[Plain]:
        record = held.record
        file = self._files.get(record.allocation_id)
        if not record.running_us:
            return []
        if file is None:  # begun by an earlier agent, which wrote down how far it was
            file = self._files[record.allocation_id] = ReportedFile(self._file(held), record.reported)
        found: list[Plain] = []
        for name, part, told_us, value, step in file.more(record.running_us, at_us):
            found.append([record.job_id, name, part, told_us, value, step, True])
            if step is not None and record.sampled:
                record.sampled.setdefault("step_first", step)
                record.sampled.setdefault("step_first_us", told_us)
                record.sampled |= {"step_last": step, "step_last_us": told_us}
        record.reported = file.place
        return found

    def _file(self, held: Holding) -> Path:
        return held.host.folders.job(held.record.job_id) / "outputs" / NAME

    def _machine(self, at_us: int) -> list[Plain]:
        found: list[Plain] = []
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            whole, busy = sum(words), sum(words) - words[3] - words[4]  # without idle and waiting for disks
            before, self._jiffies = self._jiffies, (busy, whole)
            if before is not None and whole > before[1]:
                milli = (busy - before[0]) * 1000 * (os.cpu_count() or 1) // (whole - before[1])
                found.append(["", "cpu_milli", "", at_us, max(milli, 0), None, False])
        with contextlib.suppress(OSError, ValueError):
            lines = Path("/proc/meminfo").read_text().split()
            free = {name: int(lines[lines.index(f"{name}:") + 1]) >> 10 for name in ("MemTotal", "MemAvailable")}
            used = free["MemTotal"] - free["MemAvailable"]
            found.append(["", "memory_mib", "", at_us, used, None, False])
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._data)
            found.append(["", "disk_mib", "", at_us, (disk.f_blocks - disk.f_bfree) * disk.f_frsize >> 20, None, False])
        return found

    def _say(self, found: list[Plain]) -> None:
        if found:
            self.kept.extend(found)
            self._tell(found)
