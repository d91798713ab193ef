"""An allocation as the agent holds it: from its launch until it is forgotten, found again by a later agent."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headframe.engines.agent_roles import Host
from headframe.engines.agent_spawn import Start
from headframe.engines.agent_state import Record, now_us
from headframe.engines.agent_tasks import End, Task
from headframe.engines.agent_use import Reading, Watch
from headframe.engines.cgroups import Use
from headframe.fleet.engine_words import Observation, Seen

GANG_GRACE_US = 10_000_000  # what the rest of a gang gets after its first failure


@dataclass
class Held:
    """An allocation that the agent knows, from its launch until it is forgotten."""

    host: Host
    record: Record
    preparing: bool = True
    at_us: int = 0
    tasks: list[Task] = field(default_factory=list)
    cancelled: bool = False
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.at_us = self.at_us or now_us()

    @property
    def active(self) -> bool:
        return self.record.end is None

    def tell(self, sentence: str) -> None:
        """Add a sentence to the story, once."""
        if sentence not in self.record.story:
            self.record.story.append(sentence)
            self.host.push(self)

    def start(self, starts: list[Start]) -> None:
        """Start all tasks of the gang, before the end of any is looked at. How far each has got when a failure of
        another ends it is not promised."""
        record = self.record
        record.groups = {str(start.rank): list(start.groups) for start in starts}
        record.memory = {str(start.rank): start.memory_mib for start in starts}
        record.running_us = now_us()
        self.host.points.begin(self)
        record.save(self.host.folders.state)
        for start in starts:
            task = Task(self.host, self, start.rank)
            self.tasks.append(task)
            task.start(start)
        self.preparing, self.at_us = False, record.running_us
        self.host.push(self)

    def adopt(self) -> None:
        """Take over what an earlier agent started."""
        self.preparing, self.at_us = False, self.record.running_us
        if not self.active:
            return
        self.tasks = [Task(self.host, self, rank) for rank in self.record.ranks]
        for task in self.tasks:
            plain = self.record.done.get(str(task.rank))
            if plain is not None:
                task.end = End(Seen(plain[0]), plain[1], plain[2], Use(*plain[3]), plain[4])
        for task in self.tasks:
            if task.end is None:
                task.adopt()
        if self.record.stop is not None:
            self._arm()
        if all(task.end is not None for task in self.tasks):
            self._conclude()

    def stop(self, name: str, grace_us: int, why: str = "") -> None:
        """Signal now, kill after the grace; a second stop may only shorten it."""
        deadline = now_us() + grace_us
        before = self.record.stop
        if before is None or deadline < before["deadline_us"]:
            self.record.stop = {"signal": name, "deadline_us": deadline, "why": why}
            self.record.save(self.host.folders.state)
            self._arm()
        if before is None:
            self._signal_until_sent(name)

    def end_beyond(self, why: str, grace_us: int) -> None:
        """End it because it went beyond a bound of this machine; `why` begins with the bound's name."""
        self.record.beyond = why
        self.tell(f"It is ended: {why}.")
        self.stop("SIGTERM", grace_us, "beyond")

    def _signal_until_sent(self, name: str) -> None:
        """A task that is just being started has no process yet that could take the signal."""
        number = signal.Signals[name]
        missed = [task for task in self.tasks if task.end is None and not task.signal(number)]
        if missed and self.active:
            self.host.loop.later(0.02, lambda: self._signal_until_sent(name))

    def _arm(self) -> None:
        assert self.record.stop is not None
        left_us = int(self.record.stop["deadline_us"]) - now_us()
        self.host.loop.later(max(0, left_us) / 1e6, self._kill)

    def _kill(self) -> None:
        if self.active and self.record.stop is not None and now_us() >= self.record.stop["deadline_us"]:
            living = [task for task in self.tasks if task.end is None]
            for task in living:
                task.kill()
            if living:
                self.host.loop.later(0.05, self._kill)

    def warn(self, name: str) -> None:
        """Warn all tasks."""
        for task in self.tasks:
            if task.end is None:
                task.warn(signal.Signals[name])

    def task_ended(self, task: Task) -> None:
        """Take in one task's end; the first failure ends the gang."""
        end = task.end
        assert end is not None
        self.record.done[str(task.rank)] = [end.seen.value, end.code, end.at_us, list(end.use.plain()), end.detail]
        if all(other.end is not None for other in self.tasks):
            self._conclude()
            return
        self.record.save(self.host.folders.state)
        if end.seen is not Seen.EXITED or end.code != 0:
            self.tell(f"Task {task.rank} ended with {end.code}: the others are told to end.")
            if self.record.stop is None:
                self.stop("SIGTERM", GANG_GRACE_US, f"task {task.rank} failed")

    def _conclude(self) -> None:
        """All tasks are gone."""
        ends = [(task.end, task.rank) for task in self.tasks if task.end is not None]
        bad = sorted(
            ((end.at_us, rank, end) for end, rank in ends if end.seen is not Seen.EXITED or end.code != 0),
            key=lambda item: item[:2],
        )
        never = [end for _at, _rank, end in bad if end.seen is not Seen.EXITED]
        end = never[0] if never else bad[0][2] if bad else ends[0][0]
        seen = end.seen
        self.at_us = max(other.at_us for other, _rank in ends)
        detail = f"task {bad[0][1]}: {end.detail}" if bad and end.detail and len(ends) > 1 else end.detail
        code = end.code
        if self.record.beyond and seen is Seen.EXITED:
            detail, code = self.record.beyond, code or 128 + signal.SIGTERM  # it did not end by itself
        self.finish(seen, code, detail, "node" if seen is Seen.LOST else "engine" if seen is Seen.FAILED else "job")

    def finish(self, seen: Seen, code: int | None, detail: str, fault: str) -> None:
        """The end, on disk before anybody hears of it."""
        self.preparing = False
        self.look(None)
        self.host.points.last(self)
        use = self.used()
        self.record.end = {
            "seen": seen.value, "at_us": self.at_us, "exit_code": code, "detail": detail, "fault": fault, "use": use,
            "pid": self.pid(),
        }  # fmt: skip
        self.record.save(self.host.folders.state)
        self.host.ended(self)
        self.host.push(self)

    def look(self, readings: Mapping[str, Reading] | None) -> None:
        """Take down how busy it was since the last look; None at its end, when no driver is asked."""
        if self.tasks and (self.record.sampled or readings is not None):
            uses = [task.use() if readings is None else task.use_now() for task in self.tasks]
            self.watch.look(self.record, sum(use.cpu_us for use in uses), readings)

    def used(self) -> dict[str, int]:
        uses = [task.use() for task in self.tasks]
        if not uses:
            return {}
        whole = {"cpu_us": sum(use.cpu_us for use in uses), "memory_peak_mib": max(use.memory_peak_mib for use in uses)}
        return whole | self.record.sampled

    def pid(self) -> int | None:
        first = self.tasks[0].who if self.tasks else None
        return first.pid if first is not None else None

    def observe(self, full: bool = True) -> Observation:
        """What is seen of it now. `full` reads the meters too."""
        record = self.record
        seen = Observation(
            record.allocation_id,
            record.generation,
            Seen.PREPARING if self.preparing else Seen.RUNNING,
            self.at_us,
            running_us=record.running_us or None,
            pid=self.pid(),
            resumed_from=record.resumed_from,
            checkpoint_us=self._checkpoint_us() if full else None,
            story=tuple(record.story),
            use=self.used() if full else {},
        )
        if record.end is None:
            return seen
        return replace(seen, **(record.end | {"seen": Seen(record.end["seen"])}))

    def _checkpoint_us(self) -> int | None:
        if not self.record.keep:
            return None
        from headframe.engines import checkpoints

        with contextlib.suppress(OSError):
            return checkpoints.newest_us(self.host.folders.job(self.record.job_id) / "checkpoints")
        return None
