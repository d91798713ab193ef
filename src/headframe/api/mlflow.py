"""The calls that MLflow's clients make while a job runs: experiments, runs, metrics, parameters, tags.

A job finds MLFLOW_TRACKING_URI and a token that is good for itself alone and only while it runs. What it logs becomes
series of the job. These routes are MLflow's, so they answer and refuse in its words, and are not in our description.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from headframe.api.wire import JSON, Serving
from headframe.control.queries_runs import Refusal, Runs, job_of

router = APIRouter(include_in_schema=False)
MOUNT = "/mlflow"
_PATHS = f"{MOUNT}/api/2.0/mlflow/{{call:path}}"
Call = Callable[[Runs, dict[str, Any]], Any]
CALLS: dict[tuple[str, str], Call] = {
    ("GET", "experiments/get-by-name"): Runs.experiment_named,
    ("GET", "experiments/get"): Runs.experiment,
    ("POST", "experiments/create"): Runs.create_experiment,
    ("GET", "experiments/search"): Runs.experiments,
    ("POST", "experiments/search"): Runs.experiments,
    ("POST", "runs/create"): Runs.create_run,
    ("POST", "runs/update"): Runs.update_run,
    ("GET", "runs/get"): Runs.run,
    ("POST", "runs/search"): Runs.runs,
    ("POST", "runs/log-metric"): Runs.log_metric,
    ("POST", "runs/log-batch"): Runs.log_batch,
    ("POST", "runs/log-parameter"): Runs.log_parameter,
    ("POST", "runs/set-tag"): Runs.set_tag,
    ("POST", "runs/delete-tag"): Runs.delete_tag,
    ("GET", "metrics/get-history"): Runs.history,
}


@router.api_route(_PATHS, methods=["GET", "POST"])
async def tracking(request: Request, call: str) -> Response:
    """One call of a client of MLflow."""
    serving: Serving = request.app.state.serving
    known = CALLS.get((request.method, call))
    if known is None:
        return _answer(Refusal(404, "ENDPOINT_NOT_FOUND", f"{call[:100]} is not one of the calls that are kept here."))
    body: Any = dict(request.query_params)
    if request.method == "POST":
        try:
            body = orjson.loads(await request.body() or b"{}")
        except ValueError:
            body = None
    if not isinstance(body, dict):
        return _answer(Refusal(400, "INVALID_PARAMETER_VALUE", "The body is not a JSON object."))
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return await run_in_threadpool(_called, serving, known, body, token.strip() if scheme.lower() == "bearer" else "")


def _called(serving: Serving, known: Call, body: dict[str, Any], token: str) -> Response:
    try:
        job = job_of(serving.control, token)
        return _answer(known(Runs(serving.control, job, serving.clock.now_us()), body))
    except Refusal as refusal:
        return _answer(refusal)


def _answer(value: Any) -> Response:
    if isinstance(value, Refusal):
        body = {"error_code": value.code, "message": str(value)}
        return Response(orjson.dumps(body), value.status, media_type=JSON)
    return Response(orjson.dumps(value), 200, media_type=JSON)
