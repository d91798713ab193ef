"""No checker is vacuous: a rule is broken on purpose, and the checker that is for it, alone, sees it."""

import dataclasses

import pytest

from headframe.control import advance, loop, stage_money
from headframe.control.dispatch import Dispatch
from headframe.control.spending import Spending
from headframe.control.world import World
from headframe.engines.scripted import ScriptedEngine
from headframe.fleet.records import Node
from headframe.jobs import life
from headframe.jobs.records import JobState
from headframe.ledger.records import Transfer
from headframe.pricing import hourly
from headframe.pricing.rate import Rating
from headframe.scheduling import judge
from headframe.scheduling.capacity import Capacity
from headframe.sim import checkers
from headframe.sim.run import Simulation

SECOND_US = 1_000_000
TRIES = 12  # seeds


def problem(scenario: str, checker: type | None, tries: int = TRIES) -> str:
    """What the checker, left alone, says first of some worlds of a scenario."""
    for seed in range(tries):
        try:
            outcome = Simulation(seed, scenario, checkers=[checker] if checker else []).run()
        except checkers.Violation as violation:  # while the cloud was being opened
            return str(violation)
        if outcome.problem:
            return outcome.problem
    return ""


@pytest.mark.parametrize("scenario", ["calm", "crowd", "money", "nodes"])
def test_unbroken_they_see_nothing(scenario):
    for checker in (*checkers.CHECKERS, None):
        assert problem(scenario, checker, tries=1) == ""


def oversell(patch):
    patch.setattr(Capacity, "hold", lambda self, slices, times=1: None)


def half_a_gang(patch):
    begin = advance.begin
    patch.setattr(
        advance, "begin", lambda job, cluster, region, slices, *more: begin(job, cluster, region, slices[:1], *more)
    )


def launch_twice(patch):
    launch = Dispatch.launch

    def twice(self, world, allocation, now_us):
        launch(self, world, allocation, now_us)
        orders = self._orders[allocation.cluster_id]
        orders.append(dataclasses.replace(orders[-1], allocation_id=orders[-1].allocation_id + "x"))

    patch.setattr(Dispatch, "launch", twice)


def skip_a_second(patch):
    meter = stage_money.meter

    def skipping(allocation, region_id, until_us):
        usage, after = meter(allocation, region_id, until_us)
        long = [one for one in usage if one.to_us - one.from_us > SECOND_US]
        late = {one.id: dataclasses.replace(one, from_us=one.from_us + SECOND_US) for one in long}
        return tuple(late.get(one.id, one) for one in usage), after

    patch.setattr(stage_money, "meter", skipping)


def book_half(patch):
    pay = stage_money.pay

    def half(charges, *rest):
        return [
            dataclasses.replace(one, amount_nano=max(one.amount_nano // 2, 1)) if isinstance(one, Transfer) else one
            for one in pay(charges, *rest)
        ]

    patch.setattr(stage_money, "pay", half)


def leave_the_wallet(patch):
    pay = stage_money.pay
    patch.setattr(stage_money, "pay", lambda charges, grants, *rest: pay(charges, (), *rest))


def ignore_quotas(patch):
    patch.setattr(judge, "binding", lambda *args: None)


def forget_a_row(patch):
    keep = World._keep

    def forgetting(self, record):
        if not (isinstance(record, Node) and record.version > 1):
            keep(self, record)

    patch.setattr(World, "_keep", forgetting)


def skip_a_number(patch):
    def skipping(record, **fields):
        if fields.get("seq", 0) > 40:
            fields["seq"] += 1
        return dataclasses.replace(record, **fields)

    patch.setattr(loop, "revised", skipping)


def jump_a_state(patch):
    move = life.move

    def jumping(job, to, *args, **fields):
        moved, told = move(job, to, *args, **fields)
        return (dataclasses.replace(moved, state=JobState.RUNNING) if to is JobState.STARTING else moved), told

    patch.setattr(life, "move", jumping)


def date_ahead(patch):
    run = life._run
    patch.setattr(life, "_run", lambda this, seen, started_us: run(this, seen, started_us + 10 * SECOND_US))


def never_forget(patch):
    patch.setattr(Dispatch, "forget", lambda self, *args: None)


def round_down_one(patch):
    straight = hourly.straight

    def lower(offer, quantity):
        (part,) = straight(offer, quantity)
        return (dataclasses.replace(part, amount_nano=max(part.amount_nano - 1, 0)),)

    patch.setattr(hourly, "straight", lower)


def no_minimum(patch):
    charges = Rating.charges
    patch.setattr(Rating, "charges", lambda *args: (one for one in charges(*args) if one.kind != "minimum"))


def never_rest(patch):
    patch.setattr(Spending, "next_us", lambda self, now_us: now_us)


def fall_over(patch):
    def fall(*args):
        raise ZeroDivisionError("a defect")

    patch.setattr(loop, "heard", fall)


BROKEN = [
    (oversell, "crowd", checkers.Devices, "Devices"),
    (half_a_gang, "calm", checkers.Gangs, "Gangs"),
    (launch_twice, "calm", checkers.Once, "Once"),
    (oversell, "crowd", checkers.Once, "Once"),
    (skip_a_second, "calm", checkers.Tiles, "Tiles"),
    (book_half, "calm", checkers.Ledger, "Ledger"),
    (leave_the_wallet, "money", checkers.Ledger, "Ledger"),
    (ignore_quotas, "crowd", checkers.Quotas, "Quotas"),
    (forget_a_row, "nodes", checkers.Reloaded, "Reloaded"),
    (skip_a_number, "calm", checkers.Order, "Order"),
    (jump_a_state, "calm", checkers.Moves, "Moves"),
    (date_ahead, "calm", checkers.Moments, "Moments"),
    (never_forget, "calm", checkers.Ends, "Ends"),
    (round_down_one, "calm", None, "Auditor"),
    (no_minimum, "calm", None, "Auditor"),
    (leave_the_wallet, "money", None, "Auditor"),
    (never_rest, "calm", None, "Idle"),
    (fall_over, "calm", None, "Defects"),
]


@pytest.mark.parametrize(
    ("breaks", "scenario", "checker", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_rule_is_seen(breaks, scenario, checker, says, monkeypatch):
    breaks(monkeypatch)
    assert problem(scenario, checker).startswith(f"{says}: ")


def test_every_checker_is_shown_to_see_something():
    assert {checker for _, _, checker, _ in BROKEN if checker} == set(checkers.CHECKERS)


def test_an_engine_that_forgets_to_end_is_seen(monkeypatch):
    monkeypatch.setattr(ScriptedEngine, "_stop", lambda self, stop: None)
    monkeypatch.setattr(ScriptedEngine, "_exit", lambda self, run, code: None)
    assert problem("calm", checkers.Ends).startswith("Ends: ")
