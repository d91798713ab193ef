"""The warm world: what the loop keeps in memory, and how changes alter it exactly as they alter the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from headframe.base.changes import Changes
from headframe.control.derived import Derived
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region, Reservation
from headframe.jobs.records import ENDED, Attempt, Job
from headframe.ledger.chain import Head
from headframe.ledger.records import Invoice, Party, TaxRate, Transfer
from headframe.ledger.wallets import Grant, Hold
from headframe.metering.records import Meter
from headframe.pricing.records import Contract, Exchange, Price
from headframe.scheduling.durations import Durations
from headframe.scheduling.order import Rules
from headframe.scheduling.records import FairUse
from headframe.tenants.records import Budget, Key, Member, Organization, Project, Quota, Session

# Which rows are warm: all of a class (None), or those whose column has one of the values (True) / none of them (False).
WARM: dict[type[Any], tuple[str, bool, tuple[object, ...]] | None] = {
    Organization: None,
    Project: None,
    Member: None,
    Key: None,
    Session: ("ended_us", True, (None,)),
    Quota: None,
    FairUse: None,
    Budget: ("removed", True, (False,)),
    Region: None,
    Cluster: None,
    Node: None,
    Accelerator: None,
    Price: None,
    Exchange: None,
    Meter: None,
    Contract: ("state", True, ("Active",)),
    Grant: ("open", True, (True,)),
    Hold: ("stage", True, ("pending",)),
    Party: None,
    TaxRate: None,
    Reservation: ("state", True, ("planned", "active")),
    Allocation: ("settled", True, (False,)),
    Attempt: ("outcome", True, ("",)),
    Job: ("state", False, tuple(sorted(ENDED))),  # last: its timers follow from the allocations
}


def is_warm(record: Any) -> bool:
    """Whether the loop keeps this row."""
    rule = WARM.get(type(record), False)
    if rule is None:
        return True
    if rule is False:
        return False
    column, inside, values = rule  # type: ignore[misc]
    return (getattr(record, column) in values) is inside


class World:
    """Rows by class and id, account balances and counters. Changed only by `apply`; owned by one thread."""

    def __init__(self) -> None:
        self.tables: dict[type[Any], dict[str, Any]] = {kind: {} for kind in WARM}
        self.derived = Derived(self.tables)
        self.durations = Durations()
        self.balances: dict[tuple[str, str], int] = defaultdict(int)
        self.rules = Rules()
        self.wake_us: int | None = None  # when a pass may decide otherwise though nothing happens
        self.last_event_seq = 0
        self.last_invoice = 0
        self.last_transfer = Head()

    @classmethod
    def of(
        cls,
        rows: Mapping[type[Any], Sequence[Any]],
        balances: Mapping[tuple[str, str], int],
        last_event_seq: int,
        last_invoice: int,
        last_transfer: Head = Head(),  # noqa: B008  an immutable value
    ) -> World:
        """The world as a store tells it."""
        world = cls()
        for kind in WARM:
            for record in rows.get(kind, ()):
                world._keep(record)
        world.balances.update(balances)
        world.last_event_seq, world.last_invoice = last_event_seq, last_invoice
        world.last_transfer = last_transfer
        return world

    def all(self, kind: type[Any]) -> Mapping[str, Any]:
        """Warm rows of a class by id."""
        return self.tables[kind]

    def get(self, kind: type[Any], record_id: str) -> Any | None:
        return self.tables[kind].get(record_id)

    def apply(self, changes: Changes) -> None:
        """Take in what has been written."""
        for record in changes.rows:
            self._keep(record)
            if isinstance(record, Transfer):
                self.balances[record.debit, record.currency] += record.amount_nano
                self.balances[record.credit, record.currency] -= record.amount_nano
                if record.number > self.last_transfer.number:
                    self.last_transfer = Head(record.number, record.chain)
            elif isinstance(record, Attempt) and record.outcome and record.job_id in self.tables[Job]:
                self.learn(self.tables[Job][record.job_id], record)
            elif isinstance(record, Invoice):
                self.last_invoice = max(self.last_invoice, record.number)
        if changes.events:
            self.last_event_seq = max(self.last_event_seq, changes.events[-1].seq)

    def learn(self, job: Job, attempt: Attempt, held: Allocation | None = None) -> None:
        """Take in an attempt that has ended: how long such jobs run, and how fast on what they held."""
        self.durations.learn(job, attempt)
        held = held or self.tables[Allocation].get(attempt.allocation_id)
        if held is not None:
            self.derived.speeds.learn(job, attempt, held)

    def _keep(self, record: Any) -> None:
        table = self.tables.get(type(record))
        if table is None:
            return
        before = table.get(record.id)
        after = record if is_warm(record) else None
        if after is not None:
            table[record.id] = after
        elif before is not None:
            del table[record.id]
        else:
            return
        self.derived.changed(before, after)
