"""Limits on money: budgets, prepaid credit, what a job may cost; who nears one is told, and stopped within it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.base.money import NANO, Money, divide_half_even
from headframe.base.quantities import HOUR_US, SECOND_US, format_span
from headframe.control.lines import Payer, Payments
from headframe.control.spending import Spending
from headframe.control.world import World
from headframe.jobs.records import Job
from headframe.pricing.book import ANY
from headframe.pricing.rate import WHOLE
from headframe.tenants.records import AtLimit, Budget, Organization, Project

GRACE_US = 10 * SECOND_US  # what a job is given to end in; a limit is kept by stopping that long before it
LOW_CREDIT_US = HOUR_US  # prepaid credit that lasts no longer than this is announced


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A job must be told to end at `stop_at_us`, and be warned before that as its specification asks.

    It is given twice: when the job is to be warned, and when it is to be stopped.
    """

    job_id: str
    reason: str  # "budget_exhausted" or "credit_exhausted"
    stop_at_us: int
    sentence: str


def limit_spending(world: World, spending: Spending, now_us: int) -> tuple[Changes, tuple[StopOrder, ...]]:
    """Tell those who near a limit, and order to warn and to stop their jobs so that they end within it.

    A limit is looked at when something about it changed, or when its line comes near: see `Spending.next_us`. The least
    charge of a short run is not foreseen here, but by `Spending.too_dear`.
    """
    spending.advance(world, now_us)
    near = [payer for payer, at_us in spending.deadlines.items() if at_us <= now_us]
    due = sorted({*spending.changed, *near})
    spending.changed.clear()
    parts: list[Changes] = []
    orders: dict[str, StopOrder] = {}
    for payer in due:
        spending.deadlines.pop(payer, None)
        limit = _limit_of(world, spending, payer)
        if limit is None:
            continue
        payments = spending.payments.get(payer)
        view = _look(limit, payments, now_us)
        spoken, deadlines = limit.speak(view, now_us)
        parts.append(spoken)
        if limit.stops and view.stop_us is not None and payments is not None:
            deadlines += [at_us for at_us in (view.stop_us - us for us in (0, *payments.warns)) if at_us > now_us]
            for job_id in _jobs_to_tell(world, payments, view.stop_us, now_us):
                order = StopOrder(job_id, limit.reason, max(view.stop_us, now_us), limit.sentence())
                if job_id not in orders or order.stop_at_us < orders[job_id].stop_at_us:
                    orders[job_id] = order
        if deadlines:
            spending.deadlines[payer] = min(deadlines)
    return gather(parts), tuple(orders.values())


def _jobs_to_tell(world: World, payments: Payments, stop_us: int, now_us: int) -> Iterator[str]:
    """The jobs that the payer pays for and that must be stopped, or warned, by now; in the order of their ids."""
    if stop_us - max(payments.warns, default=0) > now_us:
        return
    for job_id in sorted({line.job_id for line in payments.lines.values()}):
        job: Job | None = world.get(Job, job_id)
        if job is None or job.stop_reason:
            continue
        if stop_us <= now_us or (not job.warned and 0 < job.spec.warn_before_stop_us >= stop_us - now_us):
            yield job_id


@dataclass(frozen=True, slots=True)
class View:
    """How a limit stands: what is left of it and when it will be reached (None: never, as things run now).

    `stop_us` is when jobs must be told to end so that they end within the limit.
    """

    left_nano: int
    slope: int
    end_us: int | None
    stop_us: int | None

    def reaches_us(self, nano_before_end: int, now_us: int) -> int | None:
        """When only `nano_before_end` will be left."""
        over = self.left_nano - nano_before_end
        if over <= 0:
            return now_us
        return now_us + over * WHOLE // self.slope if self.slope else None


