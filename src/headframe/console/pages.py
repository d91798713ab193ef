"""All pages of the console, and how they come into the API's app."""

from __future__ import annotations

from fastapi import FastAPI

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

SUBJECTS = (assets, access, admin, admin_cloud, fleet, home, jobs, job_new, job_page, queue, usage, usage_money)


def add_console(app: FastAPI) -> FastAPI:
    """Serve the console from the app of the API, at the root of its address; returns the app."""
    for subject in SUBJECTS:
        app.include_router(subject.router)
    return app
