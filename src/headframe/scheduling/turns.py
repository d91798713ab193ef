"""Whose turn it is: under a policy by which running jobs make way, who holds what until the next decision.

All that could run, running or waiting, stand in one order; from the first on, each gets a place on an empty fleet until
nothing fits any more. Who keeps the turn keeps the place, as long as that leaves room for everybody who has one.

This is how replays take turns. The loop of a cloud takes them another way (`make_room`, by the law of `preempt`): one
waiting job after the other looks for those it may stop. Both ask the same order (`order`) and the same `fit`; they are
two, as they answer different questions. To deal all anew costs as much as the whole fleet holds, at every event, and
may stop anybody at once: right for published rules, which are met to the second by nothing else. A cloud stops few of
many, and only by law: nobody without checkpoints, inside a reservation or of a higher class, never more than the
waiting job needs, with a warning, beside places that are kept and quotas that bind; and it pays for what changes, not
for what is there. One for both would be either a loop that deals 100,000 GPUs anew for each submit, or replays that do
not repeat what others have published.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping

from headframe.fleet.records import Slice
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit
from headframe.scheduling.order import Facts, Key
from headframe.scheduling.want import Want

Slices = tuple[Slice, ...]


def drained_us(left: Iterable[tuple[int, int]], gpus: int) -> int:
    """How soon all could have ended: as the longest alone, or as all work spread over all GPUs, whichever is later.

    `left` is (time left in microseconds, GPUs) of every job; `gpus` is how many there are.
    """
    longest_us = work_us = 0
    for left_us, width in left:
        longest_us = max(longest_us, left_us)
        work_us += left_us * width
    return max(longest_us, -(-work_us // gpus))


def no_straggler(facts: Facts, drained_us: int) -> Key:
    """The least GPU time left first, but before it whoever would else hold up the end of all.

    A job that has as long to run as it takes to clear the whole backlog has to run all the time from now on, or the
    last end moves; there are few of them, and they are long, so that the short ones hardly notice.
    """
    return facts.left_us < drained_us, facts.left_us * facts.width, facts.submitted_us, facts.job_id


class Turns:
    """Jobs in order, in lines of equal wants, so that a decision costs what it places and not what waits."""

    def __init__(self) -> None:
        self._lines: dict[Want, list[tuple[Key, str]]] = {}
        self._where: dict[str, tuple[Want, Key]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def put(self, job_id: str, want: Want, key: Key) -> None:
        """Let a job in, or move it to where its new key puts it."""
        known = self._where.get(job_id)
        if known is not None:
            if known == (want, key):
                return
            self.remove(job_id)
        insort(self._lines.setdefault(want, []), (key, job_id))
        self._where[job_id] = want, key

    def remove(self, job_id: str) -> None:
        want, key = self._where.pop(job_id)
        line = self._lines[want]
        del line[bisect_left(line, (key, job_id))]
        if not line:
            del self._lines[want]

    def deal(self, capacity: Capacity, *, strict: bool = False) -> dict[str, Slices]:
        """Who has a turn and where, in order. Uses up `capacity`, on which nothing is held.

        `strict`: what comes first and does not fit holds up everything behind it.
        """
        dealt: dict[str, Slices] = {}
        lines = list(self._lines.items())
        heap = [(line[0], number, 0) for number, (_, line) in enumerate(lines)]
        heapq.heapify(heap)
        while heap:
            (_, job_id), number, at = heap[0]
            want, line = lines[number]
            slices = fit(capacity, want)
            if slices is None:
                if strict:
                    break
                heapq.heappop(heap)
                continue
            capacity.hold(slices)
            dealt[job_id] = slices
            if at + 1 < len(line):
                heapq.heapreplace(heap, (line[at + 1], number, at + 1))
            else:
                heapq.heappop(heap)
        return dealt

    def settle(self, capacity: Capacity, dealt: Mapping[str, Slices], held: Mapping[str, Slices]) -> dict[str, Slices]:
        """The same turns with as few moves as can be: who holds a place already stays there.

        Uses up `capacity`, on which nothing is held. When somebody no longer fits beside those who stay, all is left
        as it was dealt: a move is dearer than nothing, but cheaper than a turn lost.
        """
        kept = {job_id: held[job_id] for job_id in dealt if job_id in held}
        for slices in kept.values():
            capacity.hold(slices)
        for job_id in dealt:
            if job_id not in kept:
                found = fit(capacity, self._where[job_id][0])
                if found is None:
                    return dict(dealt)
                capacity.hold(found)
                kept[job_id] = found
        return kept
