"""What real jobs report and what is measured of them reaches the record: once, in order, through every crash."""

from __future__ import annotations

from collections.abc import Callable

from running import Running, until

STEPS = 30
TRAIN = f"""
import headframe, json, os, time, urllib.request
def call(path, **body):
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path, json.dumps(body).encode(),
        {{"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}})
    return json.load(urllib.request.urlopen(request))
run = call("runs/create", run_name="first")["run"]["info"]
call("runs/log-batch", run_id=run["run_id"], metrics=[{{"key": "f1", "value": 0.5, "timestamp": 1, "step": 1}}])
assert run["artifact_uri"].startswith("file:" + os.environ["HEADFRAME_OUTPUTS"])
for step in range({STEPS}):
    headframe.log(step=step, loss=1 / (step + 1))
    time.sleep(0.1)
"""


def test_reports_reach_the_record_once_though_all_of_us_are_killed(serve: Callable[..., Running]):
    running = serve()
    client = running.client()
    job = client.submit({"name": "train", "run": f"python3 - <<'END'\n{TRAIN}\nEND", "resources": {"gpu": 1}})

    def series() -> dict[tuple[str, str], dict]:
        return {(one["name"], one["part"]): one for one in running.client().metrics(job["id"], points=5000)}

    until(lambda: len(series().get(("loss", ""), {"mean": []})["mean"]) > 5)
    running.kill_all()
    running.start()
    until(lambda: running.client().job(job["id"])["state"] == "succeeded")
    found = until(lambda: (got := series())["loss", ""]["step"][-1] == STEPS - 1 and got)
    loss = found["loss", ""]
    assert loss["step"] == list(range(STEPS)), "none is missing, none is there twice"
    assert loss["mean"] == [1 / (step + 1) for step in range(STEPS)]
    assert loss["at_us"] == sorted(loss["at_us"])
    assert found["f1", ""]["mean"] == [0.5]
    card = next(part for name, part in found if name == "gpu_busy_milli")
    assert card.startswith("acc_")
    assert {("cpu_milli", "0"), ("memory_mib", "0"), ("power_mw", card), ("gpu_memory_mib", card)} <= set(found)
    assert max(found["memory_mib", "0"]["high"]) > 0
    node = running.client().get("/v1/nodes")["items"][0]["id"]
    wanted = {"cpu_milli", "memory_mib", "disk_mib", "gpu_busy_milli"}
    until(lambda: wanted <= {one["name"] for one in running.client().get(f"/v1/nodes/{node}/metrics")["items"]})
