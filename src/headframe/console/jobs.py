"""The list of jobs: filtered, grouped, live; and the order to stop one."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import Query
from starlette.responses import Response

from headframe.api.jobs import GLANCE_S, Ref, find, member_named, whose
from headframe.api.wire import JSON, Cursor, Named, read_cursor, write_cursor
from headframe.base.errors import CallerError, Invalid
from headframe.base.quantities import parse_span_us
from headframe.console.forms import Sent
from headframe.console.page import Page, Signed, own_path, page_router
from headframe.control.commands_jobs import stop_job
from headframe.control.queries import waiting_reasons
from headframe.control.queries_jobs import COLUMNS, SORTS, asks, counts, groups, names_of
from headframe.control.queries_spend import ALL
from headframe.jobs.records import Job, JobState

router = page_router()

FIRST, BLOCK = 100, 500  # rows in the page itself; in each answer to its script
GROUPED = 8  # jobs that a group shows
VIEWS = (("Mine that run", {"sort": "running", "owner": "me"}), ("Mine that failed", {"sort": "failed", "owner": "me"}))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to, as its address says it."""

    sort: str = ""
    name: str = ""
    project: str = ""
    owner: str = ""
    organization: str = ""
    group: str = ""
    order: str = ""

    def address(self, **other: str) -> str:
        """The address of this list with something else in it."""
        given = {name: other.get(name, getattr(self, name)) for name in self.__dataclass_fields__}
        text = urlencode({name: value for name, value in given.items() if value})
        return f"/jobs?{text}" if text else "/jobs"

    def command(self) -> str:
        """The same as a command."""
        words = ["headframe jobs", *(f"--state {state.value}" for state in SORTS.get(self.sort, ()))]
        words += [f"--project {quote(self.project)}"] if self.project else []
        return " ".join([*words, *([f"--owner {quote(self.owner)}"] if self.owner else [])])

    def request(self) -> str:
        """The same as a request to the API."""
        pairs = [("state", state.value) for state in SORTS.get(self.sort, ())]
        pairs += [(name, value) for name, value in (("project", self.project), ("owner", self.owner)) if value]
        return "/v1/jobs" + (f"?{urlencode(pairs)}" if pairs else "")


@router.get("/jobs")
def jobs(
    page: Signed, sort: Named = None, name: Named = None, project: Named = None, owner: Named = None,
    organization: Named = None, group: Named = None, order: Named = None,
) -> Response:  # fmt: skip
    """Jobs, the newest first, or by groups; the page's script puts them in another order."""
    wanted = Wanted(
        sort or "", (name or "").strip(), project or "", owner or "", organization or "", group or "", order or ""
    )
    where, names = _where(page, wanted)
    shown = {state: where[state] for state in where if state != "state"}
    told = counts(page.control.reads, shown)
    values: dict[str, Any] = {"wanted": wanted, "names": names, "counts": told, "sorts": tuple(SORTS), "views": VIEWS}
    if wanted.group:
        if wanted.group not in COLUMNS:
            raise Invalid(f"group is {wanted.group!r}.", field="group", allowed=", ".join(COLUMNS))
        values["groups"] = _groups(page, wanted, where, names)
        return page.show("jobs_grouped.html", section="jobs", title="Jobs", **values)
    rows, following = _rows(page, where, names, FIRST, None)
    values |= {"rows": rows, "next": following, "total": told[wanted.sort if wanted.sort in told else ""]}
    return page.show("jobs.html", section="jobs", title="Jobs", **values)


@router.get("/jobs/rows")
def rows(
    page: Signed, sort: Named = None, name: Named = None, project: Named = None, owner: Named = None,
    organization: Named = None, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=BLOCK)] = BLOCK,
) -> Response:  # fmt: skip
    """A block of the list for its script, as short rows; with the first also how many there are of each sort."""
    wanted = Wanted(sort or "", (name or "").strip(), project or "", owner or "", organization or "")
    where, names = _where(page, wanted)
    found, following = _rows(page, where, names, limit, read_cursor(cursor))
    told: dict[str, Any] = {"rows": found, "next": following}
    if cursor is None:
        told["counts"] = counts(page.control.reads, {key: value for key, value in where.items() if key != "state"})
    return Response(orjson.dumps(told), media_type=JSON)


