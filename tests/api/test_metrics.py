"""Series over HTTP, MLflow's calls with MLflow's own client, and figures for Prometheus."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from house import House, wait_for
from test_live import live

from headframe.api.wire import Limits
from headframe.control.dispatch import token_of
from headframe.control.metrics import Metrics
from headframe.metrics.names import MOST_REPORTED
from headframe.metrics.records import Measured, Point
from headframe.metrics.thin import CHUNK

HOSTILE = "loss <script>alert(1)</script>"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job(house: House) -> dict[str, Any]:
    made = house.submit()
    state(house, made, "running")
    return made


def state(house: House, job: dict[str, Any], wanted: str) -> None:
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job['id']}")["state"] == wanted, wanted)


def tell(house: House, *points: Point) -> None:
    house.control.metrics.take(Measured(points))
    house.control.metrics.write()


def series(house: House, path: str, **params: Any) -> dict[tuple[str, str], dict[str, Any]]:
    found = house.ok("GET", path, params=params)["items"]
    return {(one["name"], one["part"]): one for one in found}


def test_what_was_measured_and_reported_is_told_as_series(house: House, job: dict[str, Any]):
    at = [1_000_000 * number for number in range(1, 301)]
    tell(house, *(Point(job["id"], "cpu_milli", "0", at_us, at_us // 1_000_000) for at_us in at))
    tell(house, Point(job["id"], HOSTILE, "", at[0], 2.5, 7, True), Point(job["id"], HOSTILE, "", at[1], None, 8, True))
    found = series(house, f"/v1/jobs/{job['id']}/metrics", points=30)
    cpu, loss = found["cpu_milli", "0"], found[HOSTILE, ""]
    assert len(cpu["at_us"]) == 30
    assert (cpu["low"][0], cpu["high"][-1], cpu["at_us"][-1], cpu["step"]) == (1, 300, at[-1], None)
    assert (loss["mean"], loss["step"], loss["reported"]) == ([2.5, None], [7, 8], True)
    part = series(house, f"/v1/jobs/{job['name']}/metrics", from_us=at[100], to_us=at[101])
    assert list(part) == [("cpu_milli", "0")]
    assert part["cpu_milli", "0"]["mean"] == [101, 102]


def test_series_go_on_after_a_restart(house: House, job: dict[str, Any]):
    tell(house, *(Point(job["id"], "memory_mib", "0", number, number) for number in range(1, 200)))
    later = Metrics(house.store)
    later.take(Measured((Point(job["id"], "memory_mib", "0", 150, 1), Point(job["id"], "memory_mib", "0", 200, 200))))
    later.write()
    house.control.metrics._tracks.clear()  # the one server there is would have gone
    found = series(house, f"/v1/jobs/{job['id']}/metrics", points=5000)["memory_mib", "0"]
    assert found["mean"] == list(range(1, 201))


def test_a_job_can_report_so_much_and_no_more(house: House):
    chatty = house.submit()
    points = (Point(chatty["id"], f"figure {number}", "", 1, 1.0, None, True) for number in range(MOST_REPORTED + 50))
    tell(house, *points)
    assert len(series(house, f"/v1/jobs/{chatty['id']}/metrics")) == MOST_REPORTED
    tell(house, Point(chatty["id"], "cpu_milli", "0", 1, 1))
    assert len(series(house, f"/v1/jobs/{chatty['id']}/metrics")) == MOST_REPORTED + 1, "what is measured has its place"


def test_nodes_tell_of_themselves_and_of_their_accelerators(house: House):
    node = house.ok("GET", "/v1/nodes")["items"][0]["id"]
    card = house.ok("GET", "/v1/accelerators")["items"][0]["id"]
    tell(house, Point(node, "cpu_milli", "", 5, 1500), Point(card, "power_mw", "", 5, 700_000))
    found = house.ok("GET", f"/v1/nodes/{node}/metrics")
    assert {(one["subject"], one["name"]) for one in found["items"]} >= {(node, "cpu_milli"), (card, "power_mw")}
    assert "cpu_milli" in found["about"]
    assert house.call("GET", "/v1/nodes/nod_none/metrics").status_code == 404


def test_what_is_measured_is_followed_and_whoever_missed_some_is_told(house: House, job: dict[str, Any]):
    begin = 10_000_000_000
    moments = [begin + number * 1_000_000 for number in range(CHUNK + 3)]
    told = iter([Point(job["id"], "power_mw", "0", at_us, 1.0 + at_us - begin) for at_us in moments])

    def latest(name: str, frame: dict[str, Any]) -> list[int]:
        return next((list(one["at_us"]) for one in frame["items"] if one["name"] == name), [])

    with live(house, f"metrics:{job['id']}") as stream:
        tell(house, next(told))
        first = stream.wait(lambda _, frame: latest("power_mw", frame) == moments[:1])
        assert first["from_us"] <= moments[0], "from there on it is whole"
        tell(house, *(next(told) for _ in range(CHUNK - 1)))
        more = stream.wait(lambda _, frame: latest("power_mw", frame)[-1:] == [moments[CHUNK - 1]])
        assert latest("power_mw", more) == moments[CHUNK - 31 : CHUNK], "the last half minute"
        tell(house, *told)
        last = stream.wait(lambda _, frame: latest("power_mw", frame)[-1:] == [moments[-1]])
        assert latest("power_mw", last) == moments[CHUNK:]
        assert last["from_us"] == moments[CHUNK], "who has less than that must fetch anew"
    stranger = house.member(house.organization("strangers")["id"], "owner")
    node = house.ok("GET", "/v1/nodes")["items"][0]["id"]
    for topic, status in ((job["id"], 404), (node, 403), ("nod_none", 403)):
        assert house.call("GET", "/v1/live", stranger, params={"topics": f"metrics:{topic}"}).status_code == status
    with live(house, f"metrics:{node}") as stream:
        tell(house, Point(node, "memory_mib", "", begin, 2.0))
        stream.wait(lambda _, frame: latest("memory_mib", frame) == [begin])


def test_points_wait_while_the_store_is_away(house: House, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    from headframe.base.errors import StoreFailed

    metrics = Metrics(house.store)

    def fail(*_: object) -> None:
        raise StoreFailed("away")

    with monkeypatch.context() as away:
        away.setattr(
            metrics, "_store", type("Away", (), {"find": house.store.find, "get": house.store.get, "put": fail})()
        )
        metrics.take(Measured((Point(job["id"], "disk_mib", "", 1, 1),)))
        with pytest.raises(StoreFailed):
            metrics.write()
        assert metrics.waiting == 1
    assert metrics.write() == 1


# MLflow


def token(house: House, job: dict[str, Any]) -> str:
    return token_of(house.control.ask(lambda _world, context: context.vault.seal), job["id"])


def mlflow(house: House, bearer: str, path: str, **body: Any) -> httpx.Response:
    return house.call("POST", f"/mlflow/api/2.0/mlflow/{path}", bearer, json=body)


def test_mlflow_s_own_client_logs_into_the_job(house: House, job: dict[str, Any], tmp_path: Path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed: pip install --group dev .")
    (tmp_path / "run.py").write_text(
        "import mlflow\n"
        "mlflow.set_experiment('sweep <b>')\n"
        "with mlflow.start_run(run_name='first') as run:\n"
        "    mlflow.log_params({'lr': 0.1, 'depth': 3})\n"
        "    for step in range(3): mlflow.log_metric('accuracy', step / 2, step=step)\n"
        "    mlflow.log_metrics({'f1': float('nan')}, step=3)\n"
        "    mlflow.set_tag('kind', 'test')\n"
        "found = mlflow.MlflowClient().get_run(run.info.run_id)\n"
        "assert found.info.status == 'FINISHED' and found.data.params == {'lr': '0.1', 'depth': '3'}, found\n"
        "assert found.data.metrics['accuracy'] == 1.0 and found.data.tags['kind'] == 'test', found\n"
        "history = mlflow.MlflowClient().get_metric_history(run.info.run_id, 'accuracy')\n"
        "assert [one.value for one in history] == [0, 0.5, 1]\n"
        "assert mlflow.get_experiment_by_name('sweep <b>').experiment_id == found.info.experiment_id\n"
    )
    env = {
        "MLFLOW_TRACKING_URI": f"{str(house.http.base_url).rstrip('/')}/mlflow",
        "MLFLOW_TRACKING_TOKEN": token(house, job), "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet",
        "PATH": os.environ["PATH"], "HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "run.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    found = series(house, f"/v1/jobs/{job['id']}/metrics")
    assert found["accuracy", ""]["mean"] == [0, 0.5, 1]
    assert found["accuracy", ""]["step"] == [0, 1, 2]
    assert found["f1", ""]["mean"] == [None]


def test_a_job_s_token_is_good_for_itself_alone_and_while_it_runs(house: House, job: dict[str, Any]):
    own = token(house, job)
    run = mlflow(house, own, "runs/create", experiment_id="0").json()["run"]["info"]["run_id"]
    other = house.submit()
    assert mlflow(house, token(house, other), "runs/log-metric", run_id=run, key="a", value=1).status_code == 404
    assert house.call("GET", "/v1/whoami", own).status_code == 401, "it opens nothing else"
    house.ok("POST", f"/v1/jobs/{other['id']}/stop")
    state(house, other, "stopped")
    assert mlflow(house, token(house, other), "runs/create", experiment_id="0").status_code == 401
    for wrong in ("hf-job.x", "hf-job." + "A" * 140, house.key, "x"):
        answer = mlflow(house, wrong, "runs/create", experiment_id="0")
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/log-metric", {"key": "a\nb", "value": 1}),
        ("runs/log-metric", {"key": "a", "value": "many"}),
        ("runs/log-batch", {"metrics": [7]}),
        ("runs/log-batch", {"params": [{"key": "a", "value": "x" * 10_000}]}),
        ("runs/log-batch", {"params": [{"key": f"{n}", "value": ""} for n in range(501)]}),
        ("runs/update", {"status": "GREAT"}),
    ],
)
def test_what_mlflow_does_not_allow_is_refused_in_its_words(house: House, job: dict[str, Any], path: str, body: Any):
    own = token(house, job)
    run = mlflow(house, own, "runs/create").json()["run"]["info"]["run_id"]
    answer = mlflow(house, own, path, run_id=run, **body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error_code", "message"}


def test_unknown_calls_and_broken_bodies_are_answered(house: House, job: dict[str, Any]):
    own = token(house, job)
    assert mlflow(house, own, "traces/start").json()["error_code"] == "ENDPOINT_NOT_FOUND"
    answer = house.call("POST", "/mlflow/api/2.0/mlflow/runs/create", own, content=b"[")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


# Prometheus


def test_the_dashboard_names_only_figures_that_are_told(house: House):
    card = house.ok("GET", "/v1/accelerators")["items"][0]["id"]
    node = house.ok("GET", "/v1/nodes")["items"][0]["id"]
    now_us = house.clock.now_us()
    told = {"gpu_busy_milli": 500, "gpu_memory_mib": 1, "power_mw": 1000, "temperature_c": 40, "memory_errors": 0}
    tell(house, *(Point(card, name, "", now_us, value) for name, value in told.items()))
    tell(house, *(Point(node, name, "", now_us, 1000) for name in ("cpu_milli", "memory_mib", "disk_mib")))
    house.clock.ahead_us += 2_000_000  # figures last a second
    text = house.call("GET", "/metrics", "").text
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
    named = set(re.findall(r"headframe_\w+", json.dumps([panel["targets"] for panel in dashboard["panels"]])))
    assert named
    assert named <= known
    assert re.search(r'headframe_accelerator_busy_ratio\{node="[^"]*",accelerator="0",kind="[^"]*"\} 0\.5\n', text)
    assert "org_" not in text, "nothing of tenants"
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .*|headframe_\w+(\{[^{}]*\})? -?[0-9.e+-]+", line), line


@pytest.mark.parametrize(
    ("setting", "headers", "status"),
    [
        ("local", {}, 200),
        ("local", {"X-Forwarded-For": "203.0.113.5"}, 401),
        ("local", {"Forwarded": "for=203.0.113.5"}, 401),
        ("open", {"X-Forwarded-For": "203.0.113.5"}, 200),
        ("key", {}, 401),
    ],
)
def test_who_may_read_the_figures_is_a_setting(house: House, setting: str, headers: dict[str, str], status: int):
    serving = house.app.state.serving
    before = serving.limits
    serving.limits = Limits(figures=setting, wrong_keys=before.wrong_keys)
    try:
        assert house.call("GET", "/metrics", "", headers=headers).status_code == status
        assert house.call("GET", "/metrics", headers=headers).status_code == 200, "a key that may see the fleet"
    finally:
        serving.limits = before
