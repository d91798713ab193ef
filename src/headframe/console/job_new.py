"""A new job: a form beside the job file that it writes, with its price and its start before it is submitted."""

from __future__ import annotations

import shlex
from typing import Any

import orjson
from starlette.responses import Response

from headframe.api.jobs import find
from headframe.api.wire import JSON
from headframe.base.errors import CallerError
from headframe.console import job_form, words
from headframe.console.forms import EMPTY, Form, Sent
from headframe.console.job_document import document_of, yaml_of
from headframe.console.page import Page, Signed, page_router
from headframe.control.commands_jobs import submit_job
from headframe.control.queries import plan
from headframe.control.queries_jobs import names_of
from headframe.fleet.records import Accelerator
from headframe.tenants.records import Project
from headframe.tenants.roles import Permission
from headframe.workloads import jobfile
from headframe.workloads.spec import PURCHASES

router = page_router()

FIRST = Form({"resources.gpu": ["1"], "run": ["nvidia-smi"]})  # what an empty form begins with
_END = "END_OF_JOB_FILE"


@router.get("/jobs/new")
def begin(page: Signed) -> Response:
    """An empty form, or one that is filled like another job (`from`)."""
    source = page.request.query_params.get("from", "")[:200]
    if not source:
        return _form(page, FIRST)
    job = find(page.call, source)
    project: Project | None = page.world.get(Project, job.project_id)
    document = document_of(job.spec, project.name if project is not None else "")
    document["name"] = job.name if not job.name.startswith(f"{job.spec.type}-") else ""
    return _form(page, job_form.form_of({name: value for name, value in document.items() if value != ""}), source=job)


@router.post("/jobs/new")
def send(page: Signed, form: Sent) -> Response:
    """Submit it, look at it as a file or as a form, or check it: whichever button was pressed."""
    act, as_file = form.text("act"), form.text("as") == job_form.FILE
    try:
        document = _document(form, as_file)
        if act == "form":
            return _form(page, job_form.form_of(document))
        if act == job_form.FILE:
            return _form(page, Form({job_form.FILE: [yaml_of(document)]}), as_file=True)
        if act == "submit":
            jobfile.parse(document)  # names every fault, and the fields
            job = page.run(submit_job, document)
            return page.go(f"/jobs/{job.id}", said=f"{job.name} was submitted.")
    except CallerError as error:
        return _form(page, form, as_file=as_file, error=error)
    return _form(page, form, as_file=as_file)


@router.post("/jobs/new/check")
def check(page: Signed, form: Sent) -> Response:
    """What would become of it, for the page's script: the file, what is wrong, where and when it starts, its price."""
    told = _told(page, form, form.text("as") == job_form.FILE)
    return Response(orjson.dumps(told), media_type=JSON)


def _document(form: Form, as_file: bool) -> dict[str, Any]:
    return jobfile.read(form.raw(job_form.FILE))[0] if as_file else job_form.document_of(form)


def _told(page: Page, form: Form, as_file: bool) -> dict[str, Any]:
    """The file, its faults by field, and the plan in words."""
    told: dict[str, Any] = {"file": form.raw(job_form.FILE) if as_file else "", "faults": {}, "plan": None}
    try:
        document = _document(form, as_file)
        told["file"] = form.raw(job_form.FILE) if as_file else yaml_of(document)
        told["command"] = f"headframe submit -f - <<'{_END}'\n{told['file'].rstrip()}\n{_END}"
        told["curl"] = _curl(page, document)
        jobfile.parse(document)
        told["plan"] = _plan(page, page.ask(plan, document))
    except CallerError as error:
        told["faults"] = job_form.faults_of(error)
    return told


def _curl(page: Page, document: dict[str, Any]) -> str:
    body = orjson.dumps({"spec": document}).decode()
    address = str(page.request.base_url).rstrip("/")
    return (
        f'curl -H "Authorization: Bearer $HEADFRAME_KEY" -H "Content-Type: application/json" {address}/v1/jobs '
        f"-d {shlex.quote(body)}"
    )


def _plan(page: Page, found: dict[str, Any]) -> dict[str, Any]:
    """A plan as the page says it."""
    if found["would"] == "be_refused":
        return {
            "would": "refused",
            "head": "It would be refused",
            "text": f"{found['text']} {found['next_step']}".strip(),
        }
    currency, starts_us = found["currency"], found.get("starts_us")
    starts = "now" if found["would"] == "start" else words.ago(starts_us, page.now_us) if starts_us else "not known"
    return {
        "would": found["would"],
        "head": "It would start at once" if found["would"] == "start" else "It would wait",
        "text": found["text"],
        "starts": starts,
        "per_hour": words.money(found["per_hour_nano"], currency),
        "most": words.money(found["most_nano"], currency) if found["most_nano"] is not None else "no limit is set",
    }


def _form(
    page: Page, form: Form, *, as_file: bool = False, error: CallerError | None = None, source: Any = None
) -> Response:
    """The page, with what is typed in it, and what would become of it."""
    kinds = [row["kind"] for row in page.control.reads.tally(Accelerator, ["kind"])]
    return page.show(
        "job_new.html", section="jobs", title="New job", form=form, error=error, as_file=as_file, source=source,
        names=page.ask(names_of, page.caller.organization_id), kinds=kinds, purchases=PURCHASES,
        told=_told(page, form, as_file) if form is not EMPTY else None, plain=job_form.PLAIN,
        may=page.may(Permission.JOBS_WRITE),
    )  # fmt: skip
