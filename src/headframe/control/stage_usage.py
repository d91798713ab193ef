"""The loop's stage for events of use: what came in is counted, rated and booked; what is kept is weighed day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.money import LIMIT_NANO
from headframe.base.quantities import DAY_US, SECOND_US, month_of
from headframe.control.ports import Reads, Store
from headframe.control.spending import KEPT, Spending, tallies
from headframe.control.stage_money import booked, bookings, closed_month, every, rating_of
from headframe.control.world import World
from headframe.metering.count import (
    MOST,
    Touched,
    can_count,
    count,
    group_of,
    level_after,
    reading_of,
    record_of,
    sorted_out,
    weighed,
    window_us,
)
from headframe.metering.records import Aggregation, Intake, Meter, Reading, UsageEvent, UsageRecord
from headframe.pricing.records import Charge
from headframe.tenants.records import Organization
from headframe.workloads.records import Dataset

AT_ONCE = 2000  # events counted in one transaction; the rest follows in the next tick
COUNTED = "events"  # the record that tells how far events are counted
DATASETS = "storage:datasets"
MIB = 1 << 20


def count_events(world: World, spending: Spending, store: Store, now_us: int) -> tuple[Changes, bool]:
    """Count the events that came in since the last time; and whether more wait."""
    before: Intake = store.get(Intake, COUNTED) or Intake(COUNTED, 0, version=0)
    top = store.last_arrival()
    if top <= before.arrival:
        return NOTHING, False
    until = min(top, before.arrival + AT_ONCE)
    events = store.find(UsageEvent, arrival__ge=before.arrival + 1, arrival__lt=until + 1, limit=AT_ONCE)
    after = replace(before, arrival=until, version=before.version + 1)
    meters = [meter for _, meter in sorted(world.all(Meter).items())]
    told = {event.type for event in events}
    wanted = [meter for meter in meters if meter.event_type in told]
    touched = sorted_out(wanted, events)
    records, readings = count(
        touched,
        _known(store, touched),
        lambda meter, reading: _events_of(store, meter, reading),
        lambda reading: closed_month(spending, reading.organization_id, month_of(reading.from_us)),
    )
    more, weighed_anew = _levels(spending, store, touched, now_us)
    used = [replace(one, used=True, version=one.version + 1) for one in wanted if not one.used]
    made = charged(world, spending, store, [*records, *more], now_us)
    return Changes((after, *used, *readings, *weighed_anew)) + made, until < top


def _known(reads: Reads, touched: Iterable[str]) -> dict[str, Reading]:
    """Those of some readings that there are already, by id."""
    ids = list(touched)
    found: dict[str, Reading] = {}
    for first in range(0, len(ids), 500):
        for reading in reads.find(Reading, id=ids[first : first + 500], limit=500):
            found[reading.id] = reading
    return found


def _events_of(reads: Reads, meter: Meter, reading: Reading) -> list[UsageEvent]:
    """All events of a reading's project, group and window."""
    span = {"at_us__ge": reading.from_us, "at_us__lt": reading.to_us}
    mine = every(
        reads, UsageEvent, organization_id=reading.organization_id, type=meter.event_type,
        project_id=reading.project_id, **span,
    )  # fmt: skip
    return [event for event in mine if can_count(meter, event) and group_of(meter, event) == reading.labels]


def charged(world: World, spending: Spending, reads: Reads, records: Sequence[UsageRecord], now_us: int) -> Changes:
    """Usage records of events, with their charges and how these are paid. What belongs to a closed month is due now.

    An amount that no account could hold (absurd events at absurd prices) is told and not charged.
    """
    rows: list[object] = list(records)
    told: list[Event] = []
    by_organization: dict[str, list[UsageRecord]] = defaultdict(list)
    for record in records:
        by_organization[record.organization_id].append(record)
    for organization_id, own in sorted(by_organization.items()):
        rating = rating_of(world, spending, organization_id)
        months = sorted({month_of(record.from_us) for record in own} - {spending.month})
        if months and spending.tiered:  # of other months the sums are not warm
            rating.used = {**spending.tallies}
            for month in months:
                rating.used |= tallies(reads, spending.tiered, month, organization_id=organization_id)
        charges: list[Charge] = []
        corrected = {""}  # one booking is reversed once, into how many parts tiers may cut what is told late
        for record in own:
            due_us = now_us if record.late_month else min(record.to_us, now_us)
            for charge in rating.charges(record):
                if abs(charge.amount_nano) < LIMIT_NANO and abs(charge.quantity) < MOST:
                    corrects = _corrected(reads, record, charge)
                    charges.append(replace(charge, at_us=due_us, corrects="" if corrects in corrected else corrects))
                    corrected.add(corrects)
                else:
                    told.append(_refused(charge, now_us))
        earlier = bookings(reads, {charge.id: charge.corrects for charge in charges if charge.corrects})
        rows += booked(world, spending, organization_id, charges, earlier)
    return Changes(tuple(rows), tuple(told))


def _corrected(reads: Reads, record: UsageRecord, charge: Charge) -> str:
    """The charge whose booking what is told too late corrects: the newest one of the same window; "" without one."""
    series, _, number = record.id.rpartition(".")
    if not record.late_month or number == "0" or charge.kind != "usage":
        return ""
    known = [
        one
        for one in every(reads, Charge, usage_id__prefix=f"{series}.", organization_id=record.organization_id)
        if one.kind == "usage" and one.meter == charge.meter
    ]
    return max(known, key=lambda one: (one.at_us, int(one.usage_id.rpartition(".")[2]), one.id)).id if known else ""


def _refused(charge: Charge, now_us: int) -> Event:
    text = f"{charge.quantity} of {charge.meter} cannot be charged: the amount is too large to be true."
    detail = {"usage": charge.usage_id, "meter": charge.meter, "price": charge.price_id}
    return Event(now_us, "charge_refused", charge.usage_id, text, charge.organization_id, charge.project_id, detail)


