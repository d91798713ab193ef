"""Runs as the clients of MLflow tell of them, kept with the job that tells: bounded, and of no weight in any decision.

Names are MLflow's where they go over the wire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headframe.base.errors import Conflict, HeadframeError
from headframe.base.quantities import MILLI
from headframe.control.context import Context
from headframe.control.dispatch import TOKEN
from headframe.control.world import World
from headframe.jobs.records import Job
from headframe.metrics.names import name_in, step_in, value_in
from headframe.metrics.records import Experiment, Point, Run

if TYPE_CHECKING:
    from headframe.control.driver import Control

MOST_RUNS, MOST_EXPERIMENTS, MOST_TEXTS = 100, 1000, 500  # of a job; of a project; params or tags of a run
LONGEST_TEXT = 6000
MOST_HISTORY = 5000
DEFAULT = "0"  # what clients take for the experiment that is always there
_RUN_ID = re.compile(r"(job_[0-9a-z]{1,40})-([0-9]{1,3})")


class Refusal(Exception):
    """A call that is refused in MLflow's words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def job_of(control: Control, token: str) -> Job:
    """The running job that a token was made for; raises `Refusal`."""
    known = control.metrics.tokens
    job_id = known.get(token)
    if job_id is None and token.startswith(TOKEN) and len(token) < 500:
        job_id = control.ask(_unsealed, token.removeprefix(TOKEN))
        if job_id:
            if len(known) >= 10_000:
                known.clear()
            known[token] = job_id
    job: Job | None = control.world.get(Job, job_id) if job_id else None
    if job is None:
        raise Refusal(401, "UNAUTHENTICATED", "The token is not one of a job that runs here now.")
    return job


def _unsealed(world: World, context: Context, sealed: str) -> str:
    try:
        kind, _, job_id = context.vault.unseal(sealed).partition(" ")
    except HeadframeError:
        return ""
    return job_id if kind == "job" else ""


