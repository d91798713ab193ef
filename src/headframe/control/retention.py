"""What nobody needs any more is removed, bit by bit: how long each kind of thing is kept, and what keeps it longer.

Logs and working folders of jobs that have ended, their outputs where that was said, environments that no job uses,
remembered answers, sessions that are over and what was measured of ended jobs go. What the books stand on never does:
usage records, charges, transfers, invoices and events stay for good, which the store sees to by itself. Nothing of a
job goes while the job, or the array that it belongs to, is open, nor while a bill for it is. What goes is told first,
as an event of the job, and then removed: who is killed in between removes it the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headframe.base.changes import Changes, Event
from headframe.base.quantities import DAY_US, counted, format_second, format_span, month_bounds_us, month_of
from headframe.control.commands_sessions import expire_sessions
from headframe.control.context import Context
from headframe.control.keeping import Keeping
from headframe.control.metrics import Metrics
from headframe.control.ports import LogPiece, Logs, Reads, Storage, Store, Stored
from headframe.control.queries_invoices import open_of
from headframe.control.records import Reply
from headframe.control.stage_money import every
from headframe.control.world import World
from headframe.fleet.records import Allocation
from headframe.jobs.records import ENDED, Job
from headframe.ledger.notes import CREDIT
from headframe.ledger.records import Closing, Invoice
from headframe.metrics.records import Series
from headframe.pricing.records import Charge
from headframe.tenants.records import Session
from headframe.tenants.roles import Caller, Permission

FOREVER = 1 << 62
BATCH = 100  # jobs that are looked at, and whose removal is told in one commit, between two rests
ROWS = 1000  # rows that are deleted at once, so that others have their turn at the store
REMOVED = {"logs": "job_log_removed", "files": "job_files_removed"}  # the kinds of the events that tell it
WORDS = {"logs": "The log was", "files": "Outputs and checkpoints were"}
Run = Callable[..., Any]
Paid = dict[tuple[str, str], bool]  # whether all is paid, by organization and month, as far as it was asked for


@dataclass(frozen=True, slots=True)
class Keep:
    """How long things are kept after their end or their last use, in microseconds; `FOREVER`: they are.

    `logs_us` holds for a job's log and its working folders, `files_us` for its outputs and checkpoints. `unpaid`: all
    of it stays as long as a bill for the job is open.
    """

    logs_us: int = 30 * DAY_US
    files_us: int = FOREVER  # somebody made them, and pays for them
    environments_us: int = 14 * DAY_US
    replies_us: int = DAY_US
    series_us: int = 30 * DAY_US  # as measured; then an outline stays
    outlines_us: int = 365 * DAY_US
    sessions_us: int = 30 * DAY_US
    unpaid: bool = True


KEEP = Keep()


class Retention:
    """What is there, what is due, and its removal. Calls may come from any thread; one removes at a time."""

    def __init__(
        self, store: Store, storage: Storage | None, keeping: Keeping, metrics: Metrics, run: Run, keep: Keep
    ) -> None:
        self._store, self._storage, self._keeping, self._metrics = store, storage, keeping, metrics
        self._run, self.keep = run, keep
        self._removing = threading.Lock()
        self._day_us = 0  # the day (UTC) on which what was measured has been looked through

    def prune(self, now_us: int) -> Iterator[int]:
        """Remove all that is due; after each bit, how many things it was, so that the caller may rest or leave off."""
        with self._removing:
            paid: Paid = {}
            for some in _batches(self._jobs()):  # most of them keep what they have: to look takes its rests, too
                yield self._remove_jobs(list(self._due(some, now_us, paid)), now_us)
            for one in self.due_environments(now_us):
                yield int(self._storage is not None and self._storage.remove_environment(one))
            yield from self._rows(Reply, created_us__lt=now_us - self.keep.replies_us)
            self._run(expire_sessions)
            yield from self._rows(Session, ended_us__lt=now_us - self.keep.sessions_us)
            if now_us - self._day_us >= DAY_US:
                yield from self._metrics.prune(now_us, self.keep.series_us, self.keep.outlines_us)
                self._day_us = now_us

    def due_jobs(self, now_us: int) -> Iterator[tuple[Job, Stored]]:
        """The logs and files that may go, by job."""
        return self._due(self._jobs(), now_us, {})

    def _jobs(self) -> Sequence[str]:
        return self._storage.jobs() if self._storage is not None else ()

    def _due(self, job_ids: Iterable[str], now_us: int, paid: Paid) -> Iterator[tuple[Job, Stored]]:
        if self._storage is None:
            return
        for job_id in job_ids:
            job: Job | None = self._store.get(Job, job_id)
            if job is None or job.state not in ENDED or job.ended_us is None:
                continue
            kinds = [
                kind
                for kind, keep_us in (("logs", self.keep.logs_us), ("files", self.keep.files_us))
                if now_us - job.ended_us >= keep_us and self._storage.has(job_id, kind)
            ]
            if kinds and not self._needed(job, paid):
                for kind in kinds:
                    size = self._storage.size_bytes(job_id, kind)
                    yield job, Stored(kind, job_id, job.organization_id, job.ended_us, size)

    def due_environments(self, now_us: int) -> list[Stored]:
        """The environments and package caches that nobody has taken for so long, nor any task that runs yet before."""
        if self._storage is None:
            return []
        since: dict[str, int] = {}
        found = []
        for one in self._storage.environments():
            if now_us - one.used_us < self.keep.environments_us:
                continue
            if one.organization_id not in since:
                since[one.organization_id] = self._building_since_us(one.organization_id)
            if one.used_us < since[one.organization_id]:
                found.append(one)
        return found

    def due_rows(self, now_us: int) -> dict[str, int]:
        """How many remembered answers and sessions may go."""
        return {
            "replies": self._store.count(Reply, created_us__lt=now_us - self.keep.replies_us),
            "sessions": self._store.count(Session, ended_us__lt=now_us - self.keep.sessions_us),
        }

    def rows(self) -> dict[str, int]:
        """How many rows there are of the kinds that go."""
        return {
            "replies": self._store.count(Reply),
            "sessions": self._store.count(Session),
            "series": self._store.count(Series),
        }

    def piles(self) -> Sequence[Stored]:
        """What lies on the disk, by kind."""
        return self._storage.piles() if self._storage is not None else ()

    def _building_since_us(self, organization_id: str) -> int:
        """The oldest moment at which a task that is there yet may have taken an environment; FOREVER: none has."""
        holds = every(self._store, Allocation, organization_id=organization_id, settled=False)
        jobs: Iterator[tuple[Allocation, Job | None]] = ((one, self._store.get(Job, one.job_id)) for one in holds)
        return min(
            (one.held_us for one, job in jobs if job is None or job.spec.packages or job.spec.python is not None),
            default=FOREVER,
        )

    def _needed(self, job: Job, paid: Paid) -> bool:
        """Whether something keeps what an ended job left: its array, what it holds yet, or a bill."""
        parent: Job | None = self._store.get(Job, job.parent_id) if job.parent_id else None
        if parent is not None and parent.state not in ENDED and parent.spec.cron is None:
            return True
        if self._store.find(Allocation, job_id=job.id, settled=False, limit=1):
            return True
        if not self.keep.unpaid or not self._store.find(Charge, job_id=job.id, limit=1):
            return False
        for month in _months(job.started_us or job.submitted_us, job.ended_us or job.submitted_us):
            key = job.organization_id, month
            if key not in paid:
                paid[key] = _is_paid(self._store, *key)
            if not paid[key]:
                return True
        return False

    def _remove_jobs(self, batch: Sequence[tuple[Job, Stored]], now_us: int) -> int:
        assert self._storage is not None
        told = [
            _event(job, one, now_us)
            for job, one in batch
            if one.bytes and not self._store.find(Event, subject=job.id, kind__prefix=REMOVED[one.kind], limit=1)
        ]
        if told:
            self._run(tell, told)
        for _, one in batch:
            self._storage.remove(one.subject, one.kind)
        self._keeping.look_again([job.id for job, one in batch if one.kind == "files"], now_us)
        return len(batch)

    def _rows(self, kind: type[Any], **where: object) -> Iterator[int]:
        while count := self._store.prune(kind, ROWS, **where):
            yield count


class ToldLogs:
    """The logs of jobs (`control.ports.Logs`), where one that was removed says so itself."""

    def __init__(self, logs: Logs, reads: Reads) -> None:
        self._logs, self._reads = logs, reads

    def read(self, job_id: str, offset: int, limit: int) -> tuple[list[LogPiece], int]:
        pieces, following = self._logs.read(job_id, offset, limit)
        if pieces or offset:
            return pieces, following
        told = removal(self._reads, job_id, "logs")
        if told is None:
            return pieces, following
        text = f"[{told.reason}]\n"
        return [LogPiece(0, len(text), told.at_us, 0, 0, "system", text)], len(text)

    def end(self, job_id: str) -> int:
        return self._logs.end(job_id) or self.read(job_id, 0, 1)[1]

    def tail(self, job_id: str, lines: int) -> int:
        return self._logs.tail(job_id, lines)

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        return self._logs.follow(job_id, wake)


def removal(reads: Reads, job_id: str, kind: str) -> Event | None:
    """The event that tells that a job's "logs" or "files" were removed; None while they were not."""
    found = reads.find(Event, subject=job_id, kind__prefix=REMOVED[kind], limit=1)
    return found[0] if found else None


