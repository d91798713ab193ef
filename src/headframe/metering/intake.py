"""Events of use as they come in: CloudEvents 1.0 in JSON, read strictly, from anyone.

What is wrong is refused with the number of the event and what is allowed; nothing of a batch is kept then. The same
event (by source and id) told again is no error and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headframe.base.errors import FutureEvent, Invalid, NegativeDuration, UnknownMeter
from headframe.base.quantities import MINUTE_US, parse_moment_us
from headframe.metering.count import check
from headframe.metering.defaults import TOKENS
from headframe.metering.records import Meter, UsageEvent
from headframe.metering.tokens import normalised

AHEAD_US = 5 * MINUTE_US  # how far the clocks of others may be before ours
BATCH = 10_000  # events told at once
_LONGEST = 250  # characters of a name
_DEEPEST = 8  # objects within each other in an event's data
_WIDEST = 100  # members of an event's data, all in all
_SOURCE = re.compile(r"[\x21-\x7e]+")
_KNOWN = ("specversion", "id", "source", "type")


@dataclass(frozen=True, slots=True)
class Desk:
    """What intake must know: for which projects one may tell, now, and by which meters events are counted.

    `projects` are (project, organization) by whatever name the subject of an event may use; "" is the one that is meant
    when there is none. `meters` are by type of event. `teller` is the organization whose key tells: what one tells
    never stands in the way of what another does.
    """

    projects: Mapping[str, tuple[str, str]]
    meters: Mapping[str, Sequence[Meter]]
    now_us: int
    teller: str = ""


def read_events(told: Sequence[Mapping[str, Any]], desk: Desk) -> list[UsageEvent]:
    """The events of a batch, each once, in the order told; `arrival` is yet to be given. Raises typed errors."""
    if len(told) > BATCH:
        raise Invalid(
            f"There are {len(told)} events in the batch.", field="events", value=len(told), allowed=f"up to {BATCH}"
        )
    events: dict[str, UsageEvent] = {}
    for number, one in enumerate(told):
        event = read_event(one, desk, f"events[{number}]")
        events.setdefault(event.id, event)
    return list(events.values())


def read_event(told: Mapping[str, Any], desk: Desk, place: str) -> UsageEvent:
    """One event, checked; `place` names it in errors."""
    if not isinstance(told, Mapping):
        raise Invalid(f"{place} is not an object.", field=place, allowed="a CloudEvent in JSON")
    for name in _KNOWN:
        value = told.get(name)
        if not isinstance(value, str) or not value or len(value) > _LONGEST or not value.isprintable():
            raise Invalid(
                f"{place}.{name} is missing or no text.", field=f"{place}.{name}", value=str(value)[:100],
                allowed=f"1 to {_LONGEST} printable characters",
            )  # fmt: skip
    if told["specversion"] != "1.0":
        raise Invalid(
            f"{place} is of version {told['specversion']!r}.", field=f"{place}.specversion", allowed="1.0"
        )  # fmt: skip
    if not _SOURCE.fullmatch(told["source"]):
        raise Invalid(f"{place}.source is no URI.", field=f"{place}.source", value=told["source"], allowed="a URI")
    if told["type"] not in desk.meters:
        raise UnknownMeter(
            f"No meter counts events of type {told['type']!r} ({place}).",
            next_step="Define a meter for it, or correct the type.",
            details={"field": f"{place}.type", "known": sorted(desk.meters)},
        )
    data = told.get("data")
    data = {} if data is None else data
    if not isinstance(data, Mapping) or not _small(data):
        raise Invalid(
            f"{place}.data is not a small object.", field=f"{place}.data",
            allowed=f"an object of at most {_WIDEST} members and {_DEEPEST} levels",
        )  # fmt: skip
    project_id, organization_id = _project(told.get("subject"), desk, place)
    at_us = _moment(told.get("time"), data, desk, place)
    try:
        event = UsageEvent(
            id=f"{organization_id} {desk.teller} {told['source']} {told['id']}",
            arrival=0,
            organization_id=organization_id,
            project_id=project_id,
            type=told["type"],
            at_us=at_us,
            received_us=desk.now_us,
            data=normalised(data) if told["type"] == TOKENS else dict(data),
        )
        check(event, desk.meters[event.type])
    except Invalid as error:  # says what of the data is wrong; of which event, is known here
        raise type(error)(
            f"{place}: {error.message}", field=f"{place}.data.{error.field.removeprefix('data.')}", value=error.value,
            allowed=error.allowed, next_step=error.next_step,
        ) from None  # fmt: skip
    return event


def _project(subject: object, desk: Desk, place: str) -> tuple[str, str]:
    """The subject of an event of use is a project, by id or name."""
    found = desk.projects.get("" if subject is None else subject) if isinstance(subject, str | None) else None
    if found is None:
        raise Invalid(
            f"{place}.subject is {str(subject)[:100]!r}, which is no project here.",
            field=f"{place}.subject", value=str(subject)[:100], allowed="the name or id of a project",
        )  # fmt: skip
    return found


def _moment(time: object, data: Mapping[str, Any], desk: Desk, place: str) -> int:
    at_us = desk.now_us if time is None else parse_moment_us(str(time)[:40], field=f"{place}.time")
    if at_us > desk.now_us + AHEAD_US:
        raise FutureEvent(
            f"{place} is dated {time}, which is still to come.",
            field=f"{place}.time", value=str(time), allowed="now or earlier", next_step="Set the sender's clock.",
        )  # fmt: skip
    if at_us < 0:
        raise Invalid(f"{place}.time is before 1970.", field=f"{place}.time", value=str(time), allowed="since 1970")
    start = data.get("start")
    if start is not None and parse_moment_us(str(start)[:40], field=f"{place}.data.start") > at_us:
        raise NegativeDuration(
            f"{place} ends ({time}) before it begins ({start}).",
            field=f"{place}.data.start", value=str(start), allowed="at or before the event's time",
            next_step="Look at the sender's clock: it may have been set back.",
        )  # fmt: skip
    return at_us


def _small(data: Mapping[str, Any]) -> bool:
    left = _WIDEST
    level: list[Any] = [data]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for one in level:
            members = one.values() if isinstance(one, Mapping) else one
            left -= len(one)
            if left < 0:
                return False
            inner += [each for each in members if isinstance(each, Mapping | list)]
        if not inner:
            return True
        level = inner
    return False
