"""Packing policies that look at one node's sums: what they share, and the comparisons that others publish.

A packing gives every node on which a task fits a whole number; the highest is taken, and among equals the first node
in the order of ids. `slots` says which device a fraction is to be cut from; -1 means the fullest that it fits on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from headframe.base.ports import Rng
from headframe.scheduling.task import WHOLE, Task, suitable

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity

Ints = NDArray[np.int64]
MISFIT = np.int64(-(1 << 62))
CPU_UNIT, GPU_UNIT = 128_000, 8_000  # the largest node of the published comparison, to which its scores relate


class Packing(Protocol):
    """Which of the nodes that could take a task is the best. `meaning` is a sentence that one can choose by."""

    name: str
    meaning: str

    def basis(self, capacity: Capacity) -> object:
        """What the scores rest on besides the node itself; when it changes, all are made anew."""
        ...

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        """(scores, slots) of these nodes, on each of which the task fits. Shape [rows]."""
        ...

    def pick(self, scores: Ints) -> int:
        """The row to take among scores of all nodes (`MISFIT` where it does not fit); -1 when it fits nowhere."""
        ...


class Plain:
    """What most packings share: scores rest on the node alone, and the first of the highest wins."""

    name = meaning = ""

    def basis(self, capacity: Capacity) -> object:
        return 0

    def pick(self, scores: Ints) -> int:
        row = int(scores.argmax())
        return row if scores[row] != MISFIT else -1


def free_gpu(capacity: Capacity, rows: Ints) -> Ints:
    """Thousandths of healthy GPUs that are free. Shape [rows]."""
    found: Ints = np.where(capacity.usable[rows], capacity.gpu[rows], 0).sum(axis=1)
    return found


def tightest(rows: Ints) -> Ints:
    return np.full(len(rows), -1, np.int64)


class Fullest(Plain):
    """The node with the fewest free GPUs, then with the least free CPU."""

    name = "fullest"
    meaning = "The node with the fewest free GPUs that can take it, then with the least free CPU."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        return -(free_gpu(capacity, rows) << 32) - np.maximum(capacity.cpu[rows], 0), tightest(rows)


class BestFit(Plain):
    """As published: CPU and GPU that would be left, in hundredths, stretched over the nodes that fit."""

    name = "best-fit"
    meaning = "The node with the least CPU and GPU left over."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        cpu = capacity.cpu[rows] - task.cpu_milli
        gpu = free_gpu(capacity, rows) - task.gpu_milli
        left = cpu * GPU_UNIT + gpu * CPU_UNIT  # twice the mean of both parts, in units of their product
        return 100 - -(-left * 50 // (CPU_UNIT * GPU_UNIT)), tightest(rows)

    def pick(self, scores: Ints) -> int:
        fits = scores != MISFIT
        if not fits.any():
            return -1
        able = scores[fits]
        low, high = int(able.min()), int(able.max())
        if high > low:
            scores = np.where(fits, (scores - low) * 100 // (high - low), MISFIT)
        return super().pick(scores)


class DotProduct(Plain):
    """As published: the less alike what is free and what is asked, the better."""

    name = "dot-product"
    meaning = "The node whose free CPU and GPU, multiplied by what is asked, are the least."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        cpu = np.maximum(capacity.cpu[rows], 0) * task.cpu_milli * GPU_UNIT**2
        gpu = free_gpu(capacity, rows) * task.gpu_milli * CPU_UNIT**2
        return 100 - -(-(cpu // 1000 + gpu // 1000) * 50 // (CPU_UNIT**2 * GPU_UNIT**2 // 1000)), tightest(rows)


class GpuPacking(Plain):
    """As published: GPUs in use before free ones, nodes in use before empty ones."""

    name = "gpu-packing"
    meaning = "GPUs that are partly used first, then nodes in use, then the smallest empty node."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        slots = tightest(rows)
        if task.gpus is None:
            return np.zeros(len(rows), np.int64), slots
        gpu, suits = capacity.gpu[rows], suitable(capacity, task.gpus, rows)
        devices = capacity.usable[rows].sum(axis=1)
        whole = (gpu == WHOLE) & capacity.usable[rows]
        untouched = whole.sum(axis=1) == devices
        in_use = np.maximum(50 - (whole.sum(axis=1) if task.gpus.milli == WHOLE else 1), 33)
        scores = np.where(untouched, np.maximum(33 - devices, 0), in_use)
        if task.gpus.milli < WHOLE:
            part = np.where(suits & (gpu >= task.gpus.milli) & ~whole, gpu, WHOLE).min(axis=1, initial=WHOLE)
            scores = np.where(part < WHOLE, np.maximum(100 - part // 10, 50), scores)
        return scores, slots


class GpuClustering(Plain):
    """After a published idea: nodes that run only tasks of the same size first. Sizes are parts, and whole devices."""

    name = "gpu-clustering"
    meaning = "Nodes that run tasks of the same size first, then mixed, then empty ones, the fuller the better."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        """A node's size is told from its devices: parted ones run fractions, whole ones held run whole tasks."""
        slots = tightest(rows)
        if task.gpus is None:
            return np.zeros(len(rows), np.int64), slots
        gpu, usable = capacity.gpu[rows], capacity.usable[rows]
        parts = ((gpu > 0) & (gpu < WHOLE) & usable).any(axis=1)
        wholes = ((gpu == 0) & usable).any(axis=1)
        mine, other = (parts, wholes) if task.gpus.milli < WHOLE else (wholes, parts)
        used = np.where(usable, WHOLE - gpu, 0).sum(axis=1) * 25 // (8 * WHOLE)
        classes = np.select([mine & ~other, mine & other, ~mine & ~other], [75, 50, 25], 0)
        return classes + used, slots


class Chance(Plain):
    """Any node that fits, each with the same chance; the device too. For comparison."""

    name = "random"
    meaning = "Any node that fits, by chance."

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        slots = tightest(rows)
        if task.gpus is not None and task.gpus.milli < WHOLE:
            able = suitable(capacity, task.gpus, rows) & (capacity.gpu[rows] >= task.gpus.milli)
            for place, row in enumerate(able):
                choice = np.flatnonzero(row)
                slots[place] = choice[self._rng.below(len(choice))]
        return np.zeros(len(rows), np.int64), slots

    def pick(self, scores: Ints) -> int:
        able = np.flatnonzero(scores != MISFIT)
        return int(able[self._rng.below(len(able))]) if len(able) else -1
