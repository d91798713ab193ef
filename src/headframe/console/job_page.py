"""A job's pages: its story with place and cost, its log, its metrics, and what was asked for."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from headframe.api.jobs import Ref, find
from headframe.base.quantities import MILLI, SECOND_US
from headframe.console.job_document import document_of, yaml_of
from headframe.console.page import Page, Signed, page_router
from headframe.control.queries import story
from headframe.control.queries_jobs import asks, placement
from headframe.jobs.records import ENDED, Attempt, Job
from headframe.tenants.records import Member, Project
from headframe.tenants.roles import Permission

router = page_router()

_DOWNLOAD_BYTES = 1 << 20  # of log at once
# The mark and tone of what happens to a job; anything else is a dot.
MARKS = {
    "job_submitted": ("plus", "quiet"), "job_starting": ("quarter", "info"), "job_running": ("play", "info"),
    "job_succeeded": ("tick", "ok"), "job_failed": ("cross", "bad"), "job_stopped": ("pause", "quiet"),
    "job_stopping": ("pause", "warn"), "stop_ordered": ("pause", "warn"), "job_queued": ("clock", "quiet"),
    "job_retrying": ("clock", "warn"), "job_preempted": ("pause", "warn"), "engine_story": ("dot", "quiet"),
}  # fmt: skip
_OUTCOMES = {"": "info", "succeeded": "ok", "error": "bad", "node_failure": "bad", "stopped": "idle"}
_QUIET = frozenset({"allocation_held", "allocation_running", "allocation_stopping", "allocation_released"})


@router.get("/jobs/{job}")
def overview(page: Signed, job: Ref) -> Response:
    """What happens to a job, where it runs, and what it costs."""
    found = find(page.call, job)
    told = page.ask(story, found.id)(page.control.reads)
    if told["allocations"]:
        told["placement"] = placement(page.control.reads, told["allocations"][-1])
    events = [one for one in told["events"] if one.kind not in _QUIET]
    return _show(
        page, found, "overview", "job.html", told=told, events=events[::-1], marks=MARKS,
        timeline=_timeline(page, told),
    )  # fmt: skip


@router.get("/jobs/{job}/log")
def log(page: Signed, job: Ref) -> Response:
    """The log of a job, followed."""
    found = find(page.call, job)
    return _show(page, found, "log", "job_log.html", ranks=found.spec.nodes_max)


@router.get("/jobs/{job}/log.txt")
def download(page: Signed, job: Ref) -> Response:
    """The whole log as a text file, as the job wrote it."""
    found = find(page.call, job)

    def pieces() -> Any:
        place, end = 0, page.control.logs.end(found.id)
        while place < end:
            read, following = page.control.logs.read(found.id, place, _DOWNLOAD_BYTES)
            yield "".join(piece.text for piece in read if piece.stream != "progress").encode()
            if following <= place:
                return
            place = following

    headers = {"Content-Disposition": f'attachment; filename="{found.id}.log"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces(), 200, headers, "text/plain; charset=utf-8")


@router.get("/jobs/{job}/metrics")
def metrics(page: Signed, job: Ref) -> Response:
    """Charts of what was measured of a job and what it reported."""
    return _show(page, find(page.call, job), "metrics", "job_metrics.html")


@router.get("/jobs/{job}/config")
def config(page: Signed, job: Ref) -> Response:
    """What was asked for, as a job file."""
    found = find(page.call, job)
    project: Project | None = page.world.get(Project, found.project_id)
    text = yaml_of(document_of(found.spec, project.name if project is not None else ""))
    return _show(page, found, "config", "job_config.html", text=text, attempts=_attempts(page, found))


def _show(page: Page, job: Job, current: str, template: str, **values: Any) -> Response:
    """One of the pages, under the head that all share."""
    owner: Member | None = page.world.get(Member, job.member_id)
    project: Project | None = page.world.get(Project, job.project_id)
    mine = job.member_id == page.caller.member_id
    right = Permission.JOBS_WRITE if mine else Permission.JOBS_ADMIN
    values = {
        "job": job, "current": current, "owner": owner.name if owner is not None else job.member_id,
        "project": project.name if project is not None else job.project_id, "asks": asks(job.spec),
        "ended": job.state in ENDED,
        "ran_us": (job.ended_us or page.now_us) - job.started_us if job.started_us else None,
        "may_stop": job.state not in ENDED and page.may(right, job.organization_id, job.project_id), **values,
    }  # fmt: skip
    return page.show(template, section="jobs", title=job.name, **values)


def _attempts(page: Page, job: Job) -> list[Attempt]:
    return sorted(page.control.reads.find(Attempt, job_id=job.id, limit=500), key=lambda one: one.number)


def _timeline(page: Page, told: dict[str, Any]) -> str:
    """Attempts as spans of time, for the chart: waiting, preparing, running."""
    job: Job = told["job"]
    spans: list[dict[str, Any]] = []
    waited_us = job.submitted_us
    for one in told["attempts"][-200:]:
        if one.started_us > waited_us:
            spans.append(_span(waited_us, one.started_us, "waits", "idle"))
        begun_us = one.running_us or one.ended_us or page.now_us
        if begun_us > one.started_us:
            spans.append(_span(one.started_us, begun_us, f"attempt {one.number} prepares", "reserved"))
        if one.running_us:
            tone = _OUTCOMES.get(one.outcome, "warn")
            words = one.outcome.replace("_", " ") or "runs"
            spans.append(_span(one.running_us, one.ended_us, f"attempt {one.number}: {words}", tone))
        waited_us = one.ended_us or page.now_us
    if job.state not in ENDED and not any(one["to"] is None for one in spans) and page.now_us > waited_us:
        spans.append(_span(waited_us, None, "waits", "idle"))
    end_us = job.ended_us or page.now_us
    document = {
        "title": f"Attempts of {job.name}", "from": job.submitted_us // MILLI,
        "to": max(end_us, job.submitted_us + SECOND_US) // MILLI,
        "lanes": [{"name": "Attempts", "spans": spans}],
        **({} if job.ended_us else {"now": page.now_us // MILLI}),
    }  # fmt: skip
    return orjson.dumps(document).decode()


def _span(from_us: int, to_us: int | None, name: str, tone: str) -> dict[str, Any]:
    return {"from": from_us // MILLI, "to": None if to_us is None else to_us // MILLI, "name": name, "tone": tone}
