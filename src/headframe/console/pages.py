"""All pages of the console, and how they come into the API's app."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from headframe.base.errors import NotFound
from headframe.console import (
    access,
    admin,
    admin_cloud,
    assets,
    fleet,
    home,
    job_new,
    job_page,
    jobs,
    queue,
    usage,
    usage_money,
)
from headframe.console.page import failure

SUBJECTS = (assets, access, admin, admin_cloud, fleet, home, jobs, job_new, job_page, queue, usage, usage_money)


def add_console(app: FastAPI) -> FastAPI:
    """Serve the console from the app of the API, at the root of its address; returns the app."""
    for subject in SUBJECTS:
        app.include_router(subject.router)
    problem: Any = app.exception_handlers[HTTPException]

    async def told(request: Request, error: Exception) -> Response:
        """A page for a browser that asks for one that is not there; a problem for all else."""
        assert isinstance(error, HTTPException)
        path, wanted = request.url.path, request.headers.get("accept", "")
        if error.status_code == NotFound.status and "text/html" in wanted and not path.startswith("/v1/"):
            return failure(request, NotFound(f"There is no page {path[:200]!r} here.", next_step="Begin at home."))
        answer: Response = await problem(request, error)
        return answer

    app.add_exception_handler(HTTPException, told)
    return app
