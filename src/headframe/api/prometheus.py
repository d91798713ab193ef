"""Figures of the cloud in the text format of Prometheus: names and units by its conventions, nothing of tenants."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from headframe.api.problems import unauthenticated
from headframe.api.wire import Serving
from headframe.base.errors import HeadframeError
from headframe.base.quantities import MILLI, SECOND_US
from headframe.control.context import Context
from headframe.control.queries_tenancy import authenticate
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, HoldState, Node
from headframe.jobs.records import Job, JobState
from headframe.tenants.roles import Permission

router = APIRouter(tags=["health"])

FIGURES_LAST_US = SECOND_US  # so that nobody without a key can keep the loop busy
MOST_DEVICES = 2_000  # of a larger fleet only the sums are told: each machine's own exporter tells the rest
_OPEN_STATES = (JobState.PENDING, JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.STOPPING)
_MIB = 1 << 20
# Figures of each device: its name, what it is, which gauge tells it, and one of ours in theirs.
_DEVICES: tuple[tuple[str, str, str, float], ...] = (
    ("accelerator_busy_ratio", "How busy the accelerator is, from 0 to 1.", "use_percent", 0.01),
    ("accelerator_memory_used_bytes", "Memory of the accelerator in use.", "memory_mib", _MIB),
    ("accelerator_power_watts", "Power that the accelerator draws.", "power_w", 1),
    ("accelerator_temperature_celsius", "Temperature of the accelerator.", "temperature_c", 1),
    ("accelerator_memory_errors", "Memory errors that could not be mended.", "errors", 1),
)  # fmt: skip
_NODES: tuple[tuple[str, str, str, float], ...] = (
    ("node_cpu_used_cores", "Processors in use.", "cpu_milli", 1 / MILLI),
    ("node_memory_used_bytes", "Memory in use.", "memory_mib", _MIB),
    ("node_disk_used_bytes", "Disk in use.", "disk_mib", _MIB),
)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Figures.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def figures(request: Request) -> Response:
    """Figures in the text format of Prometheus; who may read them without a key is a setting (`metrics`)."""
    serving: Serving = request.app.state.serving
    if not _is_open(serving.limits.figures, request):
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise unauthenticated()
        caller = authenticate(serving.control.world, serving.clock.now_us(), text.strip())
        caller.need(Permission.FLEET_READ, caller.organization_id)
    return Response("\n".join(_figures(serving)) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _is_open(setting: str, request: Request) -> bool:
    if setting != "local":
        return setting == "open"
    try:
        here = request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return here and "forwarded" not in request.headers and "x-forwarded-for" not in request.headers


def fleet_figures(world: World, context: Context) -> dict[str, Any]:
    """A question: jobs and nodes by state, accelerators in thousandths, and the devices of a small fleet."""
    held = sum(
        share.milli
        for allocation in world.all(Allocation).values()
        if allocation.state is not HoldState.RELEASED
        for each in allocation.slices
        for share in each.shares
    )
    cards, nodes = world.all(Accelerator), world.all(Node)
    listed = sorted(cards.values(), key=lambda card: card.id) if len(cards) <= MOST_DEVICES else []
    return {
        "jobs": Counter(job.state for job in world.all(Job).values()),
        "nodes": Counter(node.state.value for node in nodes.values()),
        "gpus_total": MILLI * len(cards),
        "gpus_held": held,
        "unhealthy": sum(not card.healthy for card in cards.values()),
        "devices": [
            (card.id, nodes[card.node_id].name, card.index, card.kind) for card in listed if card.node_id in nodes
        ],
        "node_names": {node.id: node.name for node in nodes.values()} if len(nodes) <= MOST_DEVICES else {},
    }  # fmt: skip


def _fresh(serving: Serving) -> dict[str, Any]:
    """The figures of the fleet, at most a second old."""
    now_us = serving.clock.now_us()
    if serving.figures is None or now_us - serving.figures_us >= FIGURES_LAST_US:
        serving.figures_us = now_us
        try:
            serving.figures = serving.control.ask(fleet_figures)
        except HeadframeError:
            serving.figures = None
    return serving.figures or {}


class Text:
    """Lines of figures."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, name: str, kind: str, help_text: str, *values: tuple[Mapping[str, object], float]) -> None:
        """One figure with its labels; nothing where there are no values."""
        if values:
            self.lines.append(f"# HELP headframe_{name} {help_text}")
            self.lines.append(f"# TYPE headframe_{name} {kind}")
        self.lines.extend(f"headframe_{name}{_labels(labels)} {value}" for labels, value in values)


