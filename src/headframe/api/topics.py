"""What can be followed live: gauges, of which only the newest picture counts, and events, of which each one counts.

To add a gauge: its line in `GAUGES`, and the question that draws the picture in `control/queries_<subject>.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headframe.base.changes import Event
from headframe.base.errors import Invalid
from headframe.control.queries_home import overview, spend_to_date
from headframe.control.queries_map import fleet_frame
from headframe.control.queries_metrics import lately
from headframe.control.queries_node_table import node_window
from headframe.control.queries_nodes import node_in_full
from headframe.tenants.roles import Permission

MOST_TOPICS = 20  # of one stream
_TOPIC = re.compile(r"([a-z_]{1,40})(?::([!-+\--~]{1,200}))?")  # no comma, which stands between topics


@dataclass(frozen=True, slots=True)
class Gauge:
    """A picture of now, drawn while somebody looks at it, once for all who have the same rights.

    `question(world, context, caller, argument)` gives the document, or a `read(reads)` that does. It is asked after
    each commit, at most every `least_s`, and every `every_s` besides (0: never). The caller that it gets is any of
    those who look, without a name. `shared` ones are drawn once for everybody, `personal` ones for each member who
    lacks that right.
    """

    name: str
    right: Permission
    question: Callable[..., Any]
    every_s: float = 0
    least_s: float = 0.5
    shared: bool = False
    personal: Permission | None = None


# `events` are all that one may see, `events:<id>` those about one thing, `jobs` and `job:<id>` the jobs themselves.
FEEDS = ("events", "jobs", "job")
GAUGES: dict[str, Gauge] = {
    one.name: one
    for one in (
        Gauge("node", Permission.FLEET_READ, node_in_full, every_s=2),
        Gauge("nodes", Permission.FLEET_READ, node_window, every_s=2),
        Gauge("metrics", Permission.JOBS_READ, lately, every_s=2, least_s=1.5),
        Gauge("fleet", Permission.FLEET_READ, fleet_frame, every_s=2),
        Gauge("home", Permission.JOBS_READ, overview, every_s=15, personal=Permission.INVOICES_READ),
        Gauge("spend", Permission.USAGE_READ, spend_to_date, every_s=15, least_s=5, personal=Permission.INVOICES_READ),
    )
}  # fmt: skip


def read_topics(text: str) -> tuple[tuple[str, str], ...]:
    """(name, argument) of each topic in a list with commas, each once. Raises `Invalid` for what is none."""
    named = [one for one in (part.strip() for part in text.split(",")) if one]
    found = []
    for one in dict.fromkeys(named):
        match = _TOPIC.fullmatch(one)
        if match is None or (match[1] not in FEEDS and match[1] not in GAUGES) or (match[1] == "job" and not match[2]):
            known = ", ".join([*FEEDS, *sorted(GAUGES)])
            raise Invalid(f"topics holds {one[:80]!r}.", field="topics", value=one[:80], allowed=f"any of {known}")
        found.append((match[1], match[2] or ""))
    if not 1 <= len(found) <= MOST_TOPICS:
        raise Invalid(
            f"topics names {len(found)} topics.", field="topics", value=len(found), allowed=f"1 to {MOST_TOPICS}"
        )  # fmt: skip
    return tuple(found)


def topics_of(event: Event) -> tuple[str, ...]:
    """The topics of feeds that an event is told in."""
    found: tuple[str, ...] = ("events", f"events:{event.subject}")
    return (*found, "jobs", f"job:{event.subject}") if event.subject.startswith("job_") else found
