"""Routes without a key: is it alive, is it ready, and figures for Prometheus."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from headframe.api.wire import Serving, answer
from headframe.base.errors import HeadframeError, TooBusy
from headframe.base.quantities import MILLI, SECOND_US
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, HoldState, Node, Region
from headframe.jobs.records import Job, JobState

router = APIRouter(tags=["health"])

READY_TIMEOUT_S = 5.0
FIGURES_LAST_US = SECOND_US  # so that nobody without a key can keep the loop busy
_OPEN_STATES = (JobState.PENDING, JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.STOPPING)


@dataclass
class Health:
    """`ok`, or an error instead."""

    status: str


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """The server answers."""
    return answer({"status": "ok"})


@router.get("/readyz", response_model=Health)
async def readyz(request: Request) -> Response:
    """The loop turns and the store can be read. One look at a time, however many ask."""
    serving: Serving = request.app.state.serving
    if serving.look is None or serving.look.done():
        serving.look = asyncio.create_task(run_in_threadpool(_look, serving))
    done, _ = await asyncio.wait({serving.look}, timeout=READY_TIMEOUT_S)
    if not done or serving.look.exception() is not None or serving.closing:
        raise TooBusy("The server is not ready.", next_step="Try again; if it stays, see the server's log.")
    return answer({"status": "ok"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Figures.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def figures(request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    serving: Serving = request.app.state.serving
    return Response("\n".join(_figures(serving)) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def fleet_figures(world: World, context: Context) -> dict[str, Any]:
    """A question: jobs by state, and accelerators in thousandths, all and held."""
    held = sum(
        share.milli
        for allocation in world.all(Allocation).values()
        if allocation.state is not HoldState.RELEASED
        for each in allocation.slices
        for share in each.shares
    )
    return {
        "jobs": Counter(job.state for job in world.all(Job).values()),
        "nodes": Counter(node.state.value for node in world.all(Node).values()),
        "gpus_total": MILLI * len(world.all(Accelerator)),
        "gpus_held": held,
    }


def _look(serving: Serving) -> None:
    if not serving.control.alive():
        raise TooBusy("The loop does not turn.")
    serving.control.ask(_touch)


def _touch(world: World, context: Context) -> int:
    return context.reads.count(Region)


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


def _figures(serving: Serving) -> list[str]:
    control, found = serving.control, _fresh(serving)
    lines: list[str] = []

    def tell(name: str, kind: str, help_text: str, values: Sequence[tuple[str, float]]) -> None:
        lines.append(f"# HELP headframe_{name} {help_text}")
        lines.append(f"# TYPE headframe_{name} {kind}")
        lines.extend(f"headframe_{name}{labels} {value}" for labels, value in values)

    if found:
        jobs = [(f'{{state="{state.value}"}}', found["jobs"].get(state, 0)) for state in _OPEN_STATES]
        tell("jobs", "gauge", "Jobs that have not ended, by state.", jobs)
        nodes = [(f'{{state="{state}"}}', number) for state, number in sorted(found["nodes"].items())]
        tell("nodes", "gauge", "Nodes by state.", nodes)
        tell("gpus_total", "gauge", "Accelerators of the fleet.", [("", found["gpus_total"] / MILLI)])
        tell("gpus_held", "gauge", "Accelerators that are held by jobs.", [("", found["gpus_held"] / MILLI)])
    tell("events_total", "counter", "Events on record.", [("", control.world.last_event_seq)])
    tell("ticks_total", "counter", "Turns of the loop.", [("", control.ticks)])
    tell("beat_seconds", "gauge", "When the last turn of the loop ended.", [("", control.beat_us / SECOND_US)])
    requests = [
        (f'{{method="{method}",status="{status}"}}', number)
        for (method, status), number in sorted(dict(serving.requests).items())
    ]
    tell("http_requests_total", "counter", "Requests answered.", requests)
    tell("http_request_seconds_total", "counter", "Time spent on them.", [("", serving.request_us / SECOND_US)])
    tell("http_requests_open", "gauge", "Requests under way.", [("", serving.open_requests)])
    tell("streams_open", "gauge", "Streams being followed.", [("", len(serving.bells))])
    tell("memory_bytes", "gauge", "Resident memory of the server.", [("", _resident_bytes())])
    return lines


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