def _labels(labels: Mapping[str, object]) -> str:
    """Labels as the format wants them: a name of a node may hold anything."""
    told = [
        f'{name}="{str(value).replace(chr(92), chr(92) * 2).replace(chr(10), " ").replace(chr(34), chr(92) + chr(34))}"'
        for name, value in labels.items()
    ]
    return f"{{{','.join(told)}}}" if told else ""


def _figures(serving: Serving) -> list[str]:
    text, found = Text(), _fresh(serving)
    if found:
        jobs = [({"state": state.value}, found["jobs"].get(state, 0)) for state in _OPEN_STATES]
        text.tell("jobs", "gauge", "Jobs that have not ended, by state.", *jobs)
        nodes = [({"state": state}, number) for state, number in sorted(found["nodes"].items())]
        text.tell("nodes", "gauge", "Nodes by state.", *nodes)
        text.tell("gpus_total", "gauge", "Accelerators of the fleet.", ({}, found["gpus_total"] / MILLI))
        text.tell("gpus_held", "gauge", "Accelerators that are held by jobs.", ({}, found["gpus_held"] / MILLI))
        text.tell("gpus_unhealthy", "gauge", "Accelerators that are not healthy.", ({}, found["unhealthy"]))
        _tell_devices(text, serving, found)
    _tell_server(text, serving)
    return text.lines


def _tell_devices(text: Text, serving: Serving, found: dict[str, Any]) -> None:
    """What was last measured of nodes and accelerators."""
    control = serving.control
    for name, help_text, meter, size in _NODES:
        known = [(node, control.metrics.newest.get(node, {}).get(meter)) for node in sorted(found["node_names"])]
        told = [({"node": found["node_names"][node]}, value * size) for node, value in known if value is not None]
        text.tell(name, "gauge", help_text, *told)
    newest = [(card, control.gauges.newest(card[0])) for card in found["devices"]]
    for name, help_text, meter, size in _DEVICES:
        values = [
            ({"node": node, "accelerator": index, "kind": kind}, getattr(gauge, meter) * size)
            for (_, node, index, kind), gauge in newest
            if gauge is not None and getattr(gauge, meter) is not None
        ]
        text.tell(name, "gauge", help_text, *values)


def _tell_server(text: Text, serving: Serving) -> None:
    """How the server itself is."""
    control = serving.control
    text.tell("events_total", "counter", "Events on record.", ({}, control.recorded_seq))
    text.tell("ticks_total", "counter", "Turns of the loop.", ({}, control.ticks))
    text.tell("beat_seconds", "gauge", "When the last turn of the loop ended.", ({}, control.beat_us / SECOND_US))
    text.tell("points_total", "counter", "Points measured or reported.", ({}, control.metrics.told))
    text.tell("points_refused_total", "counter", "Points beyond what a job may report.", ({}, control.metrics.refused))
    text.tell("points_waiting", "gauge", "Points that are not on record yet.", ({}, control.metrics.waiting))
    requests = [
        ({"method": method, "status": status}, number)
        for (method, status), number in sorted(dict(serving.requests).items())
    ]
    text.tell("http_requests_total", "counter", "Requests answered.", *requests)
    seconds = serving.request_us / SECOND_US
    text.tell("http_request_seconds_total", "counter", "Time spent on them.", ({}, seconds))
    text.tell("http_requests_open", "gauge", "Requests under way.", ({}, serving.open_requests))
    text.tell("streams_open", "gauge", "Streams being followed.", ({}, len(serving.bells)))
    text.tell("memory_bytes", "gauge", "Resident memory of the server.", ({}, _resident_bytes()))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