FOLLOWS = {
    AtLimit.WARN: "",
    AtLimit.BLOCK: "; new jobs wait",
    AtLimit.STOP: "; its jobs are stopped and new ones wait",
}


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """The monthly budget of an organization, project or member."""

    budget: Budget
    month: str
    left_nano: int
    reason: str = "budget_exhausted"

    @property
    def stops(self) -> bool:
        return self.budget.at_limit is AtLimit.STOP

    def sentence(self) -> str:
        budget = self.budget
        return f"The budget of {_text(budget.amount_nano, budget.currency)} of this {budget.scope.value} is used up."

    def speak(self, view: View, now_us: int) -> tuple[Changes, list[int]]:
        """Tell once a month that the budget nears its end, and once that it is used up."""
        budget, deadlines = self.budget, []
        kinds: list[str] = []
        warn_us = view.reaches_us(budget.amount_nano - budget.amount_nano * budget.warn_percent // 100, now_us)
        end_us = view.stop_us if self.stops else view.end_us
        if budget.warned_month != self.month and warn_us is not None:
            if warn_us <= now_us:
                budget = replace(budget, warned_month=self.month)
                kinds.append("budget_warning")
            else:
                deadlines.append(warn_us)
        if budget.stopped_month != self.month and end_us is not None:
            if end_us <= now_us:
                budget = replace(budget, stopped_month=self.month)
                kinds.append("budget_exhausted")
            else:
                deadlines.append(end_us)
        if not kinds:
            return NOTHING, deadlines
        budget = replace(budget, version=self.budget.version + 1)
        return Changes((budget,), tuple(self._event(kind, view, now_us) for kind in kinds)), deadlines

    def _event(self, kind: str, view: View, now_us: int) -> Event:
        budget = self.budget
        spent = budget.amount_nano - view.left_nano
        of = f"{_text(spent, budget.currency)} of {_text(budget.amount_nano, budget.currency)}"
        then = "" if kind == "budget_warning" else FOLLOWS[budget.at_limit]
        return Event(
            at_us=now_us,
            kind=kind,
            subject=budget.id,
            reason=f"This {budget.scope.value} has spent {of} in {self.month}{then}.",
            organization_id=budget.organization_id,
            project_id=budget.scope_id if budget.scope.value == "project" else "",
            detail={
                "scope": budget.scope.value, "scope_id": budget.scope_id, "month": self.month, "spent_nano": spent,
                "amount_nano": budget.amount_nano, "currency": budget.currency, "ends_us": view.end_us,
            },
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CreditLimit:
    """What a prepaid organization has paid in advance, or what of it one of its projects may use."""

    organization: Organization
    payer_id: str
    spending: Spending
    left_nano: int
    reason: str = "credit_exhausted"
    stops: bool = True

    def sentence(self) -> str:
        return f"The prepaid credit of the {self._whose()} is used up."

    def _whose(self) -> str:
        return "organization" if self.payer_id == self.organization.id else "project"

    def speak(self, view: View, now_us: int) -> tuple[Changes, list[int]]:
        """Tell once per payment that the credit runs low, and once that it is used up."""
        spending = self.spending
        change_us = spending.credit_change_us(self.organization.id, now_us)
        deadlines = [] if change_us is None else [change_us]
        if view.end_us is None or view.stop_us is None or not view.slope:
            return NOTHING, deadlines
        events: list[Event] = []
        low_us = view.end_us - LOW_CREDIT_US
        if low_us <= now_us and self.payer_id not in spending.warned:
            spending.warned[self.payer_id] = None
            lasts = format_span(max(0, view.end_us - now_us))
            reason = f"The prepaid credit lasts for another {lasts} as things run now."
            events.append(self._event("credit_low", reason, view, now_us))
        if view.stop_us <= now_us and self.payer_id not in spending.halted:
            spending.halted[self.payer_id] = None
            reason = "The prepaid credit is used up; jobs are stopped and new ones wait until credit is paid in."
            events.append(self._event("credit_exhausted", reason, view, now_us))
        return Changes(events=tuple(events)), [*deadlines, *([low_us] if low_us > now_us else [])]

    def _event(self, kind: str, reason: str, view: View, now_us: int) -> Event:
        house = self.organization
        detail = {"left_nano": view.left_nano, "currency": house.currency, "ends_us": view.end_us}
        project_id = "" if self.payer_id == house.id else self.payer_id
        return Event(now_us, kind, self.payer_id, reason, house.id, project_id, detail=detail)


@dataclass(frozen=True, slots=True)
class JobLimit:
    """What one job may cost in all its attempts."""

    job: Job
    left_nano: int
    reason: str = "budget_exhausted"
    stops: bool = True

    def sentence(self) -> str:
        assert self.job.spec.budget_nano is not None
        return f"The job's budget of {_text(self.job.spec.budget_nano, self.job.spec.currency)} is used up."

    def speak(self, view: View, now_us: int) -> tuple[Changes, list[int]]:
        """The job's own story tells of the stop."""
        return NOTHING, []


Limit = BudgetLimit | CreditLimit | JobLimit


def _limit_of(world: World, spending: Spending, payer: Payer) -> Limit | None:
    """The limit on a payer, and what the charges so far leave of it."""
    name, payer_id = payer
    if name in ("wallet", "purse"):
        return _credit_limit(world, spending, payer)
    if name == "job":
        job: Job | None = world.get(Job, payer_id)
        if job is None or job.spec.budget_nano is None:
            return None
        return JobLimit(job, job.spec.budget_nano - spending.spent[payer])
    budget = spending.budget_of(world, payer)
    if budget is None:
        return None
    return BudgetLimit(budget, spending.month, budget.amount_nano - spending.spent[payer])


def _credit_limit(world: World, spending: Spending, payer: Payer) -> CreditLimit | None:
    house_id = payer[1]
    if payer[0] == "purse":
        project: Project | None = world.get(Project, payer[1])
        house_id = project.organization_id if project is not None else ""
        if all(one.project_id == ANY for one in spending.grants.get(house_id, {}).values()):
            return None  # what binds the organization binds it
    organization: Organization | None = world.get(Organization, house_id)
    if organization is None or not organization.prepaid:
        return None
    left = spending.credit_nano(house_id, payer, spending.now_us)
    return CreditLimit(organization, payer[1], spending, left)


def _look(limit: Limit, payments: Payments | None, now_us: int) -> View:
    """How the limit stands now, with what runs on it."""
    left = limit.left_nano * WHOLE - (payments.slope * now_us + payments.sum if payments else 0)
    slope = payments.slope if payments else 0
    end_us: int | None = None
    if left <= 0:
        end_us = now_us
    elif slope:
        end_us = now_us + left // slope
    # A limit that nothing runs on is not "nearly reached": it holds back new jobs only once it is passed.
    stop_us = end_us - GRACE_US if end_us is not None and payments is not None else end_us
    return View(left // WHOLE, slope, end_us, stop_us)


def _text(nano: int, currency: str) -> str:
    """An amount for people, rounded to hundredths of the currency."""
    step = NANO // 100
    return str(Money(divide_half_even(nano, step) * step, currency))
