"""The app: all routes behind the gate, every error a problem, and the description of it all at /openapi.json."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from signal import Signals
from socket import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from headframe import __version__
from headframe.api import (
    files,
    fleet,
    fleet_map,
    health,
    imports,
    invoices,
    jobs,
    live,
    metrics,
    mlflow,
    money,
    money_contracts,
    money_events,
    outputs,
    problems,
    prometheus,
    queue,
    reservations,
    search,
    spend,
    storage,
    streams,
    tenancy,
)
from headframe.api.front import Front
from headframe.api.gate import Gate
from headframe.api.wire import Limits, Serving
from headframe.base.ports import Clock, Ids

if TYPE_CHECKING:
    from headframe.control.driver import Control

SUBJECTS = (
    health, prometheus, tenancy, files, jobs, imports, metrics, outputs, streams, live, fleet, fleet_map, money,
    money_contracts, money_events, invoices, queue, reservations, search, spend, storage,
)  # fmt: skip
_PROBLEM = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be carried out as it was put.", **_PROBLEM},
    "5XX": {"description": "Headframe failed, or is too busy.", **_PROBLEM},
}
_ABOUT = "An open GPU cloud. Errors are RFC 9457 problem documents with a stable `code`; lists are paged by cursor."


class Server(uvicorn.Server):
    """uvicorn's server, which says why it stops, and ends open streams before it waits for answers under way."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[str], None] = lambda why: None) -> None:
        super().__init__(config)
        self._stopping, self._why = stopping, ""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks for the end."""
        self._why = f"{Signals(sig).name} received"
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        app = self.config.app
        self._stopping(self._why)
        if isinstance(app, Front):
            app.close()
        elif isinstance(app, FastAPI):
            streams.close_streams(app)
        await super().shutdown(sockets)


def create_app(control: Control, *, clock: Clock, ids: Ids, limits: Limits | None = None) -> FastAPI:
    """The whole HTTP surface over `control`. `ids` names requests, `clock` tells whether keys are live."""
    serving = Serving(control, clock, ids, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = serving.limits.threads
        yield
        streams.close_streams(app)

    app = FastAPI(
        title="Headframe",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEMS,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.serving = serving
    for subject in SUBJECTS:
        app.include_router(subject.router)
    app.include_router(mlflow.router)
    problems.install(app)
    app.add_middleware(Gate, serving=serving)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: made once, with keys, problems and the headers that all edits share."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = problems.Problem.model_json_schema()
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "hf_..."}}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                operation["security"] = [{"key": []}] if path.startswith("/v1/") else []
                operation.setdefault("parameters", []).extend(_shared_headers(method, path))
        app.openapi_schema = document
    return app.openapi_schema


def _shared_headers(method: str, path: str) -> list[dict[str, Any]]:
    """The headers that every POST, and every edit, understands."""
    if method == "post":
        text = "Repeats of the same request under the same key get the first answer."
        schema = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"}
        return [{"name": "Idempotency-Key", "in": "header", "required": False, "description": text, "schema": schema}]
    if method in ("patch", "put", "delete") and not path.startswith("/v1/files/"):
        text = 'The ETag that the caller has seen, such as "3": another version answers 412.'
        schema = {"type": "string", "pattern": '^"[0-9]{1,15}"$'}
        return [{"name": "If-Match", "in": "header", "required": False, "description": text, "schema": schema}]
    return []


def all_routes() -> list[tuple[str, str]]:
    """(method, path) of every route, sorted."""
    return sorted(
        (method, route.path)
        for subject in SUBJECTS
        for route in subject.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    )
