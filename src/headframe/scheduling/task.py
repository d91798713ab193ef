"""One task of a gang, with one of the accelerators that it accepts: what is counted, scored and remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headframe.scheduling.where import ANYWHERE, Where
from headframe.workloads.spec import Gpus

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity

WHOLE = 1000
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Task:
    """What one task needs on one node. Two equal tasks fit in the same places.

    `exclusive`: it needs a node on which nothing is held, and holds all of it. `linked`: all of the gang's devices sit
    on one fast link.
    """

    cpu_milli: int
    memory_mib: int
    disk_mib: int = 0
    gpus: Gpus | None = None
    where: Where = ANYWHERE
    exclusive: bool = False
    linked: bool = False
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Remember the hash: tasks are looked up far more often than made."""
        key = (self.cpu_milli, self.memory_mib, self.disk_mib, self.gpus, self.where, self.exclusive, self.linked)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPUs that one task holds."""
        return self.gpus.count * self.gpus.milli if self.gpus is not None else 0


def tasks_on(capacity: Capacity, task: Task, rows: Any, *, linked: bool | None = None) -> Ints:
    """How many tasks each of these nodes could take now; `linked` overrides the task's own. Shape [rows]."""
    cpu, memory, disk = capacity.cpu[rows], capacity.memory[rows], capacity.disk[rows]
    counts: Ints = np.maximum(cpu, 0) // max(task.cpu_milli, 1)
    counts = np.minimum(counts, np.maximum(memory, 0) // max(task.memory_mib, 1))
    if task.disk_mib:
        counts = np.minimum(counts, np.maximum(disk, 0) // task.disk_mib)
    if task.gpus is not None:
        counts = np.minimum(counts, _by_devices(capacity, task.gpus, rows, task.linked if linked is None else linked))
    if task.exclusive:
        counts = np.where(untouched(capacity, rows), np.minimum(counts, 1), 0)
    allowed: Bools = capacity.ready[rows] & capacity.places.mask(task.where)[rows]
    return np.where(allowed, counts, 0)


def plain(capacity: Capacity, task: Task) -> bool:
    """Whether `tasks_at` can tell how many of a task fit: nothing but sums and the kind of devices counts."""
    gpus = task.gpus
    if task.exclusive or task.linked:
        return False
    if gpus is None:
        return True
    several_kinds = capacity.mixed and gpus.kind is None and gpus.count > 1
    return gpus.memory_min_gib is None and gpus.memory_max_gib is None and not several_kinds


def tasks_at(capacity: Capacity, task: Task, row: int) -> int:
    """As `tasks_on`, of one node and a `plain` task: without arrays, which for a single node would cost the most."""
    if not (capacity.ready.item(row) and capacity.places.mask(task.where).item(row)):
        return 0
    count: int = max(capacity.cpu.item(row), 0) // max(task.cpu_milli, 1)
    count = min(count, max(capacity.memory.item(row), 0) // max(task.memory_mib, 1))
    if task.disk_mib:
        count = min(count, max(capacity.disk.item(row), 0) // task.disk_mib)
    if task.gpus is None or not count:
        return count
    milli = task.gpus.milli
    code = None if task.gpus.kind is None else capacity.code.get(task.gpus.kind.lower(), -2)
    units = 0
    for free, kind, usable in zip(
        capacity.gpu[row].tolist(), capacity.kind[row].tolist(), capacity.usable[row].tolist(), strict=True
    ):
        if usable and kind >= 0 and (code is None or kind == code):
            units += free == WHOLE if milli == WHOLE else free // milli
    return min(count, units // task.gpus.count)


def untouched(capacity: Capacity, rows: Any) -> Bools:
    """Nodes on which nothing is held. Shape [rows]."""
    cpu, memory, disk, gpu = capacity.full
    same: Bools = (capacity.cpu[rows] == cpu[rows]) & (capacity.memory[rows] == memory[rows])
    same = same & (capacity.disk[rows] == disk[rows])
    whole: Bools = (capacity.gpu[rows] == gpu[rows]).all(axis=-1)
    return same & whole


def _by_devices(capacity: Capacity, gpus: Gpus, rows: Any, linked: bool) -> Ints:
    """How many tasks the devices of each node could take. Shape [rows]."""
    gpu: Ints = capacity.gpu[rows]
    suits = suitable(capacity, gpus, rows)
    free: Ints = np.where(suits, np.where(gpu == WHOLE, 1, 0) if gpus.milli == WHOLE else gpu // gpus.milli, 0)
    counts: Ints = free.sum(axis=-1) // gpus.count
    if linked:
        link: Ints = capacity.link[rows]
        counts = np.where(link < 0, free, 0).max(axis=-1, initial=0) // gpus.count  # one without a link is alone
        for group in range(int(capacity.link.max(initial=-1)) + 1):
            counts = np.maximum(counts, np.where(link == group, free, 0).sum(axis=-1) // gpus.count)
    elif capacity.mixed and gpus.kind is None and gpus.count > 1:  # one task's devices are of one kind
        kind: Ints = capacity.kind[rows]
        counts = np.zeros_like(counts)
        for code in range(len(capacity.kinds)):
            counts = counts + np.where(kind == code, free, 0).sum(axis=-1) // gpus.count
    return counts


def suitable(capacity: Capacity, gpus: Gpus, rows: Any = slice(None)) -> Bools:
    """Devices of the asked kind and memory that are healthy, held or not. Shape [rows, slots]."""
    kind: Ints = capacity.kind[rows]
    mask: Bools = capacity.usable[rows] & (kind >= 0)
    if gpus.kind is not None:
        wanted = [number for number, name in enumerate(capacity.kinds) if name.lower() == gpus.kind.lower()]
        mask = mask & (kind == (wanted[0] if wanted else -2))
    gib: Ints = capacity.gib[rows]
    if gpus.memory_min_gib is not None:
        mask = mask & (gib >= gpus.memory_min_gib)
    if gpus.memory_max_gib is not None:
        mask = mask & (gib <= gpus.memory_max_gib)
    return mask