@router.post("/jobs/{job}/stop")
def stop(page: Signed, form: Sent, job: Ref) -> Response:
    """End a job, then back to where the order came from."""
    found = find(page.call, job)
    grace = form.maybe("grace")
    page.run(stop_job, found.id, grace_us=None if grace is None else parse_span_us(grace, field="grace"))
    return page.go(own_path(form.text("next"), f"/jobs/{found.id}"), said=f"{found.name} is told to end.")


def _where(page: Page, wanted: Wanted) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The filter of the store, within what the caller may see; and the names that belong to it."""
    everybody = page.house is None and wanted.organization in ("", ALL)
    where, names = _everybodys(page, wanted) if everybody else (None, {})
    if where is None:
        try:
            where = whose(page.call, wanted.organization or None, wanted.project or None)
        except CallerError as error:
            if not wanted.project or error.status != 404:
                raise
            raise Invalid(f"There is no project {wanted.project!r} here.", field="project") from None
        names = page.ask(names_of, where["organization_id"])
    if wanted.owner:
        known = [key for key, name in names["members"].items() if name == wanted.owner]
        own = where.get("organization_id", page.caller.organization_id)
        where["member_id"] = known[0] if known else member_named(page.call, own, wanted.owner)
    if wanted.name:
        where["id__prefix" if wanted.name.startswith("job_") else "name__prefix"] = wanted.name
    if wanted.sort in SORTS:
        where["state"] = SORTS[wanted.sort]
    return where, names


def _everybodys(page: Page, wanted: Wanted) -> tuple[dict[str, Any] | None, dict[str, dict[str, str]]]:
    """The same for the operator, who sees all organizations unless one is named; None for a project of its own."""
    names: dict[str, dict[str, str]] = page.ask(names_of, ALL)
    where = whose(page.call, ALL)
    if not wanted.project:
        return where, names
    ids = [key for key, name in names["projects"].items() if wanted.project in (key, name)]
    return (where | {"project_id": ids[0]} if ids else None), names


def _rows(
    page: Page, where: dict[str, Any], names: dict[str, dict[str, str]], limit: int, after: str | None
) -> tuple[list[list[Any]], str | None]:
    """Rows as both the template and the script read them, and the cursor behind them."""
    found = page.control.reads.find(Job, after=after, limit=limit + 1, newest=True, **where)
    shown = found[:limit]
    waiting = [job.id for job in shown if job.state == JobState.QUEUED]
    reasons = (page.control.glance(waiting_reasons, waiting, within_s=GLANCE_S) or {}) if waiting else {}
    return (
        [
            [
                job.id, job.name, _state(job), reasons.get(job.id, "") or _reason(job),
                names["projects"].get(job.project_id, job.project_id),
                names["members"].get(job.member_id, job.member_id), asks(job.spec), job.submitted_us, job.started_us,
                job.ended_us, job.ran_us, job.attempt, job.parent,
            ]
            for job in shown
        ],
        write_cursor(shown[-1].id) if len(found) > limit else None,
    )  # fmt: skip


def _state(job: Job) -> str:
    return "scheduled" if job.parent and job.spec.cron and job.state == JobState.PENDING else job.state.value


def _reason(job: Job) -> str:
    """What stands behind the state, in a word or two."""
    if job.state == JobState.FAILED and job.exit_code:
        return f"exit code {job.exit_code}"
    if job.state == JobState.PENDING and job.after:
        return "waits for other jobs"
    return "" if job.state in (JobState.RUNNING, JobState.SUCCEEDED) else job.stop_reason or job.reason


def _groups(
    page: Page, wanted: Wanted, where: dict[str, Any], names: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """Each group with its newest jobs and the address of all of them."""
    words = {"project": "projects", "owner": "members", "organization": "organizations"}
    titles = names.get(words.get(wanted.group, ""), {})
    listed = []
    for each in groups(page.control.reads, wanted.group, where)[:100]:
        key = each["key"]
        narrowed = {"state": SORTS[key]} if wanted.group == "state" else {COLUMNS[wanted.group]: key}
        title = titles.get(key, key)
        parameter = "sort" if wanted.group == "state" else wanted.group
        rows, _ = _rows(page, where | narrowed, names, GROUPED, None)
        listed.append(each | {"title": title, "rows": rows, "href": wanted.address(**{"group": "", parameter: title})})
    return listed
