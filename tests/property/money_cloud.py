"""A small cloud for the tests of money: the real world, stages and store, with jobs that start and end on command."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.changes import Changes, Event, gather
from headframe.base.money import Money
from headframe.base.quantities import parse_moment_us
from headframe.control.limits import StopOrder, limit_spending
from headframe.control.spending import Spending
from headframe.control.stage_invoices import invoice_due
from headframe.control.stage_money import contracts_due, expire_credit, meter_rate_post
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster, HoldState, Region, Share, Slice
from headframe.jobs.records import Job, JobState
from headframe.ledger.wallets import grant_rows
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Member, Organization, Project, Role
from headframe.workloads.spec import Spec

USD = 1_000_000_000


def moment(text: str) -> int:
    return parse_moment_us(text, field="moment")


class Cloud:
    """Two organizations (`org_1` pays afterwards, `org_2` in advance) with a project and a member each, one cluster."""

    def __init__(self, now: str = "2026-11-30T22:30:00Z") -> None:
        self.now_us = moment(now)
        self.store = SqlStore("sqlite://")
        self.world = World()
        self.spending = Spending(self.world, self.now_us)
        self.pending: list[Changes] = []
        self.events: list[Event] = []
        rows: list[object] = [Region("reg_1", "north"), Cluster("cls_1", "reg_1", "one", "scripted")]
        for number in ("1", "2"):
            rows += [
                Organization(f"org_{number}", f"house-{number}", self.now_us, prepaid=number == "2"),
                Project(f"prj_{number}", f"org_{number}", "default", self.now_us),
                Member(f"mem_{number}", f"org_{number}", "somebody", Role.MEMBER, self.now_us),
            ]
        self.take(Changes(tuple(rows)))
        self.commit()

    def close(self) -> None:
        self.store.close()

    def take(self, changes: Changes) -> None:
        seq = self.world.last_event_seq
        events = tuple(replace(event, seq=seq + number) for number, event in enumerate(changes.events, 1))
        changes = Changes(changes.rows, events)
        self.events += events
        self.world.apply(changes)
        self.spending.apply(self.world, changes)
        self.pending.append(changes)

    def commit(self) -> None:
        self.store.apply(gather(self.pending))
        self.pending.clear()

    def reload(self) -> None:
        store = self.store
        self.world = World.of(store.load(), store.balances(), store.last_event_seq(), store.last_invoice())
        self.spending = Spending.of(self.world, store, self.now_us)

    def tick(self, heard_us: int | None = None) -> tuple[StopOrder, ...]:
        """The stages of money, in the order and with the commit of the loop."""
        heard = {"cls_1": self.now_us if heard_us is None else heard_us}
        self.take(meter_rate_post(self.world, self.spending, self.now_us, heard))
        self.take(contracts_due(self.world, self.spending, self.store, self.now_us))
        self.take(expire_credit(self.world, self.spending, self.now_us))
        changes, orders = limit_spending(self.world, self.spending, self.now_us)
        self.take(changes)
        self.take(invoice_due(self.world, self.spending, self.store, self.now_us))
        self.commit()
        return orders

    def grant(self, name: str, organization_id: str, amount_nano: int, *, paid: bool = True, **terms: object) -> None:
        money = Money(amount_nano, "USD")
        self.take(Changes(grant_rows(name, organization_id, money, self.now_us, paid=paid, **terms)))

    # Jobs.

    def hold(self, name: str, organization: str = "1", gpus_milli: int = 1000, **spec: object) -> str:
        """A job gets its place; the allocation's id is "alc_" and the name."""
        job_id, allocation_id = f"job_{name}", f"alc_{name}"
        owners = (f"org_{organization}", f"prj_{organization}", f"mem_{organization}")
        job = Job(job_id, *owners, name, Spec(name, **spec), self.now_us, JobState.STARTING, attempt=1)  # type: ignore[arg-type]
        shares = (Share("acc_1", 0, "H100", gpus_milli),) if gpus_milli else ()
        slices = (Slice(0, "nod_1", 1500, 3000, 0, shares),)
        self.take(
            Changes((job, Allocation(allocation_id, *owners, job_id, "cls_1", 1, "on-demand", slices, self.now_us)))
        )
        return allocation_id

    def run(self, allocation_id: str) -> None:
        held = self.world.all(Allocation)[allocation_id]
        running = replace(held, running_us=self.now_us, state=HoldState.RUNNING, version=held.version + 1)
        job = self.world.all(Job)[held.job_id]
        self.take(Changes((running, replace(job, state=JobState.RUNNING, version=job.version + 1))))

    def release(self, allocation_id: str, *, faulted: bool = False) -> Allocation:
        held = self.world.all(Allocation)[allocation_id]
        gone = replace(
            held, released_us=self.now_us, state=HoldState.RELEASED, faulted=faulted, version=held.version + 1
        )
        job = self.world.all(Job)[held.job_id]
        self.take(Changes((gone, replace(job, state=JobState.SUCCEEDED, version=job.version + 1))))
        return gone

    def start(self, name: str, organization: str = "1", gpus_milli: int = 1000, **spec: object) -> str:
        allocation_id = self.hold(name, organization, gpus_milli, **spec)
        self.run(allocation_id)
        return allocation_id

    def obey(self, orders: tuple[StopOrder, ...]) -> list[str]:
        """Warn and stop as the loop does. Gives the ids of jobs that were told to stop."""
        told = []
        for order in orders:
            job = self.world.all(Job)[order.job_id]
            change = (
                {"stop_reason": order.reason, "stop_at_us": order.stop_at_us, "state": JobState.STOPPING}
                if order.stop_at_us <= self.now_us
                else {"warned": True}
            )
            self.take(Changes((replace(job, **change, version=job.version + 1),)))
            told += [job.id] if "stop_reason" in change else []
        self.commit()
        return told
