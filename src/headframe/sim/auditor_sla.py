"""What an SLA gives back, worked out a second time: from events of allocations, and from what was charged by then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

from headframe.ledger.records import Transfer
from headframe.pricing.records import Charge
from headframe.sim.auditor_rates import Difference, Life, Row, Story, held_by, month_after, month_name

MILLION = 1_000_000
Waits = Callable[[str, int], bool]  # whether a job waited at a moment to run again, as far as its end tells


def sla_differ(
    story: Story, rated: Mapping[str, int], charges: Iterable[Charge], transfers: Iterable[Transfer], waits: Waits
) -> Iterator[Difference]:
    """Each month of each SLA: the credit that should be, and the one that is."""
    booked: dict[str, int] = {}
    for each in transfers:
        booked[each.source] = min(booked.get(each.source, each.number), each.number)
    known = list(charges)
    jobs: dict[str, list[Life]] = defaultdict(list)
    for life in sorted(story.lives.values(), key=lambda one: (one.held_us, one.id)):
        if life.released_us is None or life.released_us > life.held_us:
            jobs[life.job_id].append(life)
    for contract in story.contracts.values():
        if contract["shape"] != "sla":
            continue
        given = {one.to_us: one for one in known if one.contract_id == contract["id"] and one.kind == "credit"}
        start = contract["from_us"]
        while start < contract["to_us"]:
            stop = min(contract["to_us"], month_after(start))
            if stop > rated[contract["id"]]:
                break
            credit = given.get(stop)
            until = booked.get(credit.id) if credit is not None else None
            charged = sum(
                one.amount_nano
                for one in known
                if _counts(contract, one, start, stop) and (until is None or booked.get(one.id, until) < until)
            )
            available = availability(contract, jobs, start, stop, waits)
            percent = max((share for below, share in contract["steps"] if available < below), default=0)
            wanted = -round(Fraction(max(0, charged) * percent, 100))
            found = 0 if credit is None else credit.amount_nano
            if wanted != found:
                about = f"the credit of {contract['id']} ({available} of a million were up)"
                yield Difference(about, wanted, found, month_name(stop))
            start = stop


def _counts(contract: Row, charge: Charge, start: int, stop: int) -> bool:
    return (
        charge.organization_id == contract["organization_id"]
        and contract["project_id"] in ("", charge.project_id)
        and contract["meter"] in ("", charge.meter)
        and start < charge.at_us <= stop
        and charge.kind != "credit"
        and not charge.late_month
    )


def availability(contract: Row, jobs: Mapping[str, list[Life]], start: int, stop: int, waits: Waits) -> int:
    """The millionths of the time that were up: ran, of what ran, was under our repair, or waited after a fault."""
    up = down = 0

    def within(begin: int, end: int) -> int:
        return max(0, min(end, stop) - max(begin, start))

    for job_id, lives in jobs.items():
        first = lives[0]
        if first.organization_id != contract["organization_id"] or contract["project_id"] not in ("", first.project_id):
            continue
        for place, life in enumerate(lives):
            weight = _weight(contract, life)
            end = stop if life.released_us is None else life.released_us
            ran = sum(within(*stretch) for stretch in life.runs(end))
            up += weight * ran
            if life.running_us is not None:
                down += weight * (within(life.running_us, end) - ran)
            if life.repair:
                down += weight * within(life.held_us, end if life.running_us is None else min(end, life.running_us))
            ran_once = life.running_us is not None or life.repair  # what never ran was not down
            if not life.faulted or not ran_once or life.released_us is None or life.released_us > stop:
                continue
            again = lives[place + 1].held_us if place + 1 < len(lives) else None
            if again is not None and again < stop:
                # What is down when the span begins is known by what follows, and has its weight.
                before = life.released_us <= start
                heavy = _weight(contract, lives[place + 1]) if before else weight
                down += heavy * within(life.released_us, again) if not before or lives[place + 1].repair else 0
            elif life.released_us > start and (lives[place + 1].repair if again is not None else waits(job_id, stop)):
                down += weight * within(life.released_us, stop)
    return up * MILLION // (up + down) if up + down else MILLION


def _weight(contract: Row, life: Life) -> int:
    held = held_by(life.slices)
    if contract["meter"]:
        return held.get(contract["meter"], 0)
    return sum(quantity for meter, quantity in held.items() if meter.startswith("gpu:")) or held.get("cpu", 0)
