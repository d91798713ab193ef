"""From events to readings and usage records: what each meter counts, whatever the order in which events came.

A reading is what a meter shows for one project, group and window. It only ever becomes a usage record of what came on
top of what was counted before. So the records of a window always add up to what its events come to, and an event that
comes late adds the difference that it makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.errors import Invalid, NegativeDuration
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US, month_bounds_us, month_of
from headframe.metering.records import Aggregation, Meter, Reading, UsageEvent, UsageRecord, Window

GROWING = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX})
LARGEST = 1 << 40  # of an event: with it times seconds, and many of them, sums stay within 64 bits
MOST = 1 << 62  # of a reading


def window_us(meter: Meter, at_us: int) -> tuple[int, int]:
    """The window [from, to) of a meter that holds the moment."""
    if meter.window is Window.MONTH:
        return month_bounds_us(month_of(at_us))
    length = HOUR_US if meter.window is Window.HOUR else DAY_US
    start = at_us - at_us % length
    return start, start + length


def at_path(data: Mapping[str, Any], path: str) -> Any:
    """What a dotted path leads to; None when it leads nowhere."""
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def number_of(meter: Meter, event: UsageEvent) -> int:
    """The whole number that a meter takes from an event; raises `Invalid` when there is none."""
    if meter.aggregation is Aggregation.COUNT:
        return 1
    value = at_path(event.data, meter.path)
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 17:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
        found = "missing" if value is None else repr(str(value)[:60])
        raise Invalid(
            f"data.{meter.path} is {found}, of which {meter.id} cannot count.",
            field=f"data.{meter.path}", value=str(value)[:60], allowed="a whole number",
        )  # fmt: skip
    if value < 0:
        raise NegativeDuration(
            f"data.{meter.path} is {value}: less than nothing was used.",
            field=f"data.{meter.path}", value=value, allowed="0 or more",
        )  # fmt: skip
    return value


def check(event: UsageEvent, meters: Iterable[Meter]) -> None:
    """Raise when any of the meters cannot count the event."""
    for meter in meters:
        if meter.aggregation is Aggregation.UNIQUE:
            if at_path(event.data, meter.path) is None:
                raise Invalid(f"data.{meter.path} is missing.", field=f"data.{meter.path}", allowed="a value")
        else:
            number_of(meter, event)


def can_count(meter: Meter, event: UsageEvent) -> bool:
    """Whether a meter can count an event; one that was defined after it came in may not."""
    try:
        check(event, (meter,))
    except Invalid:
        return False
    return True


def group_of(meter: Meter, event: UsageEvent) -> dict[str, str]:
    """What the event is told apart by, as texts."""
    return {path: _text(at_path(event.data, path)) for path in meter.group_by}


def _text(value: Any) -> str:
    return value[:100] if isinstance(value, str) else "" if value is None else json.dumps(value, sort_keys=True)[:100]


def reading_of(meter: Meter, event: UsageEvent) -> Reading:
    """An empty reading of the window and group that an event belongs to."""
    from_us, to_us = window_us(meter, event.at_us)
    labels = group_of(meter, event)
    group = json.dumps(labels, sort_keys=True, separators=(",", ":")) if labels else ""
    return Reading(
        id=f"{event.project_id} {meter.id} {from_us} {group}".rstrip(),
        organization_id=event.organization_id,
        project_id=event.project_id,
        meter=meter.id,
        labels=labels,
        from_us=from_us,
        to_us=to_us,
        version=0,
    )


def grown(meter: Meter, reading: Reading, events: Sequence[UsageEvent]) -> int:
    """The value of a reading with more events, for the aggregations that need no look back."""
    numbers = [number_of(meter, event) for event in events]
    if meter.aggregation is Aggregation.MAX:
        return max(reading.value, *numbers)
    return min(MOST, reading.value + sum(numbers))


def latest(meter: Meter, events: Sequence[UsageEvent]) -> int:
    """The number of the newest event; of several of one moment, of the one with the greatest id."""
    return number_of(meter, max(events, key=lambda one: (one.at_us, one.id)))


def weighed(meter: Meter, reading: Reading, events: Iterable[UsageEvent], level: int) -> int:
    """Level x seconds of a window (whole, rounded down), from all its events and the level at its beginning."""
    total, at_us = 0, reading.from_us
    for event in sorted(events, key=lambda one: (one.at_us, one.id)):
        total += level * (event.at_us - at_us)
        at_us, level = event.at_us, number_of(meter, event)
    return (total + level * (reading.to_us - at_us)) // SECOND_US


def level_after(meter: Meter, events: Sequence[UsageEvent], level: int) -> int:
    """Where a level stands after some events, when it stood at `level` before."""
    return latest(meter, events) if events else level


def unlike(meter: Meter, events: Iterable[UsageEvent]) -> int:
    """How many different values there are."""
    return len({_text(at_path(event.data, meter.path)) for event in events})


def record_of(reading: Reading, value: int, late_month: str) -> tuple[UsageRecord, Reading]:
    """What a reading that now shows `value` adds to the use, and the reading that remembers it."""
    record = UsageRecord(
        id=f"{reading.id}.{reading.records}",
        allocation_id="",
        job_id="",
        organization_id=reading.organization_id,
        project_id=reading.project_id,
        member_id="",
        purchase="on-demand",
        region_id="",
        state="counted",
        from_us=reading.from_us,
        to_us=reading.to_us,
        quantities={reading.meter: value - reading.value},
        labels=reading.labels,
        late_month=late_month,
    )
    return record, replace(reading, value=value, records=reading.records + 1, version=reading.version + 1)


@dataclass(slots=True)
class Touched:
    """A reading that new events belong to: as it would be if it were empty, and those events."""

    meter: Meter
    blank: Reading
    events: list[UsageEvent]


def sorted_out(meters: Iterable[Meter], events: Sequence[UsageEvent]) -> dict[str, Touched]:
    """The events by the readings that they belong to, in the order of these; what a meter cannot count is left out."""
    touched: dict[tuple[object, ...], Touched] = {}
    for meter in meters:
        for event in events:
            if event.type != meter.event_type or not can_count(meter, event):
                continue
            group = tuple(_text(at_path(event.data, path)) for path in meter.group_by)
            key = (meter.id, event.project_id, window_us(meter, event.at_us)[0], group)
            known = touched.get(key)
            if known is None:
                known = touched[key] = Touched(meter, reading_of(meter, event), [])
            known.events.append(event)
    by_id = {one.blank.id: one for one in touched.values()}
    return {name: by_id[name] for name in sorted(by_id)}


Lookup = Callable[[Meter, Reading], Sequence[UsageEvent]]


def count(
    touched: Mapping[str, Touched],
    known: Mapping[str, Reading],
    all_of: Lookup,
    late_month: Callable[[Reading], str],
) -> tuple[list[UsageRecord], list[Reading]]:
    """Take new events in: the usage records that they make, and the readings after them, ordered by reading.

    `known` are the readings there are already, `all_of` finds all events of a reading, for the aggregations that must
    look back, and `late_month` tells whether a reading's month is closed. A level ("time_weighted") is not counted
    here, but when its window has passed: see `weighed`.
    """
    records: list[UsageRecord] = []
    readings: list[Reading] = []
    for name, one in touched.items():
        meter, reading = one.meter, known.get(name, one.blank)
        if meter.aggregation is Aggregation.TIME_WEIGHTED:
            continue
        if meter.aggregation in GROWING:
            value = grown(meter, reading, one.events)
        elif meter.aggregation is Aggregation.LATEST:
            value = latest(meter, all_of(meter, reading))
        else:
            value = unlike(meter, all_of(meter, reading))
        if value != reading.value:
            record, after = record_of(reading, value, late_month(reading))
            records.append(record)
            readings.append(after)
    return records, readings
