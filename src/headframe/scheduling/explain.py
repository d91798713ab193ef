"""Requests in words: what is asked for, what is free of it, and whether it could ever be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headframe.base.errors import Impossible
from headframe.base.quantities import counted, format_mib, format_second
from headframe.fleet.records import Reservation
from headframe.jobs.records import Job
from headframe.scheduling.calendar import inside
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.scheduling.fit import fit, suitable, tasks_per_node
from headframe.scheduling.task import tasks_on
from headframe.scheduling.want import Want
from headframe.workloads.spec import Gpus, Resources

POSSIBLE_LIMIT = 10_000  # wants remembered, so that nobody can fill the memory by asking
CLOSE = {"nvlink": ", on one fast link", "node": ", on one node", "rack": ", in one rack", "block": ", in one block"}
BLOCKS = {
    "budget_exhausted": "What is left of a budget does not pay for a start: raise it, or wait for the next month.",
    "no_exchange_rate": "Nothing is priced in the organization's currency, nor converted to it: ask the operator.",
    "credit_exhausted": "What is left of the prepaid credit does not pay for a start: buy credit.",
}


def words(gpus: Gpus | None) -> str:
    """`8 x H100`, `0.5 of any GPU`, `2 x any GPU of 24-80 GB`, or `no GPU`."""
    if gpus is None:
        return "no GPU"
    kind = gpus.kind or "any GPU"
    low, high = gpus.memory_min_gib, gpus.memory_max_gib
    if low is not None or high is not None:
        same = low is not None and low == high
        kind += f" of {low} GB" if same else f" of {low or 0}-{high if high is not None else ''} GB"
    return f"{gpus.milli / WHOLE:g} of {kind}" if gpus.milli < WHOLE else f"{gpus.count} x {kind}"


def shape(want: Want) -> str:
    """A request in words: what each task asks for, and how many there are."""
    resources = want.resources
    wanted = " or ".join(words(gpus) for gpus in want.alternatives)
    text = f"{wanted}, {resources.cpu_milli / 1000:g} CPU, {format_mib(resources.memory_mib)} of memory"
    text += " on a node of its own" if want.exclusive else ""
    if want.nodes_min == 1:
        return f"{text}, on one fast link" if want.topology == "nvlink" else text
    return f"{want.nodes_min} x ({text}){CLOSE.get(want.topology, '')}"


def refuse_impossible(capacity: Capacity, want: Want) -> None:
    """Raise `Impossible`, with the nearest shape that could run, when no node could ever take the request."""
    if want in capacity.possible:
        return
    empty = capacity.emptied()
    if fit(empty, want) is not None:
        if len(capacity.possible) >= POSSIBLE_LIMIT:
            capacity.possible.clear()
        capacity.possible[want] = None
        return
    near, (field, value) = nearest(empty, want), _beyond(empty, want)
    raise Impossible(
        f"No node here could ever run {shape(want)}.",
        next_step=f"The nearest that could: {near}. See `headframe nodes`.",
        details={"asked": shape(want), "nearest": near, "field": field, "value": value, "allowed": near},
    )


def _beyond(empty: Capacity, want: Want) -> tuple[str, str]:
    """The field of a request that not even an empty cloud could meet, and its value in words."""
    ready, resources = empty.allowed(want.clusters, want.where), want.resources
    if not empty.allowed(want.clusters).any():
        return "clusters", ", ".join(want.clusters)
    if not ready.any():
        return ("node_names", ", ".join(want.nodes)) if want.nodes else ("node_labels", ", ".join(want.labels))
    if resources.cpu_milli > int(empty.cpu[ready].max()):
        return "resources.cpu", f"{resources.cpu_milli / 1000:g}"
    if resources.memory_mib > int(empty.memory[ready].max()):
        return "resources.memory", format_mib(resources.memory_mib)
    if resources.disk_mib > int(empty.disk[ready].max()):
        return "resources.disk", format_mib(resources.disk_mib)
    fits = any(tasks_per_node(empty, resources, gpus, ready).any() for gpus in want.alternatives)
    if fits and want.nodes_min > 1:
        return "nodes", str(want.nodes_min)
    return "resources.gpu" if resources.gpus else "resources", shape(replace(want, nodes_min=1))


def refuse_unfitting(capacity: Capacity, want: Want, reservation: Reservation) -> None:
    """Raise `Impossible` when a job could never run in the reservation that it names, with the nearest that could."""
    if reservation.lacking:
        return  # part of it has no place now: what it will have nobody knows
    empty = inside(capacity.emptied(), reservation.slices)
    if fit(empty, want) is not None:
        return
    empty.usable = empty.usable & (empty.gpu > 0)
    empty.ready = empty.ready & (empty.cpu > 0)
    found = nearest(empty, want)
    raise Impossible(
        f"The reservation {reservation.name} could never hold {shape(want)}.",
        next_step=f"The nearest that it could: {found}. See `headframe reservations show {reservation.name}`.",
        details={"asked": shape(want), "nearest": found, "reservation": reservation.id},
    )


def nearest(empty: Capacity, want: Want) -> str:
    """The largest task and gang of the wanted kind that an empty cloud could hold, in words."""
    ready = empty.allowed(want.clusters, want.where)
    if not ready.any():
        return "nothing, as no node has the cluster, labels and names asked for and only taints that the job tolerates"
    best = want.alternatives[0]
    suits = suitable(empty, best) & ready[:, None] if best is not None else None
    if best is not None and suits is not None and int(suits.sum()) == 0:
        there = (int(code) for code in np.unique(empty.kind[empty.usable & ready[:, None]]) if code >= 0)
        return f"the accelerators here are: {', '.join(empty.kinds[code] for code in there) or 'none'}"
    cpu, memory = int(empty.cpu[ready].max()), int(empty.memory[ready].max())
    parts = [f"{cpu / 1000:g} CPU", f"{format_mib(memory)} of memory"]
    if suits is not None and best is not None:
        parts.insert(0, words(Gpus(best.kind, int(suits.sum(axis=1).max()), WHOLE)))
    tasks = _together(empty, want, best)
    gang = f"; of such tasks {tasks} fit at once" if tasks else ""
    return f"{', '.join(parts)} on one node{gang}"


def free(capacity: Capacity, want: Want) -> dict[str, Any]:
    """What is free for a want: devices, and the most of each thing on any one node."""
    ready = capacity.allowed(want.clusters, want.where)
    best = want.alternatives[0]
    answer: dict[str, Any] = {
        "nodes_ready": int(ready.sum()),
        "most_cpu_on_a_node": _most(capacity.cpu, ready) / 1000,
        "most_memory_mib_on_a_node": _most(capacity.memory, ready),
        "tasks_that_fit": max(_together(capacity, want, gpus) for gpus in want.alternatives),
    }
    if best is not None:
        suits = suitable(capacity, best) & ready[:, None]
        answer["gpus_suitable"] = int(suits.sum())
        answer["gpus_free"] = int((suits & (capacity.gpu == WHOLE)).sum())
        answer["most_gpus_free_on_a_node"] = int((suits & (capacity.gpu == WHOLE)).sum(axis=1).max(initial=0))
    return answer


def _together(capacity: Capacity, want: Want, gpus: Gpus | None) -> int:
    """How many tasks fit at once; those of a gang as close together as they have to be, of one kind."""
    if gpus is not None and gpus.kind is None and want.nodes_max > 1:
        return max((_together(capacity, want, replace(gpus, kind=kind)) for kind in capacity.kinds), default=0)
    counts = tasks_on(capacity, want.task(gpus), slice(None))
    if want.nodes_max == 1 or not len(counts):
        return int(counts.sum())
    places = capacity.places
    return int(np.bincount(places.codes[places.level(want.topology)], weights=counts).max())


def _most(array: Any, ready: Any) -> int:
    return int(np.where(ready, array, 0).max(initial=0))


def lacks(resources: Resources, want: Want, found: Mapping[str, Any]) -> str:
    """The first thing that is short, in words."""
    best = want.alternatives[0]
    if not found["nodes_ready"]:
        return "no node is ready"
    if best is not None and best.milli == WHOLE and found["most_gpus_free_on_a_node"] < best.count:
        return (
            f"it needs {words(best)} on one node; {found['gpus_free']} of {found['gpus_suitable']} such GPUs are free, "
            f"at most {found['most_gpus_free_on_a_node']} on one node"
        )
    if found["most_cpu_on_a_node"] * 1000 < resources.cpu_milli:
        return (
            f"it needs {resources.cpu_milli / 1000:g} CPU on one node; at most {found['most_cpu_on_a_node']:g} are free"
        )
    if found["most_memory_mib_on_a_node"] < resources.memory_mib:
        return (
            f"it needs {format_mib(resources.memory_mib)} of memory on one node; at most "
            f"{format_mib(found['most_memory_mib_on_a_node'])} are free"
        )
    if want.nodes_min == 1:
        return f"each thing is free somewhere, but no one node has all of it now: {shape(want)}"
    return f"{found['tasks_that_fit']} of the {want.nodes_min} tasks that it needs would fit now"


def of_job(job: Job) -> str:
    """A reason for states that no capacity decides."""
    if job.after:
        return f"It waits for {counted(len(job.after), 'other job')}: {', '.join(job.after)}."
    if job.spec.cron:
        return f"Its schedule starts it next at {format_second(job.not_before_us)}."
    return f"It is held back until {format_second(job.not_before_us)}."