class Runs:
    """The calls of one job at one moment. Every argument is what the client sent."""

    def __init__(self, control: Control, job: Job, now_us: int) -> None:
        self._control, self._job, self._now_us = control, job, now_us
        self._reads, self._metrics = control.reads, control.metrics

    # Experiments: by name once in a project.

    def experiment_named(self, sent: Mapping[str, Any]) -> Any:
        found = self._find(_key(sent, "experiment_name"))
        if found is None:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "There is no experiment of that name.")
        return {"experiment": self._experiment(found)}

    def experiment(self, sent: Mapping[str, Any]) -> Any:
        return {"experiment": self._experiment(self._by_id(_key(sent, "experiment_id")))}

    def create_experiment(self, sent: Mapping[str, Any]) -> Any:
        name = _key(sent, "name")
        if self._find(name) is not None:
            raise Refusal(400, "RESOURCE_ALREADY_EXISTS", "There is an experiment of that name.")
        try:
            with self._metrics.turn:
                count = self._reads.count(Experiment, project_id=self._job.project_id) + 1
                if count > MOST_EXPERIMENTS:
                    raise Refusal(400, "RESOURCE_LIMIT_EXCEEDED", "The project has too many experiments.")
                made = Experiment(
                    f"{self._job.project_id}-{count}", self._job.organization_id, self._job.project_id, name,
                    self._now_us,
                )  # fmt: skip
                self._metrics.put([made])
        except Conflict:
            raise Refusal(400, "RESOURCE_ALREADY_EXISTS", "There is an experiment of that name.") from None
        return {"experiment_id": made.id}

    def experiments(self, sent: Mapping[str, Any]) -> Any:
        found = self._reads.find(Experiment, project_id=self._job.project_id, limit=MOST_EXPERIMENTS)
        return {"experiments": [self._experiment(one) for one in (self._by_id(DEFAULT), *found)]}

    def _find(self, name: str) -> Experiment | None:
        if name == "Default":
            return self._by_id(DEFAULT)
        found = self._reads.find(Experiment, project_id=self._job.project_id, name=name, limit=1)
        return found[0] if found else None

    def _by_id(self, experiment_id: str) -> Experiment:
        job = self._job
        if experiment_id == DEFAULT:
            return Experiment(DEFAULT, job.organization_id, job.project_id, "Default", 0)
        found: Experiment | None = self._reads.get(Experiment, experiment_id)
        if found is None or found.project_id != job.project_id:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "There is no such experiment.")
        return found

    def _experiment(self, one: Experiment) -> dict[str, Any]:
        return {
            "experiment_id": one.id, "name": one.name, "lifecycle_stage": "active",
            "artifact_location": self._control.outputs.address(self._job.id, "mlruns"),
            "creation_time": one.created_us // MILLI, "last_update_time": one.created_us // MILLI,
        }  # fmt: skip

    # Runs: only the job's own.

    def create_run(self, sent: Mapping[str, Any]) -> Any:
        experiment = self._by_id(str(sent.get("experiment_id") or DEFAULT))
        with self._metrics.turn:
            return {"run": self._told(self._begin(experiment, sent))}

    def _begin(self, experiment: Experiment, sent: Mapping[str, Any]) -> Run:
        count = self._reads.count(Run, job_id=self._job.id) + 1
        if count > MOST_RUNS:
            raise Refusal(400, "RESOURCE_LIMIT_EXCEEDED", f"A job has at most {MOST_RUNS} runs.")
        tags = _texts(sent.get("tags"))
        name = name_in(sent.get("run_name")) or name_in(tags.get("mlflow.runName")) or self._job.name
        run = Run(
            f"{self._job.id}-{count}", experiment.id, self._job.id, self._job.organization_id, self._job.project_id,
            name, "RUNNING", _moment(sent.get("start_time"), self._now_us), tags=tags | {"mlflow.runName": name},
        )  # fmt: skip
        self._metrics.put([run])
        return run

    def update_run(self, sent: Mapping[str, Any]) -> Any:
        run = self._own(sent)
        status = str(sent.get("status") or run.status)
        if status not in ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "status is not one of MLflow's.")
        ended_us = _moment(sent["end_time"], self._now_us) if sent.get("end_time") else run.ended_us
        run = replace(run, status=status, ended_us=ended_us, name=name_in(sent.get("run_name")) or run.name)
        self._metrics.put([run])
        return {"run_info": self._told(run)["info"]}

    def run(self, sent: Mapping[str, Any]) -> Any:
        return {"run": self._told(self._own(sent), figures=True)}

    def runs(self, sent: Mapping[str, Any]) -> Any:
        found = self._reads.find(Run, job_id=self._job.id, limit=MOST_RUNS)
        return {"runs": [self._told(one, figures=True) for one in found]}

    def log_metric(self, sent: Mapping[str, Any]) -> Any:
        return self.log_batch({"run_id": _run_id(sent), "metrics": [sent]})

    def log_parameter(self, sent: Mapping[str, Any]) -> Any:
        return self.log_batch({"run_id": _run_id(sent), "params": [sent]})

    def set_tag(self, sent: Mapping[str, Any]) -> Any:
        return self.log_batch({"run_id": _run_id(sent), "tags": [sent]})

    def delete_tag(self, sent: Mapping[str, Any]) -> Any:
        run = self._own(sent)
        self._metrics.put([replace(run, tags={k: v for k, v in run.tags.items() if k != sent.get("key")})])
        return {}

    def log_batch(self, sent: Mapping[str, Any]) -> Any:
        with self._metrics.turn:
            return self._log(self._own(sent), sent)

    def _log(self, run: Run, sent: Mapping[str, Any]) -> Any:
        params, tags = run.params | _texts(sent.get("params")), run.tags | _texts(sent.get("tags"))
        if max(len(params), len(tags)) > MOST_TEXTS:
            raise Refusal(400, "RESOURCE_LIMIT_EXCEEDED", f"A run has at most {MOST_TEXTS} params and tags each.")
        metrics = sent.get("metrics") or ()
        if not isinstance(metrics, list | tuple) or len(metrics) > 1000:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "metrics is not a list of at most 1000.")
        self._metrics.report([self._point(run, one) for one in metrics])
        if (params, tags) != (run.params, run.tags):
            self._metrics.put([replace(run, params=params, tags=tags)])
        return {}

    def history(self, sent: Mapping[str, Any]) -> Any:
        run = self._own(sent)
        return {"metrics": list(self._figures(run, _key(sent, "metric_key")))}

    def _point(self, run: Run, sent: Any) -> Point:
        name = name_in(sent.get("key")) if isinstance(sent, dict) else None
        if name is None:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "The key of a metric is a printable text.")
        fits, value = value_in(sent.get("value"))
        if not fits and sent.get("value") not in (None, "NaN", "Infinity", "-Infinity"):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "The value of a metric is a number.")
        at_us, part = _moment(sent.get("timestamp"), self._now_us), run.id.rpartition("-")[2]
        at_us = min(max(at_us, run.started_us), self._now_us)
        return Point(self._job.id, name, "" if part == "1" else part, at_us, value, step_in(sent.get("step")), True)

    def _own(self, sent: Mapping[str, Any]) -> Run:
        match = _RUN_ID.fullmatch(_run_id(sent))
        found: Run | None = self._reads.get(Run, match[0]) if match and match[1] == self._job.id else None
        if found is None:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "This job has no such run.")
        return found

    def _figures(self, run: Run, name: str | None) -> Any:
        part = run.id.rpartition("-")[2]
        self._metrics.write()
        for one in self._metrics.read([self._job.id], points=MOST_HISTORY):
            if not one.series.reported or one.series.part != ("" if part == "1" else part):
                continue
            for row in one.rows[-1:] if name is None else one.rows if one.series.name == name else ():
                yield {
                    "key": one.series.name, "value": "NaN" if row.mean is None else row.mean,
                    "timestamp": row.at_us // MILLI, "step": row.step or 0,
                }  # fmt: skip

    def _told(self, run: Run, figures: bool = False) -> dict[str, Any]:
        place = f"mlruns/{run.id}/artifacts"
        info = {
            "run_id": run.id, "run_uuid": run.id, "experiment_id": run.experiment_id, "run_name": run.name,
            "status": run.status, "start_time": run.started_us // MILLI, "lifecycle_stage": "active", "user_id": "",
            "artifact_uri": self._control.outputs.address(run.job_id, place),
        }  # fmt: skip
        if run.ended_us is not None:
            info["end_time"] = run.ended_us // MILLI
        told = {
            "params": [{"key": key, "value": value} for key, value in run.params.items()],
            "tags": [{"key": key, "value": value} for key, value in run.tags.items()],
            "metrics": list(self._figures(run, None)) if figures else [],
        }
        return {"info": info, "data": told}


def _run_id(sent: Mapping[str, Any]) -> str:
    return str(sent.get("run_id") or sent.get("run_uuid") or "")


def _key(sent: Mapping[str, Any], name: str) -> str:
    value = name_in(sent.get(name))
    if value is None:
        raise Refusal(400, "INVALID_PARAMETER_VALUE", f"{name} is no printable text, or too long.")
    return value


def _texts(sent: Any) -> dict[str, str]:
    """Params or tags; refused when they are none."""
    found: dict[str, str] = {}
    for one in sent if isinstance(sent, list) else ():
        key = name_in(one.get("key")) if isinstance(one, dict) else None
        value = one.get("value") if key is not None else None
        if key is None or not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "A param or tag has a key and a text that is not too long.")
        found[key] = value
    return found


def _moment(sent: Any, now_us: int) -> int:
    """Milliseconds since 1970, as numbers or texts, in microseconds; now where it is none or lies ahead."""
    try:
        return min(int(sent) * MILLI, now_us)
    except (TypeError, ValueError, OverflowError):
        return now_us
