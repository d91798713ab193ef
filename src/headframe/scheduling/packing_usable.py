"""Packing by what stays usable: the published fragmentation gradient (FGD), and ours, which also keeps CPU in step.

A node's free GPUs are worth what the tasks that are typical now could use of them. A typical task can use the GPUs
that are free enough for it, if the node has the CPU and the number of them; the value of a node is the mean over
typical tasks, weighted by how often each is asked for. A placement's loss is the value that it takes beyond what it
uses; the node where the loss is least is the best. The loss becomes a coarse whole number from 0 to 100, on purpose:
among nodes that are about as good, the first in order wins, which keeps the others empty.

FGD: Weng et al., "Beware of Fragmentation", USENIX ATC 2023. Its count of what a task can use looks at one more task;
but eight free GPUs beside the CPU for one task are worth one GPU, not eight. Ours is a mean of the two counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headframe.scheduling.packing_simple import Fullest, Plain, tightest
from headframe.scheduling.task import WHOLE, Task, suitable

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity

Ints = NDArray[np.int64]
Small = NDArray[np.int32]
SHAPES = 128  # distinct sizes of typical tasks that are looked at, at most
PARTS = 10


class Tuning(NamedTuple):
    """How the value of a node is made.

    `cpu_parts`: so many of ten parts of it count only the GPUs for which there is CPU. `percent`: how much of all
    requests the typical tasks cover, the most frequent first. `steepness`: thousandths of a GPU that move the score
    by one unit of the logistic curve.
    """

    cpu_parts: int
    percent: int
    steepness: int


PUBLISHED = Tuning(0, 95, 1000)
OURS = Tuning(3, 100, 1500)


class Usable(Plain):
    """The node where the least becomes unusable for typical tasks."""

    def __init__(self, name: str, meaning: str, tuning: Tuning) -> None:
        self.name, self.meaning, self._tuning = name, meaning, tuning
        self._fallback = Fullest()

    def basis(self, capacity: Capacity) -> object:
        return capacity.demand.version

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        kept = self._kept(capacity)
        shapes = kept.shapes
        if not len(shapes.cpu):  # nothing is known of what will come
            return self._fallback.score(capacity, task, rows)
        cpu = capacity.cpu[rows] - task.cpu_milli
        sums, counts, before = kept.sums[rows], kept.counts[rows], kept.values[rows]
        kinds = shapes.kinds[rows]
        if task.exclusive:
            return shapes.coarse(-before), tightest(rows)
        if task.gpus is None:
            return shapes.coarse(shapes.value(cpu, sums, counts, kinds) - before), tightest(rows)
        gain = shapes.total * PARTS * task.gpu_milli - before
        if task.gpus.milli == WHOLE:
            number = task.gpus.count
            after = shapes.value(cpu, sums - number * WHOLE, counts - number, kinds)
            return shapes.coarse(after + gain), tightest(rows)
        return self._fractions(capacity, task, rows, kept, gain)

    def _fractions(self, capacity: Capacity, task: Task, rows: Ints, kept: _Kept, gain: Ints) -> tuple[Ints, Ints]:
        """Each device that a fraction could be cut from is tried; devices with the same rest are tried once."""
        assert task.gpus is not None
        shapes, milli = kept.shapes, task.gpus.milli
        gpu = capacity.gpu[rows]
        able = suitable(capacity, task.gpus, rows) & (gpu >= milli)
        for slot in range(1, gpu.shape[1]):
            able[:, slot] &= ~(able[:, :slot] & (gpu[:, :slot] == gpu[:, slot : slot + 1])).any(axis=1)
        at, slots = np.nonzero(able)
        there = rows[at]
        old = gpu[at, slots]
        sums = kept.sums[there] - shapes.sum_of[old] + shapes.sum_of[old - milli]
        counts = kept.counts[there] - shapes.count_of[old] + shapes.count_of[old - milli]
        after = shapes.value(capacity.cpu[there] - task.cpu_milli, sums, counts, shapes.kinds[there])
        key = shapes.coarse(after + gain[at]) * 64 + 63 - slots
        top = np.maximum.reduceat(key, np.searchsorted(at, np.arange(len(rows))))
        return top >> 6, 63 - (top & 63)

    def usable(self, capacity: Capacity) -> int:
        """How much of what is free typical tasks could use, in thousandths of GPUs; 0 where nobody knows of any."""
        kept = self._kept(capacity)
        return int(kept.values.sum()) // (PARTS * kept.shapes.total) if kept.shapes.total else 0

    def _kept(self, capacity: Capacity) -> _Kept:
        """The values of nodes, up to date."""
        kept: _Kept | None = capacity.boards.kept.get(self.name)
        if kept is None or kept.shapes.version != capacity.demand.version:
            parent = capacity.boards.parent()
            if parent is not None:
                kept = self._kept(parent).copy()
            else:
                shapes: _Shapes | None = capacity.shared.get(self.name)
                if shapes is None or shapes.version != capacity.demand.version:
                    shapes = capacity.shared[self.name] = _Shapes(capacity, self._tuning)
                kept = _Kept(shapes, len(capacity.nodes))
            capacity.boards.kept[self.name] = kept
        kept.look(capacity)
        return kept


class _Shapes:
    """Typical tasks with GPUs, as arrays of shape [shapes]: `cpu`, `level` (index into the distinct sizes), `number`.

    `kinds`, of shape [nodes], numbers the nodes by which typical tasks they admit; `weights` is by kind and shape.
    `sum_of` and `count_of`, of shape [1001, levels], tell what a device with so much free adds to each level.
    """

    def __init__(self, capacity: Capacity, tuning: Tuning) -> None:
        self.version, self._cpu_parts = capacity.demand.version, tuning.cpu_parts
        typical = _most(capacity.demand.typical(tuning.percent))
        self.total = sum(count for _, count in typical)
        tasks = [(task, count) for task, count in typical if task.gpus is not None]
        shapes = sorted({_shape(task) for task, _ in tasks})
        self.cpu = np.array([shape[0] for shape in shapes], np.int64)
        self.number = np.array([shape[2] for shape in shapes], np.int32)
        sizes = sorted({shape[1] for shape in shapes})
        self.level = np.array([sizes.index(shape[1]) for shape in shapes], np.int64)
        self._rate = np.array([shape[1] * shape[2] / max(shape[0], 1) for shape in shapes])  # GPU for each CPU
        free = np.arange(WHOLE + 1)[:, None]
        enough = free >= np.array(sizes, np.int64)[None, :]
        self.sum_of = np.where(enough, free, 0).astype(np.int32)
        self.count_of = enough.astype(np.int32)
        self._weigh(capacity, tasks, shapes)
        unit = tuning.steepness * PARTS * self.total
        self._steps = np.array([math.ceil(unit * math.log(step / (100 - step))) for step in range(1, 100)], np.int64)

    def _weigh(self, capacity: Capacity, tasks: list[tuple[Task, int]], shapes: list[tuple[int, int, int]]) -> None:
        admits = np.zeros((len(capacity.nodes), max(len(tasks), 1)), bool)
        for place, (task, _) in enumerate(tasks):
            assert task.gpus is not None
            admits[:, place] = capacity.places.mask(task.where) & suitable(capacity, task.gpus).any(axis=1)
        self.kinds, first = _alike(admits)
        self.weights = np.zeros((len(first), len(shapes)), np.int64)
        for place, (task, count) in enumerate(tasks):
            self.weights[:, shapes.index(_shape(task))] += np.where(admits[first, place], count, 0)

    def value(self, cpu: Ints, sums: Small, counts: Small, kinds: Ints) -> Ints:
        """What typical tasks could use of nodes in these states, times `PARTS` and `total`. Shape [states]."""
        usable = sums[:, self.level].astype(np.int64)
        fits = (cpu[:, None] >= self.cpu) & (counts[:, self.level] >= self.number)
        if self._cpu_parts:
            paced = np.minimum(usable, (cpu[:, None] * self._rate).astype(np.int64))
            usable = usable * (PARTS - self._cpu_parts) + paced * self._cpu_parts
        else:
            usable *= PARTS
        found: Ints = (np.where(fits, usable, 0) * self.weights[kinds]).sum(axis=1)
        return found

    def coarse(self, gains: Ints) -> Ints:
        """100 x logistic(gain), rounded down: whole numbers from 0 to 99."""
        return np.searchsorted(self._steps, gains, side="right")


class _Kept:
    """By node: `sums` and `counts` of free devices for each level, and the node's value."""

    def __init__(self, shapes: _Shapes, nodes: int) -> None:
        self.shapes = shapes
        levels = shapes.sum_of.shape[1]
        self.sums, self.counts = np.zeros((nodes, levels), np.int32), np.zeros((nodes, levels), np.int32)
        self.values = np.zeros(nodes, np.int64)
        self._looked = -1

    def copy(self) -> _Kept:
        other = object.__new__(_Kept)
        other.shapes, other._looked = self.shapes, self._looked
        other.sums, other.counts, other.values = self.sums.copy(), self.counts.copy(), self.values.copy()
        return other

    def look(self, capacity: Capacity) -> None:
        """Take in the nodes that have changed."""
        if self._looked == capacity.clock or not len(self.shapes.cpu):  # nobody asks for GPUs: no value is asked for
            return
        rows = np.arange(len(self.values)) if self._looked < 0 else capacity.changed(self._looked)
        self._looked = capacity.clock
        free = np.clip(np.where(capacity.usable[rows], capacity.gpu[rows], 0), 0, WHOLE)
        self.sums[rows] = self.shapes.sum_of[free].sum(axis=1)
        self.counts[rows] = self.shapes.count_of[free].sum(axis=1)
        kinds = self.shapes.kinds[rows]
        self.values[rows] = self.shapes.value(capacity.cpu[rows], self.sums[rows], self.counts[rows], kinds)


def _most(typical: list[tuple[Task, int]]) -> list[tuple[Task, int]]:
    """Those of the most frequent sizes: nobody can make the rest slow by asking for thousands of sizes."""
    sizes: dict[tuple[int, int, int], None] = {}
    for task, _ in typical:
        if task.gpus is not None and len(sizes) < SHAPES:
            sizes[_shape(task)] = None
    return [(task, count) for task, count in typical if task.gpus is None or _shape(task) in sizes][: 4 * SHAPES]


def _alike(facts: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """(the number of each row's kind, the first row of each kind): rows with the same facts are of one kind."""
    kinds = np.zeros(len(facts), np.int64)
    first = np.zeros(min(len(facts), 1), np.int64)
    for start in range(0, facts.shape[1], 32):
        part = facts[:, start : start + 32]
        key = (kinds << 32) + part @ (1 << np.arange(part.shape[1]))
        _, first, kinds = np.unique(key, return_index=True, return_inverse=True)
    return kinds, first


def _shape(task: Task) -> tuple[int, int, int]:
    assert task.gpus is not None
    return task.cpu_milli, task.gpus.milli, task.gpus.count
