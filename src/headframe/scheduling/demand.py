"""What is asked for lately: how often each kind of task, so that packing can leave room for what is likely to come."""

from __future__ import annotations

from collections.abc import Iterable

from headframe.scheduling.task import Task

LIMIT = 8192  # at this sum all counts are halved, so that old requests fade
FRESH = 16


class Demand:
    """Counts by task. `version` rises each time that the counts have changed by about a quarter.

    Deterministic: the same requests in the same order give the same counts. After a restart it is made again from the
    jobs that have not ended.
    """

    def __init__(self) -> None:
        self._counts: dict[Task, int] = {}
        self._total = self._since = 0
        self.version = 0

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> Demand:
        """The demand of a known list, which does not fade."""
        demand = cls()
        for task in tasks:
            demand._add(task, 1)
        demand._total = sum(demand._counts.values())
        demand.version = 1
        return demand

    def note(self, task: Task, times: int = 1) -> None:
        """A request has come in."""
        self._add(task, times)
        self._total += times
        self._since += times
        if self._since >= FRESH + self._total // 4:
            self._since = 0
            self.version += 1
        if self._total >= LIMIT:
            self._counts = {task: count // 2 for task, count in self._counts.items() if count > 1}
            self._total = sum(self._counts.values())

    def _add(self, task: Task, times: int) -> None:
        """Count a task; how much memory and disk it takes makes no difference here."""
        plain = Task(task.cpu_milli, 0, 0, task.gpus, task.where)
        self._counts[plain] = self._counts.get(plain, 0) + times

    def typical(self, percent: int) -> list[tuple[Task, int]]:
        """The most frequent tasks, enough to cover so much of all, with their counts."""
        ranked = sorted(self._counts.items(), key=lambda item: -item[1])  # equals stay in the order of their arrival
        found, covered = [], 0
        for task, count in ranked:
            if covered * 100 >= self._total * percent:
                break
            found.append((task, count))
            covered += count
        return found
