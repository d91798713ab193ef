"""What jobs leave behind is looked at each hour, and told as events of use: the meters of kept outputs and checkpoints.

An event is told when the size (whole MiB, rounded up) is another than was told before; between two the level holds. The
files of a job that has ended are looked at once more, and then only when the server starts again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from headframe.base.quantities import DAY_US
from headframe.control.ports import Outputs, Reads
from headframe.control.spending import KEPT
from headframe.control.stage_money import every
from headframe.jobs.records import ENDED, Job
from headframe.metering.defaults import STORED
from headframe.metering.records import Intake, Reading, UsageEvent
from headframe.tenants.records import Organization

FOLDERS = ("checkpoints", "outputs")
SOURCE = "/headframe/kept"
MIB = 1 << 20
BATCH = 1000
TakeIn = Callable[[Sequence[UsageEvent]], int]


class Keeping:
    """The looks at what is kept. Calls may come from any thread; one looks at a time."""

    def __init__(self, reads: Reads, outputs: Outputs, take_in: TakeIn) -> None:
        self._reads, self._outputs, self._take_in = reads, outputs, take_in
        self._told: dict[tuple[str, str], int] | None = None  # MiB by job and folder
        self._done: set[str] = set()  # ended, and looked at since
        self._looking = threading.Lock()

    def look(self, now_us: int) -> int:
        """Look at all that may have changed, and tell what has; how many events that made."""
        with self._looking:
            if self._told is None:
                self._told = self._recall()
            there = set(self._outputs.jobs())
            gone = {job_id for (job_id, _), mib in self._told.items() if mib} - there
            return self._look_at_all(sorted((there - self._done) | gone), now_us)

    def look_again(self, job_ids: Iterable[str], now_us: int) -> int:
        """Look at once at jobs whose files have just been removed: what is gone costs nothing any more."""
        with self._looking:
            if self._told is None:
                self._told = self._recall()
            return self._look_at_all(sorted(set(job_ids)), now_us)

    def _look_at_all(self, job_ids: Sequence[str], now_us: int) -> int:
        count = 0
        for first in range(0, len(job_ids), BATCH):
            events = [event for job_id in job_ids[first : first + BATCH] for event in self._look_at(job_id, now_us)]
            if events:
                self._take_in(events)
                count += len(events)
        return count

    def _look_at(self, job_id: str, now_us: int) -> Iterator[UsageEvent]:
        job: Job | None = self._reads.get(Job, job_id)
        if job is None or self._told is None:
            return
        for folder in FOLDERS:
            mib = -(-self._outputs.size_bytes(job_id, folder) // MIB)
            if mib != self._told.get((job_id, folder), 0):
                self._told[job_id, folder] = mib
                yield UsageEvent(
                    id=f"{job.organization_id}  {SOURCE} {job_id}.{folder}.{now_us}", arrival=0,
                    organization_id=job.organization_id, project_id=job.project_id, type=f"{STORED}.{folder}",
                    at_us=now_us, received_us=now_us, data={"name": job_id, "mib": mib},
                )  # fmt: skip
        if job.state in ENDED:
            self._done.add(job_id)

    def _recall(self) -> dict[tuple[str, str], int]:
        """What was told last, as it is on record: levels at the end of the last day weighed, and events since."""
        kept: Intake | None = self._reads.get(Intake, KEPT)
        day_us = 0 if kept is None else kept.arrival
        told: dict[tuple[str, str], int] = {}
        for folder in FOLDERS:
            for reading in every(self._reads, Reading, meter=f"storage:{folder}", to_us=day_us):
                told[reading.labels.get("name", ""), folder] = reading.level
            for house in every(self._reads, Organization):
                events = every(
                    self._reads, UsageEvent, organization_id=house.id, type=f"{STORED}.{folder}",
                    at_us__ge=max(0, day_us - DAY_US),
                )  # fmt: skip
                for event in sorted(events, key=lambda one: (one.at_us, one.id)):
                    told[str(event.data.get("name", "")), folder] = int(event.data.get("mib", 0))
        return told
