"""A job's pages: its story with place and cost, its log, its metrics, and what was asked for."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response, StreamingResponse

from headframe.api.jobs import Ref, find
from headframe.base.quantities import format_span
from headframe.console.job_document import document_of, yaml_of
from headframe.console.page import Page, Signed, page_router
from headframe.control.queries import story
from headframe.control.queries_jobs import asks, placement
from headframe.jobs.records import ENDED, Attempt, Job, JobState
from headframe.tenants.records import Member, Project
from headframe.tenants.roles import Permission

router = page_router()

MOST_SPANS = 100  # attempts that the bar shows
_DOWNLOAD_BYTES = 1 << 20  # of log at once
# The mark and tone of what happens to a job; anything else is a dot.
MARKS = {
    "job_submitted": ("plus", "quiet"), "job_starting": ("quarter", "info"), "job_running": ("play", "info"),
    "job_succeeded": ("tick", "ok"), "job_failed": ("cross", "bad"), "job_stopped": ("pause", "quiet"),
    "job_stopping": ("pause", "warn"), "stop_ordered": ("pause", "warn"), "job_queued": ("clock", "quiet"),
    "job_pending": ("clock", "warn"), "job_preempted": ("pause", "warn"), "engine_story": ("dot", "quiet"),
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
    last: Attempt | None = told["attempts"][-1] if told["attempts"] else None
    waits = found.state in (JobState.PENDING, JobState.QUEUED)
    since_us = (last.ended_us if last is not None else None) or found.submitted_us
    if not waits and last is not None and found.state not in ENDED:
        since_us = last.running_us or last.started_us
    spans = _spans(page, told) if told["attempts"] else []
    return _show(
        page, found, "overview", "job.html", told=told, events=events[::-1], marks=MARKS, spans=spans,
        waits=waits, last=last, since_us=page.now_us - since_us,
        tones={one["tone"] for one in spans}, spans_text="; ".join(one["title"] for one in spans),
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


def _spans(page: Page, told: dict[str, Any]) -> list[dict[str, Any]]:
    """What a job did when: waiting, preparing and running, as parts of a bar that is 1000 wide."""
    job: Job = told["job"]
    found: list[tuple[int, int, str, str]] = []
    waited_us, now_us = job.submitted_us, job.ended_us or page.now_us
    for one in told["attempts"][-MOST_SPANS:]:
        begun_us, end_us = one.running_us or one.ended_us or now_us, one.ended_us or now_us
        found.append((waited_us, one.started_us, "idle", "it waits"))
        found.append((one.started_us, begun_us, "prepares", f"attempt {one.number} prepares"))
        if one.running_us:
            words = one.outcome.replace("_", " ") or "runs"
            found.append((begun_us, end_us, _OUTCOMES.get(one.outcome, "warn"), f"attempt {one.number}: {words}"))
        waited_us = end_us
    found.append((waited_us, now_us, "idle", "it waits" if job.state not in ENDED else "over"))
    whole = max(now_us - job.submitted_us, 1)
    return [
        {
            "x": round(1000 * (from_us - job.submitted_us) / whole, 2),
            "width": round(max(1000 * (to_us - from_us) / whole, 1.5), 2),
            "tone": tone,
            "title": f"{words}, {format_span(to_us - from_us)}",
        }
        for from_us, to_us, tone, words in found
        if to_us > from_us
    ]
