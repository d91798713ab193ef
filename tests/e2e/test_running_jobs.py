"""What jobs may count on, on a real server: limits of time, stops, arrays, order, shares of a GPU, secrets, money."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Row, Running, check_books, end_of, kinds, log_text, told, until

from headframe.client import Client

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"cpu": 0.1, "memory": "64MB"}


@pytest.fixture(scope="module")
def client(running: Running) -> Client:
    return running.client()


@pytest.fixture(autouse=True)
def nothing_left(client: Client) -> Iterator[None]:
    """End what a test that failed has left running, so that the next one finds all free."""
    yield
    for job in client.jobs(limit=None, state=["pending", "queued", "starting", "running"]):
        client.stop(job["id"], "1s")
        end_of(client, job["id"])


def story_of(client: Client, run: str, **fields: Any) -> Row:
    """Submit, wait for the end, and give the story."""
    job = client.submit({"run": run, "resources": SMALL, **fields})
    end_of(client, job["id"])
    return client.story(job["id"])


def test_a_job_is_warned_before_its_time_is_up(client: Client) -> None:
    run = "trap 'echo warned' USR1; echo ready; while :; do sleep 0.05; done"
    story = story_of(client, run, name="long", max_duration="3s", warn_before_stop="2s")
    job = story["job"]
    assert (job["state"], job["reason"]) == ("failed", "max_duration")
    assert log_text(client, job["id"]) == "ready\nwarned\n"
    assert "Its max_duration of 3 s is reached." in told(client, job["id"])
    held = story["allocations"][0]
    assert held["released_us"] - held["running_us"] >= 3_000_000
    order = [kind for kind in kinds(client, job["id"]) if kind.startswith("job_")]
    assert order[-4:] == ["job_running", "job_warned", "job_stopping", "job_failed"]


def test_a_stopped_job_may_end_in_its_own_way_within_its_grace(client: Client) -> None:
    run = "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05 || :; done"
    polite = client.submit({"name": "polite", "run": run, "resources": SMALL})
    stubborn = client.submit({"name": "stubborn", "run": run.replace("exit 0", ":"), "resources": SMALL})
    for job in (polite, stubborn):
        until(lambda job=job: "ready" in log_text(client, job["id"]))
        client.stop(job["id"], "1s")
    ended = [end_of(client, job["id"]) for job in (polite, stubborn)]
    assert log_text(client, polite["id"]) == "ready\nsaving\n"
    assert ended[1]["state"] == "stopped"
    assert ended[1]["exit_code"] == 137


def test_an_array_runs_each_index_once_and_no_more_at_once_than_it_may(client: Client) -> None:
    run = 'echo "index $HEADFRAME_ARRAY_INDEX"; sleep 0.3'
    parent = client.submit({"name": "sweep", "run": run, "resources": SMALL, "array": {"index": "3..8", "parallel": 2}})
    assert end_of(client, parent["id"])["state"] == "succeeded"
    children = client.jobs(parent=parent["id"])
    assert sorted(log_text(client, child["id"]) for child in children) == [f"index {n}\n" for n in range(3, 9)]
    held = [client.story(child["id"])["allocations"][0] for child in children]
    moments = sorted([(one["held_us"], 1) for one in held] + [(one["released_us"], -1) for one in held])
    most = at_once = 0
    for _, change in moments:
        at_once += change
        most = max(most, at_once)
    assert most == 2


def test_a_job_after_others_waits_for_their_success(client: Client) -> None:
    gate = client.submit({"name": "gate", "run": 'while [ ! -e go ]; do sleep 0.02; done; exit "$(cat go)"'})
    next_one = client.submit({"name": "next", "run": "true", "resources": SMALL, "after": [gate["id"]]})
    assert client.job(next_one["id"])["state"] == "pending"
    assert "gate" in str(client.story(next_one["id"])["waiting"]) or gate["id"] in str(
        client.story(next_one["id"])["waiting"]
    )
    client.stop(gate["id"], "1s")
    ended = end_of(client, next_one["id"])
    assert ended["state"] in ("failed", "stopped")
    assert ended["attempt"] == 0
    assert gate["id"] in told(client, next_one["id"]) or "gate" in told(client, next_one["id"])
    story_of(client, "sleep 0.3", name="first")
    assert story_of(client, "true", name="second", after=["first"])["job"]["state"] == "succeeded"


def test_halves_share_a_gpu_and_what_does_not_fit_waits_with_a_reason(running: Running, client: Client) -> None:
    end_of(client, client.submit({"run": "true", "resources": SMALL})["id"])

    def hold(gpu: object) -> Row:
        run = 'echo "gpu $CUDA_VISIBLE_DEVICES"; while [ ! -e "$HEADFRAME_OUTPUTS/enough" ]; do sleep 0.02; done'
        return client.submit({"run": run, "resources": {**SMALL, "gpu": gpu}})

    whole, half, other_half = hold(1), hold(0.5), hold(0.5)
    for job in (whole, half, other_half):
        until(lambda job=job: "gpu" in log_text(client, job["id"]))
    devices = [log_text(client, job["id"]) for job in (whole, half, other_half)]
    assert devices[1] == devices[2] != devices[0]
    third = client.submit({"name": "third", "run": "true", "resources": {**SMALL, "gpu": 0.6}})
    waiting = client.story(third["id"])["waiting"]
    assert client.job(third["id"])["state"] == "queued"
    assert waiting["asked"].startswith("0.6 of any GPU")
    assert sorted(one["gpu_milli"] for one in waiting["holders"]) == [500, 500, 1000]
    for job in (whole, half, other_half):
        (running.outputs(job["id"]) / "enough").touch()
    assert end_of(client, third["id"])["state"] == "succeeded"
    assert client.story(third["id"])["waiting"] is None
    charges = {row["meter"]: row["quantity"] for row in client.charges(half["id"]) if row["kind"] == "usage"}
    held = client.story(half["id"])["allocations"][0]
    assert charges["gpu:H100"] == 500 * (held["released_us"] - held["running_us"])


def test_an_unreadable_checkpoint_is_passed_over_and_told(client: Client) -> None:
    run = """
    if [ "$HEADFRAME_ATTEMPT" = 1 ]; then
      echo '{"epoch": 1}' > ckpt/one.json
      sleep 0.05
      echo '{"epoch": 2' > ckpt/two.json
      exit 1
    fi
    echo "from $(basename "$HEADFRAME_RESUME_FROM"): $(cat "$HEADFRAME_RESUME_FROM")"
    """
    story = story_of(client, run, checkpoints={"path": "ckpt"}, retry={"on": ["error"], "max": 1})
    assert story["job"]["state"] == "succeeded"
    assert log_text(client, story["job"]["id"]) == 'from one.json: {"epoch": 1}\n'
    assert story["attempts"][1]["resumed_from"].endswith("/one.json")
    assert "Checkpoint two.json cannot be read" in told(client, story["job"]["id"])


def test_a_secret_reaches_its_job_and_nothing_else(running: Running, client: Client) -> None:
    value = "open-sesame-4711-do-not-write-me-down"
    client.set_secret("api-token", value)
    run = 'printf %s "$API_TOKEN" | sha256sum; while [ ! -e "$HEADFRAME_OUTPUTS/enough" ]; do sleep 0.02; done'
    job = client.submit({"name": "secretive", "run": run, "resources": SMALL, "secrets": ["api-token"]})
    until(lambda: log_text(client, job["id"]))
    lines = [place.read_bytes() for place in Path("/proc").glob("[0-9]*/cmdline") if place.exists()]
    (running.outputs(job["id"]) / "enough").touch()
    end_of(client, job["id"])
    assert log_text(client, job["id"]).split()[0] == hashlib.sha256(value.encode()).hexdigest()
    assert not any(value.encode() in line for line in lines)
    assert value not in str([client.story(job["id"]), client.secrets(), client.events()])
    places = [place for root in (running.data, running.root) for place in root.rglob("*") if place.is_file()]
    assert len(places) > 10
    assert [place for place in places if value.encode() in place.read_bytes()] == []


def test_used_up_credit_stops_a_job_within_what_was_paid(running: Running, client: Client) -> None:
    client.set_price(meter="gpu:H100", amount="3600 USD", minimum="0s")
    house = client.create_organization(name="acme", owner="ada", prepaid=True)
    client.add_credit(house["id"], "13 USD")
    owner = client.members(organization=house["id"])[0]
    ada = running.client(client.create_key(name="ada", member=owner["id"])["key"])
    job = ada.submit({"name": "dear", "run": "sleep 60", "resources": {**SMALL, "gpu": "H100:1"}})
    ended = end_of(ada, job["id"])
    assert (ended["state"], ended["stop_reason"]) == ("stopped", "credit_exhausted")
    balance = until(lambda: _settled(ada, job["id"]) and ada.balance())
    assert balance["owed_nano"] == 0
    assert 0 < balance["credit_nano"] < 13_000_000_000
    assert "credit" in told(ada, job["id"])
    waits = ada.submit({"name": "too-dear", "run": "true", "resources": {**SMALL, "gpu": "H100:2"}})
    assert waits["state"] in ("queued", "pending")
    ada.stop(waits["id"])


def _settled(client: Client, job_id: str) -> bool:
    return all(held["settled"] for held in client.story(job_id)["allocations"])


@pytest.mark.parametrize("path", ["hello", "counter", "gang", "array", "gpu-share"])
def test_an_example_runs(client: Client, path: str) -> None:
    env = {"LINES": "5"} if path == "counter" else {}
    job = client.submit(EXAMPLES / path / "job.yaml", env=env)
    assert end_of(client, job["id"])["state"] == "succeeded", log_text(client, job["id"], "stderr")
    if path == "gang":
        pieces = list(client.logs(job["id"]))
        said = ["".join(piece["text"] for piece in pieces if piece["rank"] == rank) for rank in range(4)]
        assert said == [f"rank {rank} of 4: the sum of 1 to 4 is 10\n" for rank in range(4)]


def test_the_other_examples_are_in_order(client: Client) -> None:
    assert client.plan(EXAMPLES / "digits" / "job.yaml")["would"] == "start"
    nightly = client.submit(EXAMPLES / "nightly" / "job.yaml")
    assert client.stop(nightly["id"])["state"] in ("stopped", "stopping")
    first = client.submit(EXAMPLES / "pipeline" / "prepare.yaml")
    second = client.submit(EXAMPLES / "pipeline" / "train.yaml")
    assert end_of(client, second["id"])["state"] == "succeeded"
    assert client.job(first["id"])["state"] == "succeeded"


def test_at_the_end_the_books_are_right(running: Running) -> None:
    check_books(running)