def order_pruning(world: World, context: Context, caller: Caller) -> tuple[Changes, None]:
    """Put on record who asked for what is due to be removed now (operator only)."""
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    told = Event(
        context.now_us, "pruning_ordered", caller.organization_id, "What is due is removed at once.",
        caller.organization_id, detail={"member_id": caller.member_id, "key_id": caller.key_id},
    )  # fmt: skip
    return Changes(events=(told,)), None


def tell(world: World, context: Context, events: Sequence[Event]) -> tuple[Changes, None]:
    """Put on record what is going to be removed."""
    return Changes(events=tuple(events)), None


def _event(job: Job, one: Stored, now_us: int) -> Event:
    passed_us = now_us - one.used_us
    after = counted(passed_us // DAY_US, "day") if passed_us >= DAY_US else format_span(passed_us)
    text = f"{WORDS[one.kind]} removed on {format_second(now_us)[:10]}, {after} after the job had ended."
    return Event(
        now_us, REMOVED[one.kind], job.id, text,
        job.organization_id, job.project_id, {"bytes": one.bytes, "ended_us": one.used_us},
    )  # fmt: skip


def _batches(job_ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(job_ids)
    while batch := list(islice(left, BATCH)):
        yield batch


def _months(from_us: int, to_us: int) -> Iterator[str]:
    """The months (UTC) that lie between two moments, both included."""
    while from_us <= to_us:
        month = month_of(from_us)
        yield month
        from_us = month_bounds_us(month)[1]


def _is_paid(reads: Reads, organization_id: str, month: str) -> bool:
    """Whether a month is closed, and nothing of what was billed for it is open."""
    if reads.get(Closing, f"{organization_id}.{month}") is None:
        return False
    billed = reads.find(Invoice, organization_id=organization_id, month=month, limit=500)
    return all(open_of(reads, one).open_nano <= 0 for one in billed if one.kind != CREDIT)
