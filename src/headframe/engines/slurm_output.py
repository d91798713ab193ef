"""The output of all that a Slurm engine holds: brought into the logs when it is asked for, followed, or grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headframe.engines.joblog_reader import Follows
from headframe.engines.slurm_held import Held
from headframe.engines.slurm_log import JobLog

if TYPE_CHECKING:
    from headframe.engines.slurm import SlurmEngine

FOLLOW_S = 0.05  # how often a log that somebody follows is looked at
BRING_S = 10.0  # and all others


class Output:
    """Its public calls may come from any thread."""

    def __init__(self, engine: SlurmEngine, log_bound: int) -> None:
        self._engine, self._log_bound = engine, log_bound
        self._logs: dict[str, JobLog] = {}
        self._logs_lock, self._follow_lock = threading.Lock(), threading.Lock()
        self._follows = Follows(lambda _job, _begin: None)
        self._following = False

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        with self._follow_lock:
            number = self._follows.add(job_id, wake)
        self._engine.loop.post(self._look_at_followed)

        def end() -> None:
            with self._follow_lock:
                self._follows.drop(job_id, number)

        return end

    def bring(self, job_id: str) -> None:
        """Move what the job's tasks have written until now into its log; from any thread."""
        for held in [one for one in list(self._engine.held.values()) if one.job_id == job_id and one.active]:
            if held.number or held.sent:
                self.log_of(job_id).bring(held.generation, held.ranks)

    def log_of(self, job_id: str) -> JobLog:
        with self._logs_lock:
            if job_id not in self._logs:
                self._logs[job_id] = JobLog(self._engine.folders, job_id, self._log_bound)
            return self._logs[job_id]

    def wake_followers(self, job_id: str) -> None:
        with self._follow_lock:
            wakes = self._follows.wakes(job_id)
        for wake in wakes:
            wake()

    def _look_at_followed(self) -> None:
        with self._follow_lock:
            followed = self._follows.jobs()
        live = [
            held for held in self._engine.held.values() if held.running_us and held.active and held.job_id in followed
        ]
        if live and not self._following:
            self._following = True
            self._engine.bringers.do(lambda: self._bring_followed(live))
        elif followed and not self._following:
            self._following = True
            self._engine.loop.later(FOLLOW_S * 4, self._followed)

    def _bring_followed(self, live: Sequence[Held]) -> None:
        for held in live:
            if self.log_of(held.job_id).bring(held.generation, held.ranks):
                self.wake_followers(held.job_id)
        self._engine.loop.post(lambda: self._engine.loop.later(FOLLOW_S, self._followed))

    def _followed(self) -> None:
        self._following = False
        self._look_at_followed()

    def bring_all(self) -> None:
        """What nobody follows is brought in, too: the nodes' files must not grow for ever."""
        live = [held for held in self._engine.held.values() if held.running_us and held.active]

        def go() -> None:
            for held in live:
                if held.active:
                    self.log_of(held.job_id).bring(held.generation, held.ranks)
                    if held.keep:
                        self._engine.care.prune(held, settled=True)
            self._engine.loop.post(lambda: self._engine.loop.later(BRING_S, self.bring_all))

        self._engine.bringers.do(go)

    def let_go(self, job_id: str) -> None:
        """Nothing of the job is held any more."""
        with self._logs_lock:
            log = self._logs.pop(job_id, None)
        if log is not None:
            log.close()
