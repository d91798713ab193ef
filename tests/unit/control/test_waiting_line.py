"""The queue as people see it: who waits in which order, and what owners hold of what they may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud

from headframe.control.commands_access import put_quota
from headframe.control.queries import story
from headframe.control.queries_queue import WaitingLine, first_in_line, waiting_line
from headframe.jobs.records import JobState
from headframe.tenants.records import Scope
from headframe.tenants.roles import Caller


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=1, gpus=2)
    yield made
    made.close()


def line(cloud: SmallCloud, caller: Caller, organization: str | None = None) -> WaitingLine:
    found: WaitingLine = cloud.ask(waiting_line, caller, organization)
    return found


def test_those_who_wait_stand_in_the_order_of_their_turns(cloud: SmallCloud) -> None:
    running = cloud.submit("run 1h; exit 0", max_duration="2h", resources={"gpu": "H100:2"})
    cloud.until(cloud.is_(running, JobState.RUNNING))
    later = cloud.submit("run 1h; exit 0", name="later", resources={"gpu": "H100:2"})
    other = cloud.submit("run 1h; exit 0", caller=cloud.owner, name="other", resources={"gpu": "H100:1"})
    first = cloud.submit("run 1h; exit 0", name="first", priority=90, resources={"gpu": "H100:2"})
    cloud.settle()
    seen = line(cloud, cloud.owner)
    assert (seen.total, [one.place for one in seen.items]) == (3, [1, 2, 3])
    assert seen.items[0].job_id == first.id
    assert {one.job_id for one in seen.items[1:]} == {later.id, other.id}
    assert {one.reason for one in seen.items} == {"no_capacity"}
    assert (seen.items[0].organization, seen.items[0].project, seen.items[0].asks) == ("lab", "default", "H100:2")
    mine = line(cloud, cloud.anna)
    assert mine.total == 3
    assert [one.job_id for one in mine.items] == [one.job_id for one in seen.items if one.job_id != other.id]
    assert [one.job_id for one in line(cloud, cloud.owner, "lab").items] == [one.job_id for one in mine.items]
    shown, [told] = cloud.ask(first_in_line, cloud.anna, None, 1)
    assert shown == line(cloud, cloud.anna)
    assert told["starts_us"] > cloud.now_us
    assert "0 of 2 such GPUs are free" in told["text"]
    assert told == cloud.ask(story, cloud.anna, first.id)(cloud.inner)["waiting"], "as its own page tells it"
    assert cloud.ask(story, cloud.anna, running.id)(cloud.inner)["waiting"] is None


def test_owners_tell_what_they_hold_of_what_they_may(cloud: SmallCloud) -> None:
    cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=cloud.lab.id, gpu_milli=2000, weight=2000)
    cloud.run(put_quota, cloud.adam, scope=Scope.MEMBER, scope_id=cloud.anna.member_id, gpu_milli=1000)
    job = cloud.submit("run 1h; exit 0", resources={"gpu": "H100:1"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.submit("run 1h; exit 0", resources={"gpu": "H100:1"})
    cloud.settle()
    owners = {(one.scope, one.name): one for one in line(cloud, cloud.owner).owners}
    house = owners["organization", "lab"]
    assert (house.held["gpu_milli"], house.limits, house.weight_milli) == (1000, {"gpu_milli": 2000}, 2000)
    assert (house.running, house.waiting) == (1, 1)
    assert house.share_ppm is not None
    assert 240_000 < house.share_ppm < 260_000
    assert owners["member", "anna"].share_ppm is None
    assert owners["organization", "operator"].share_ppm == 0
    assert {one.name for one in line(cloud, cloud.anna).owners} == {"lab", "default", "anna"}
    assert line(cloud, cloud.anna).items[0].reason == "quota"
