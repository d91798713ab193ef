"""Jobs over HTTP: submitted, found, explained, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, open_house, wait_for

from headframe.jobs.records import Job


@pytest.fixture(scope="module")
def owner(house: House) -> str:
    return house.member(house.organization("corn-mill")["id"], "owner")


def _state(house: House, job: dict, key: str) -> str:
    return str(house.ok("GET", f"/v1/jobs/{job['id']}", key)["state"])


def test_a_job_runs_and_its_story_is_told(house: House, owner: str):
    job = house.submit(owner, run="run 1ms; exit 3", spec={"name": "short"}, env={})
    assert job["id"].startswith("job_")
    wait_for(lambda: _state(house, job, owner) == "failed", "the job's end")
    story = house.ok("GET", f"/v1/jobs/{job['id']}/story", owner)
    assert story["job"]["exit_code"] == 3
    assert [attempt["exit_code"] for attempt in story["attempts"]] == [3]
    assert story["allocations"][0]["job_id"] == job["id"]
    assert {"job_submitted", "job_failed"} <= {event["kind"] for event in story["events"]}
    assert story["waiting"] is None
    assert story["cost"] is not None


def test_values_of_variables_cannot_be_read_back(house: House, owner: str):
    job = house.submit(owner, spec={"name": "token", "env": {"MODE": "offline", "TOKEN": None}}, env={"TOKEN": "t0k3n"})
    assert job["spec"]["env"] == {"MODE": None, "TOKEN": None}
    for path in ("", "/story"):
        told = house.call("GET", f"/v1/jobs/{job['id']}{path}", owner).text
        assert "TOKEN" in told
        assert "t0k3n" not in told
        assert "offline" not in told
    assert "t0k3n" not in house.call("GET", "/v1/jobs", owner).text
    assert set(house.store.get(Job, job["id"]).spec.env) == {"MODE", "TOKEN"}
    kept = b"".join(path.read_bytes() for path in house.outputs.data.glob("headframe.db*"))
    assert b"TOKEN" in kept
    assert b"t0k3n" not in kept, "the store holds it sealed"
    wait_for(lambda: _state(house, job, owner) == "running", "the start")
    launched = next(each for each in house.engine.live() if each.job_id == job["id"])
    assert (launched.env["TOKEN"], launched.env["MODE"]) == ("t0k3n", "offline")
    assert "t0k3n" not in repr(launched.work)
    house.ok("POST", f"/v1/jobs/{job['id']}/stop", owner, json={"grace": "1s"})


def test_a_job_that_waits_says_why(house: House, owner: str):
    first = house.submit(owner, spec={"resources": {"gpu": "H100:8"}})
    second = house.submit(owner, spec={"resources": {"gpu": "H100:8"}})
    wait_for(lambda: _state(house, first, owner) == "running", "the first")
    waiting = house.ok("GET", f"/v1/jobs/{second['id']}/story", owner)["waiting"]
    assert waiting["text"]
    assert house.ok("GET", "/v1/jobs", owner, params={"state": "queued"})["items"][0]["id"] == second["id"]
    both = house.ok("GET", "/v1/jobs", owner, params=[("state", "queued"), ("state", "running")])["items"]
    assert [job["id"] for job in both] == [second["id"], first["id"]]
    for job in (second, first):
        house.ok("POST", f"/v1/jobs/{job['id']}/stop", owner, json={"grace": "1s"})
    wait_for(lambda: _state(house, first, owner) == "stopped", "the stop")
    assert house.call("POST", f"/v1/jobs/{first['id']}/stop", owner, json={"grace": "soon"}).status_code == 422


def test_a_plan_stores_nothing(house: House, owner: str):
    before = house.ok("GET", "/v1/jobs", owner)["items"]
    body = {"spec": {"run": "x", "resources": {"gpu": "H100:1"}}}
    assert house.ok("POST", "/v1/plan", owner, json=body)["would"] == "start"
    body["spec"]["resources"]["gpu"] = "H100:9"
    assert house.ok("POST", "/v1/plan", owner, json=body)["would"] == "be_refused"
    assert house.call("POST", "/v1/jobs", owner, json=body).status_code == 422
    assert house.ok("GET", "/v1/jobs", owner)["items"] == before


def test_jobs_are_found_by_id_beginning_and_name(house: House, owner: str):
    old, new = (house.submit(owner, spec={"name": "same-name"}) for _ in range(2))
    assert house.ok("GET", f"/v1/jobs/{old['id']}", owner)["id"] == old["id"]
    assert house.ok("GET", "/v1/jobs/same-name", owner)["id"] == new["id"]
    named = house.ok("GET", "/v1/jobs", owner, params={"name": "same-name"})["items"]
    assert [job["id"] for job in named] == [new["id"], old["id"]]
    array = house.submit(owner, spec={"array": {"index": "0..2"}})
    children = house.ok("GET", "/v1/jobs", owner, params={"parent": array["id"]})["items"]
    assert [child["array_index"] for child in children] == [2, 1, 0]


def test_a_drained_node_takes_nothing_new(house: House, owner: str):
    assert house.ok("POST", "/v1/nodes/nod_1/drain", json={"reason": "new fan"})["state"] == "draining"
    job = house.submit(owner)
    assert house.ok("GET", f"/v1/jobs/{job['id']}/story", owner)["waiting"]
    assert house.ok("POST", "/v1/nodes/nod_1/resume", json={})["state"] == "ready"
    wait_for(lambda: _state(house, job, owner) == "running", "the job's start")
    assert house.ok("GET", "/v1/accelerators", owner, params={"node": "nod_1"})["items"][0]["fake"]


def test_labels_and_taints_say_who_may_use_a_node(house: House, owner: str):
    """A job that asks for what no node has is refused with what there is; one that bears the taint starts."""
    marked = house.ok("POST", "/v1/nodes/nod_1/marks", json={"labels": ["disk=nvme"], "taints": ["team=red", "slow"]})
    assert (marked["labels"]["disk"], marked["taints"]) == ("nvme", ["slow", "team=red"])
    refused = house.call("POST", "/v1/jobs", owner, json={"spec": {"run": "true"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "impossible_request")
    assert "taints that the job tolerates" in refused.text
    spec = {"node_labels": {"disk": "nvme"}, "node_names": ["nod_1"], "tolerations": ["team=red", "slow"]}
    job = house.submit(owner, spec=spec)
    wait_for(lambda: _state(house, job, owner) == "running", "the job's start")
    assert house.ok("GET", f"/v1/jobs/{job['id']}", owner)["spec"]["tolerations"] == ["team=red", "slow"]
    for wrong in (
        {"labels": ["disk"]},
        {"taints": ["-"]},
        {"taints": ["a b"]},
        {"labels": [f"k{n}=1" for n in range(101)]},
    ):
        assert house.call("POST", "/v1/nodes/nod_1/marks", json=wrong).status_code == 422
    assert (
        house.ok("POST", "/v1/nodes/nod_1/marks", json={"labels": ["disk-"], "taints": ["team-", "slow-"]})["taints"]
        == []
    )


def test_an_operator_chooses_how_a_cluster_is_filled(house: House):
    cluster = house.ok("GET", "/v1/clusters")["items"][0]
    path = f"/v1/clusters/{cluster['name']}/marks"
    assert house.ok("POST", path, json={"labels": ["packing=best-fit"]})["labels"]["packing"] == "best-fit"
    assert "fgd" in house.call("POST", path, json={"labels": ["packing=tetris"]}).json()["allowed"]
    assert house.ok("POST", path, json={"labels": ["packing-"]})["labels"] == cluster["labels"]
    assert house.call("POST", "/v1/clusters/nowhere/marks", json={"labels": ["a=b"]}).status_code == 404


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[House]:
    """A cloud in which nothing runs."""
    with open_house(tmp_path) as found:
        yield found


def test_nodes_and_accelerators_tell_who_holds_them(empty: House):
    mine, others = empty.organization("holders"), empty.organization("onlookers")
    owner, stranger = empty.member(mine["id"], "owner"), empty.member(others["id"], "owner")
    job = empty.submit(owner, spec={"name": "holds", "resources": {"gpu": "H100:2", "cpu": 4, "memory": "8GB"}})
    wait_for(lambda: empty.ok("GET", f"/v1/jobs/{job['id']}", owner)["state"] == "running")
    node = empty.ok("GET", "/v1/nodes", owner)["items"][0]
    assert node["held"] == {
        "cpu_milli": 4000, "memory_mib": 8192, "disk_mib": 0, "gpu_milli": 2000, "gpus": 8,
    }  # fmt: skip
    held = [each["holders"] for each in empty.ok("GET", "/v1/accelerators", owner)["items"] if each["holders"]]
    assert held == [[{"milli": 1000, "job_id": job["id"], "job_name": "holds"}]] * 2
    seen = [each["holders"] for each in empty.ok("GET", "/v1/accelerators", stranger)["items"] if each["holders"]]
    assert seen == [[{"milli": 1000, "job_id": None, "job_name": None}]] * 2
    empty.ok("POST", f"/v1/jobs/{job['id']}/stop", owner)
    wait_for(lambda: not empty.ok("GET", "/v1/nodes", owner)["items"][0]["held"]["gpu_milli"])


def test_a_queued_job_is_listed_with_the_reason_why_it_waits_now(empty: House):
    owner = empty.member(empty.organization("waiters")["id"], "owner")
    first = empty.submit(owner, spec={"resources": {"gpu": "H100:8"}})
    wait_for(lambda: empty.ok("GET", f"/v1/jobs/{first['id']}", owner)["state"] == "running")
    second = empty.submit(owner, spec={"resources": {"gpu": "H100:8"}})
    found = {job["id"]: job["reason"] for job in empty.ok("GET", "/v1/jobs", owner)["items"]}
    assert found[second["id"]] == "no_capacity"
    for job in (second, first):
        empty.ok("POST", f"/v1/jobs/{job['id']}/stop", owner)