# Levels: what is kept until it is told otherwise.


def _levels(
    spending: Spending, reads: Reads, touched: Mapping[str, Touched], now_us: int
) -> tuple[list[UsageRecord], list[Reading]]:
    """Weigh anew the windows, up to the one that has just passed, that late or new events of levels change."""
    first: dict[str, Touched] = {}
    for one in sorted(touched.values(), key=lambda each: (each.blank.from_us, each.blank.id)):
        if one.meter.aggregation is Aggregation.TIME_WEIGHTED:
            first.setdefault(one.blank.id.replace(f" {one.blank.from_us}", "", 1), one)
    records: list[UsageRecord] = []
    readings: list[Reading] = []
    for _, one in sorted(first.items()):
        made = _weigh_on(spending, reads, one.meter, one.blank, now_us)
        records += made[0]
        readings += made[1]
    return records, readings


def _weigh_on(
    spending: Spending, reads: Reads, meter: Meter, blank: Reading, now_us: int
) -> tuple[list[UsageRecord], list[Reading]]:
    """One series from a window on to the last one that has passed: what each window comes to more or less."""
    records: list[UsageRecord] = []
    readings: list[Reading] = []
    level = _level_before(reads, meter, blank)
    while blank.to_us <= now_us:
        reading = reads.get(Reading, blank.id) or blank
        events = _events_of(reads, meter, reading)
        value, after = weighed(meter, reading, events, level), level_after(meter, events, level)
        if value != reading.value or after != reading.level:
            late = closed_month(spending, reading.organization_id, month_of(reading.from_us))
            record, reading = record_of(replace(reading, level=after), value, late)
            if record.quantities[meter.id]:
                records.append(record)
            readings.append(reading)
        level = after
        from_us, to_us = window_us(meter, blank.to_us)
        blank = replace(blank, id=blank.id.replace(f" {blank.from_us}", f" {from_us}", 1), from_us=from_us, to_us=to_us)
    return records, readings


def _level_before(reads: Reads, meter: Meter, blank: Reading) -> int:
    """Where a series stood at the beginning of a window: at its newest event before it."""
    earlier = every(
        reads, UsageEvent, organization_id=blank.organization_id, type=meter.event_type,
        project_id=blank.project_id, at_us__lt=blank.from_us,
    )  # fmt: skip
    mine = [one for one in earlier if can_count(meter, one) and group_of(meter, one) == blank.labels]
    return level_after(meter, mine, 0)


def levels_due(world: World, spending: Spending, store: Store, now_us: int) -> Changes:
    """At the end of each day (UTC): carry levels on over it, and weigh what datasets are kept."""
    today_us = now_us - now_us % DAY_US
    before: Intake | None = store.get(Intake, KEPT)
    if before is None:
        return Changes((Intake(KEPT, today_us),))
    if before.arrival >= today_us:
        return NOTHING
    begin_us, end_us = before.arrival, before.arrival + DAY_US
    records: list[UsageRecord] = []
    readings: list[Reading] = []
    for _, meter in sorted(world.all(Meter).items()):
        if meter.aggregation is Aggregation.TIME_WEIGHTED:
            for _, blank in sorted(_passed(world, store, meter, begin_us, end_us).items()):
                made = _weigh_on(spending, store, meter, blank, min(now_us, end_us))
                records += made[0]
                readings += made[1]
    records += _datasets(store, begin_us, end_us)
    after = replace(before, arrival=end_us, version=before.version + 1)
    return Changes((after, *readings)) + charged(world, spending, store, records, now_us)


def _passed(world: World, reads: Reads, meter: Meter, begin_us: int, end_us: int) -> dict[str, Reading]:
    """Blank readings of a level's first window in a day, for all series that stood above nothing or were told of."""
    from_us, to_us = window_us(meter, begin_us)
    blanks: dict[str, Reading] = {}
    for last in every(reads, Reading, meter=meter.id, to_us=from_us):
        if last.level:
            name = last.id.replace(f" {last.from_us}", f" {from_us}", 1)
            owner = (last.organization_id, last.project_id)
            blanks[name] = Reading(name, *owner, meter.id, last.labels, from_us, to_us, version=0)
    for organization_id in sorted(world.all(Organization)):
        told = every(
            reads, UsageEvent, organization_id=organization_id, type=meter.event_type,
            at_us__ge=from_us, at_us__lt=end_us,
        )  # fmt: skip
        for event in told:
            if can_count(meter, event):
                blank = reading_of(meter, event)
                name = blank.id.replace(f" {blank.from_us}", f" {from_us}", 1)
                blanks.setdefault(name, replace(blank, id=name, from_us=from_us, to_us=to_us))
    return blanks


def _datasets(reads: Reads, from_us: int, to_us: int) -> list[UsageRecord]:
    """What each project kept in datasets over a day: MiB (each dataset's rounded up) times seconds."""
    kept: dict[tuple[str, str], int] = defaultdict(int)
    for dataset in every(reads, Dataset, created_us__lt=to_us):
        mib = -(-dataset.size_bytes // MIB)
        kept[dataset.organization_id, dataset.project_id] += mib * (to_us - max(from_us, dataset.created_us))
    return [
        UsageRecord(
            id=f"{project_id} {DATASETS} {from_us}.0", allocation_id="", job_id="", organization_id=organization_id,
            project_id=project_id, member_id="", purchase="on-demand", region_id="", state="counted", from_us=from_us,
            to_us=to_us, quantities={DATASETS: quantity // SECOND_US},
        )
        for (organization_id, project_id), quantity in sorted(kept.items())
    ]  # fmt: skip
