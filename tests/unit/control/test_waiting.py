"""What people are told of waiting: what lacks, who holds it, when it starts, what would help; and that it is so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US, format_moment
from headframe.control.commands_access import put_quota
from headframe.control.commands_reservations import create_reservation
from headframe.control.queries import plan
from headframe.jobs.records import Job, JobState
from headframe.sim.clock import SeededRng
from headframe.tenants.records import Scope

BOTH = {"gpu": "H100:2", "cpu": 1, "memory": "1GB"}


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=2)
    yield made
    assert not made.complaints
    made.close()


def told(cloud: SmallCloud, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = cloud.story(job)["waiting"]
    return found


def planned(cloud: SmallCloud, run: str = "run 1m", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = cloud.ask(plan, cloud.anna, cloud.document(run, **more), project="default", env={})
    return found


def starts(cloud: SmallCloud, changes: list[dict[str, Any]], run: str, **asked: Any) -> None:
    """Each change that was told makes a job start at once."""
    for hint in changes:
        document = {**asked, **{name: value for name, value in hint["change"].items() if name != "gpu"}}
        if "gpu" in hint["change"]:
            document["resources"] = {**document.get("resources", {}), "gpu": hint["change"]["gpu"]}
        job = cloud.submit(run, **document)
        assert cloud.job(job).state == JobState.STARTING, hint
        cloud.stop(job, grace_us=0)
        cloud.go(2 * SECOND_US)


def test_a_gang_is_told_when_it_starts_and_then_does(cloud: SmallCloud) -> None:
    cloud.submit("run 20m; exit 0", max_duration="20m", resources=BOTH)
    gang = cloud.submit("run 10m; exit 0", nodes=2, max_duration="20m", resources=BOTH)
    answer = told(cloud, gang)
    assert (answer["reason"], answer["starts_from"]) == ("no_capacity", "estimates")
    assert "It is expected to start at" in answer["text"]
    assert {"change": {"nodes": 1}, "text": "with 1 node"} in answer["would_start_now"]
    cloud.until(cloud.is_(gang, JobState.STARTING))
    late_us = answer["starts_us"] - cloud.attempts(gang)[0].started_us
    assert -SECOND_US < late_us < MINUTE_US, "not later than told, and not much earlier"


def test_a_long_job_is_told_for_whom_what_is_free_is_kept_and_how_long_it_may_be(cloud: SmallCloud) -> None:
    cloud.submit("run 20m; exit 0", max_duration="20m", resources=BOTH)
    cloud.submit("run 10m; exit 0", nodes=2, max_duration="20m", resources=BOTH)
    long = cloud.submit("run 3h; exit 0", max_duration="4h")
    answer = told(cloud, long)
    assert (answer["kept_for"], answer["ahead"]) == ("ahead", 1)
    (shorter,) = [one for one in answer["would_start_now"] if "max_duration" in one["change"]]
    assert shorter["change"] == {"max_duration": "19m"}
    starts(cloud, answer["would_start_now"], "run 3h; exit 0", max_duration="4h")


def test_a_job_is_told_of_reservations_by_name_inside_its_house_only(cloud: SmallCloud) -> None:
    cloud.run(
        create_reservation, cloud.owner, name="spring", nodes=2, organization="lab", lasts="1h",
        starts=format_moment(cloud.now_us + 30 * MINUTE_US),
    )  # fmt: skip
    waits = cloud.submit("run 3h; exit 0")
    answer = told(cloud, waits)
    assert (answer["kept_for"], "for spring from" in answer["text"]) == ("reservation", True)
    changes = {name for one in answer["would_start_now"] for name in one["change"]}
    assert {"max_duration", "purchase"} <= changes
    starts(cloud, answer["would_start_now"], "run 3h; exit 0")
    theirs = cloud.submit("run 3h; exit 0", caller=cloud.owner)
    other = cloud.story(theirs, cloud.owner)["waiting"]
    assert "spring" not in other["text"]
    assert "another organization" in other["text"]
    assert (answer["starts_from"], "reserved" in answer["text"]) == ("kept", True)
    inside = cloud.submit("run 10m; exit 0", reservation="spring")
    answer = told(cloud, inside)
    assert (answer["reason"], answer["starts_from"]) == ("reservation_not_begun", "reservation")
    cloud.until(cloud.is_(inside, JobState.STARTING))
    assert 0 <= cloud.attempts(inside)[0].started_us - answer["starts_us"] < SECOND_US


def test_a_quota_that_binds_tells_when_it_is_expected_not_to(cloud: SmallCloud) -> None:
    cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=cloud.lab.id, gpu_milli=2000)
    cloud.submit("run 20m; exit 0", max_duration="30m", resources=BOTH)
    waits = cloud.submit("run 5m; exit 0")
    answer = told(cloud, waits)
    assert (answer["reason"], answer["starts_from"], answer["quota"]["limit"]) == ("quota", "quota", 2000)
    assert 30 * MINUTE_US <= answer["starts_us"] - cloud.now_us < 31 * MINUTE_US


def test_far_back_in_line_the_whole_queue_counts(cloud: SmallCloud) -> None:
    for _ in range(4):
        cloud.submit("run 10m; exit 0", max_duration="10m")
    queue = [cloud.submit("run 10m; exit 0", max_duration="10m", priority=number) for number in range(90, 30, -1)]
    answer = told(cloud, queue[-1])
    assert (answer["starts_from"], answer["ahead"]) == ("queue", 59)
    expected_us = answer["starts_us"] - cloud.now_us
    assert 14 * 10 * MINUTE_US < expected_us < 17 * 10 * MINUTE_US, "four at a time, sixty jobs, ten minutes each"
    cloud.until(cloud.is_(queue[-1], JobState.STARTING), 4 * HOUR_US)
    assert abs(cloud.attempts(queue[-1])[0].started_us - answer["starts_us"]) < 20 * MINUTE_US


def test_as_many_gpus_as_are_free_would_start_now() -> None:
    cloud = SmallCloud(nodes=1, gpus=8)
    cloud.submit("run 1h; exit 0", resources={"gpu": "H100:3", "cpu": 1, "memory": "1GB"})
    answer = planned(cloud, resources={"gpu": "H100:6", "cpu": 1, "memory": "1GB"})
    assert answer["waiting"]["would_start_now"] == [{"change": {"gpu": "H100:5"}, "text": "with 5 x H100"}]
    starts(cloud, answer["waiting"]["would_start_now"], "run 1m; exit 0")
    cloud.close()


def test_whoever_can_make_others_go_is_told_so(cloud: SmallCloud) -> None:
    for _ in range(4):
        cloud.submit("run 3h; exit 0", purchase="spot")
    answer = planned(cloud, resources=BOTH)
    assert (answer["would"], answer["waiting"]["makes_way"]) == ("wait", 2)
    assert "on-demand comes before spot" in answer["text"]
    job = cloud.submit("run 10m; exit 0", resources=BOTH)
    cloud.until(cloud.is_(job, JobState.STARTING), MINUTE_US)
    assert cloud.attempts(job)[0].started_us <= answer["starts_us"]


@pytest.mark.parametrize("seed", range(6))
def test_what_a_plan_says_is_what_a_submit_does(seed: int) -> None:
    """On a cloud that fills up by chance: would start means starts, there; and every change that is told helps."""
    rng, cloud = SeededRng(seed, "plans"), SmallCloud(nodes=3, gpus=2)
    for number in range(30):
        asked: dict[str, Any] = {
            "resources": {"gpu": rng.pick(("H100:1", "H100:2", 0.5, None)), "cpu": rng.pick((1, 3)), "memory": "1GB"},
            "nodes": rng.pick((1, 1, 1, 2, 3)), "purchase": rng.pick(("on-demand", "on-demand", "spot")),
            "max_duration": rng.pick((None, "10m", "40m")), "priority": rng.pick((30, 50)),
        }  # fmt: skip
        if number == 0:
            cloud.run(
                create_reservation, cloud.owner, name="soon", nodes=1, organization="lab", lasts="20m",
                starts=format_moment(cloud.now_us + 40 * MINUTE_US),
            )  # fmt: skip
        run = f"run {rng.between(1, 40)}m; exit 0"
        answer = planned(cloud, run, **asked)
        if answer["would"] == "wait" and rng.chance(400):
            starts(cloud, answer["waiting"].get("would_start_now", []), run, **asked)
            answer = planned(cloud, run, **asked)
        job = cloud.submit(run, **asked)
        assert (answer["would"] == "start") is (cloud.job(job).state == JobState.STARTING), (asked, answer)
        if answer["would"] == "start":
            assert list(cloud.allocations(job)[0].slices) == answer["slices"]
        cloud.go(rng.between(0, 4) * MINUTE_US)
    assert not cloud.complaints
    cloud.close()
