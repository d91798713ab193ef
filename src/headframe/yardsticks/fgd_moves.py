"""What the lists of `fgd` come to when running tasks may be moved, or give way to larger ones.

Two answers, as they are two promises. `moves`: a task that does not fit is given a place by moving others to what is
free elsewhere; nobody loses anything. `exchange`: if that fails, tasks that hold fewer GPUs in all, but some, give way
to it and are dropped, as everything that does not fit is in this method. A clairvoyant's bound chooses whom to drop, so
it is the second answer that may be held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from headframe.fleet.records import Slice
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.scheduling.fit import fit, fit_on, tasks_of
from headframe.scheduling.task import Task, suitable
from headframe.scheduling.want import Want

Held = tuple[int, Want, tuple[Slice, ...]]  # number of the arrival, what it asked for, what it holds
TRIES = 12  # nodes that are looked at for one task


class Mover:
    """Who holds what on which node, and how a place is made for one task more. Only single tasks, on one node each."""

    def __init__(self, capacity: Capacity, *, exchange: bool) -> None:
        self._capacity, self._exchange = capacity, exchange
        self._on: dict[int, dict[int, Held]] = {}  # by row of the node, by number
        self.moved = self.dropped = 0

    def hold(self, held: Held) -> None:
        """A task starts."""
        self._capacity.hold(held[2])
        self._on.setdefault(self._capacity.row[held[2][0].node_id], {})[held[0]] = held

    def make_room(self, number: int, want: Want) -> int | None:
        """Place the task by moving others, or by dropping smaller ones.

        Returns the thousandths of GPUs that those held who were dropped; None when it cannot be placed.
        """
        task = tasks_of(self._capacity, want)[0]
        found = None
        for row in self._nodes(task):
            for leaving in self._leaving(task, row):
                plan = self._try(number, want, row, leaving)
                if plan is not None and (found is None or plan[0] < found[0]):
                    found = plan
                if plan is not None and plan[0] == 0:
                    break
            if found is not None and found[0] == 0:
                break
        if found is None or (found[0] and (not self._exchange or found[0] >= task.gpu_milli)):
            return None
        lost, gone, arrived = found
        for held in gone:
            self._capacity.release(held[2])
            del self._on[self._capacity.row[held[2][0].node_id]][held[0]]
        for held in arrived:
            self.hold(held)
        self.moved += len(arrived) - 1
        self.dropped += len(gone) - len(arrived) + 1
        return lost

    def _nodes(self, task: Task) -> Iterator[int]:
        """Nodes large enough, those first that lack the least: GPUs, then CPU."""
        capacity = self._capacity
        if task.gpus is None:
            return
        empty = capacity.emptied()
        rows = np.flatnonzero(empty.boards.counted(empty, task).counts)
        gpu = np.where(suitable(capacity, task.gpus, rows), capacity.gpu[rows], 0)
        used = np.sort(np.where(suitable(capacity, task.gpus, rows), WHOLE - gpu, 10 * WHOLE), axis=1)
        if task.gpus.milli == WHOLE:
            lacks = used[:, : task.gpus.count].sum(axis=1)
        else:
            lacks = np.maximum(used[:, 0] - (WHOLE - task.gpus.milli), 0)
        cpu = np.maximum(task.cpu_milli - capacity.cpu[rows], 0)
        for place in np.lexsort((rows, cpu, lacks))[:TRIES]:
            yield int(rows[place])

    def _leaving(self, task: Task, row: int) -> Iterator[list[Held]]:
        """Sets of tasks on a node without which the task may fit: for each way to free devices, then CPU."""
        capacity = self._capacity
        held = list(self._on.get(row, {}).values())
        assert task.gpus is not None
        able = suitable(capacity, task.gpus, row)
        slots = sorted(np.flatnonzero(able).tolist(), key=lambda slot: (-int(capacity.gpu[row, slot]), slot))
        count = task.gpus.count
        for start in range(0, max(len(slots) - count + 1, 0)):
            ids = {capacity.devices[row][slot].id for slot in slots[start : start + count]}  # only asked
            there = [one for one in held if any(share.accelerator_id in ids for share in one[2][0].shares)]
            there.sort(key=lambda one: (_milli(one), one[0]))
            if task.gpus.milli < WHOLE:
                lack = task.gpus.milli - int(capacity.gpu[row, slots[start]])
                enough = [one for one in there if _milli(one) >= lack]
                there = enough[:1] or there
            yield self._with_cpu(task, row, held, there)

    def _with_cpu(self, task: Task, row: int, held: Sequence[Held], leaving: Sequence[Held]) -> list[Held]:
        """Those, and as many more of the node as free the CPU, those without GPUs first."""
        found = list(leaving)
        free = int(self._capacity.cpu[row]) + sum(one[2][0].cpu_milli for one in found)
        rest = [one for one in held if one not in found]
        for one in sorted(rest, key=lambda one: (_milli(one), -one[2][0].cpu_milli, one[0])):
            if free >= task.cpu_milli:
                break
            found.append(one)
            free += one[2][0].cpu_milli
        return found

    def _try(self, number: int, want: Want, row: int, leaving: list[Held]) -> tuple[int, list[Held], list[Held]] | None:
        """(GPU lost, who leaves, who arrives) when the task takes the place of those who leave this node."""
        stuck = sum(_milli(one) for one in leaving if fit(self._capacity, one[1]) is None)
        if stuck >= (tasks_of(self._capacity, want)[0].gpu_milli if self._exchange else 1):
            return None  # there is nothing for them elsewhere
        trial = self._capacity.scratch()
        for one in leaving:
            trial.release(one[2])
        slices = fit_on(trial, want, row)
        if slices is None:
            return None
        trial.hold(slices)
        arrived, lost = [(number, want, slices)], 0
        for one in sorted(leaving, key=lambda one: (-_milli(one), one[0])):
            place = fit(trial, one[1])
            if place is None:
                if not self._exchange or not _milli(one):
                    return None
                lost += _milli(one)
                continue
            trial.hold(place)
            arrived.append((one[0], one[1], place))
        return lost, leaving, arrived


def _milli(held: Held) -> int:
    return sum(share.milli for part in held[2] for share in part.shares)
